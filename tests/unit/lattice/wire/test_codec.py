import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lattice import errors
from lattice.wire import codec
from tests.support.plain_values import PLAIN


@given(PLAIN)
def test_plain_values_are_decoded_as_they_were_encoded(value: object) -> None:
    assert codec.unpack(codec.pack(value)) == value


@given(st.binary())
def test_no_bytes_do_worse_than_being_refused(data: bytes) -> None:
    for unpack in (codec.unpack, codec.unpack_payload):
        try:
            unpack(data)
        except errors.InvalidRequest:
            continue


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\x91" * 100_000,
        b"\x81\xa1a" * 100_000,
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff",
        (b"\xdd\x00\x0f\x42\x40" * 600).ljust(1_000_000, b"\xc0"),
        b"\xa1\xff",
        b"\x81\x90\x01",
        b"\xc0\xc0",
        b"\xc7\x0c\xff" + b"\xff" * 12,
    ],
    ids=[
        "empty",
        "unused byte",
        "deep lists",
        "deep maps",
        "huge list",
        "huge map",
        "huge bytes",
        "huge text",
        "lists within lists",
        "not UTF-8",
        "list as a key",
        "trailing bytes",
        "impossible time",
    ],
)
def test_hostile_bytes_are_refused_without_their_memory(data: bytes) -> None:
    with pytest.raises(errors.InvalidRequest, match="not a msgpack message"):
        codec.unpack(data)


def test_size_is_looked_at_first() -> None:
    with pytest.raises(errors.PayloadTooLarge) as caught:
        codec.unpack(b"\xc0" * 11, bytes_max=10)

    assert caught.value.detail == {"size": 11, "limit": 10}


def test_the_newer_sdks_prefix_is_accepted_on_payloads_only() -> None:
    assert codec.unpack_payload(b"\xc1\x05") == codec.unpack_payload(b"\x05") == 5
    with pytest.raises(errors.InvalidRequest):
        codec.unpack(b"\xc1\x05")
    for nothing in (b"", b"\xc1", b"\xc1\xc1\x05"):
        with pytest.raises(errors.InvalidRequest):
            codec.unpack_payload(nothing)


def test_a_failed_encoding_leaves_nothing_for_the_next() -> None:
    for bad in ([b"x" * 100, object()], {"a": 2**64}, ["\ud800"]):
        with pytest.raises((TypeError, ValueError, OverflowError)):
            codec.pack(bad)

        assert codec.pack(5) == b"\x05"


def test_bytes_and_text_stay_apart() -> None:
    assert codec.pack(b"a") == msgpack.packb(b"a", use_bin_type=True) == b"\xc4\x01a"
    assert codec.pack("a") == b"\xa1a"


def test_a_structure_may_be_a_list_of_its_fields() -> None:
    for written in ({"min": 1, "max": 2}, [1, 2], [1, 2, "of a later version"]):
        assert codec.named(written, ("min", "max")) == {"min": 1, "max": 2}
    assert codec.named([1], ("min", "max")) == {"min": 1}
    for other in (None, 7, "12", b"12"):
        assert codec.named(other, ("min", "max")) == other


def test_bytes_are_taken_in_every_way_that_guests_write_them() -> None:
    for value in (b"hi", "hi", [104, 105]):
        assert codec.as_bytes(value) == b"hi"
    for wrong in (None, 7, 1.5, {"a": 1}, [256], [-1], ["a"], True):
        assert codec.as_bytes(wrong) is None
