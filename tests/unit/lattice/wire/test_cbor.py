"""The CBOR of wasmCloud's SDKs for 0.x: what is taken, and what is not."""

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lattice import errors
from lattice.wire import cbor
from tests.support.plain_values import PLAIN


@given(PLAIN)
def test_plain_values_are_decoded_as_they_were_encoded(value: object) -> None:
    assert cbor.unpack(cbor.pack(value)) == value


@given(st.binary())
def test_no_bytes_do_worse_than_being_refused(data: bytes) -> None:
    try:
        cbor.unpack(cbor.PREFIX + data)
    except errors.InvalidRequest:
        return


def test_a_prefix_tells_it_from_msgpack() -> None:
    assert cbor.pack(["box", "a"]) == b"\x7f\x82\x63box\x61a"
    assert cbor.is_cbor(b"\x7f\x63box")
    assert not cbor.is_cbor(b"\xa3box")
    assert not cbor.is_cbor(b"")


def test_a_time_is_two_items_in_the_place_of_one() -> None:
    value = {"at": cbor.Timestamp(sec=7, nsec=9), "last": True}
    assert cbor.pack(value) == b"\x7f\xa2\x62at\x07\x09\x64last\xf5"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"\x81" * 17 + b"\x00",
        b"\x81" * 1_000_000,
        b"\xa1\x61a" * 100_000,
        b"\x9b" + b"\xff" * 8,
        b"\xbb" + b"\xff" * 8,
        b"\x5b" + b"\xff" * 8,
        b"\x7b" + b"\xff" * 8,
        b"\x9f\x01\xff",
        b"\x5f\x41a\xff",
        b"\x61\xff",
        b"\xa1\x80\x01",
        b"\xa1\x01\x01",
        cbor2.dumps(2**64),
        b"\xd8\x23\x63a+b",
        b"\xd8\x1c\x81\xd8\x1d\x00",
        b"\xd9\x12\x34\x01",
        b"\xd9\xd9\xf7\x01",
    ],
    ids=[
        "empty",
        "a lone end",
        "17 lists",
        "deep lists",
        "deep maps",
        "huge list",
        "huge map",
        "huge bytes",
        "huge text",
        "indefinite list",
        "indefinite bytes",
        "text that is not UTF-8",
        "a list for a key",
        "a number for a key",
        "a number of more bits than 64",
        "a pattern",
        "a list within itself",
        "a tag of nobody's",
        "the tag of CBOR itself",
    ],
)
def test_what_these_sdks_do_not_write_is_refused(data: bytes) -> None:
    with pytest.raises(errors.InvalidRequest, match="not a CBOR message"):
        cbor.unpack(cbor.PREFIX + data)


def test_a_message_over_the_limit_is_refused() -> None:
    with pytest.raises(errors.PayloadTooLarge, match="8 bytes"):
        cbor.unpack(cbor.pack("123456"), bytes_max=7)
