import os

import nkeys
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lattice import errors
from lattice.identity import keys
from lattice.identity.keys import Kind
from tests.unit.lattice.identity import golden

KINDS = sorted(Kind)
SIGNERS = [kind for kind in KINDS if kind is not Kind.CURVE]

KNOWN = {golden.SEEDS[public_key]: public_key for public_key in golden.SEEDS}


def test_a_host_seed_has_a_host_id() -> None:
    seed = keys.new_host_seed()

    host = keys.host_id(seed)

    assert (seed[:2], len(seed)) == ("SN", 58)
    assert (host[0], len(host)) == ("N", 56)
    assert keys.host_id(seed) == host
    assert keys.host_id(keys.new_host_seed()) != host


@pytest.mark.parametrize(
    "seed",
    ["", "SN", "geheim", "SN" + "A" * 56, "ü" * 58, keys.new_host_seed()[:-1], " " * 58],
    ids=["empty", "short", "word", "checksum", "not ASCII", "cut", "blank"],
)
def test_what_is_no_seed_is_refused_without_repeating_it(seed: str) -> None:
    with pytest.raises(errors.InvalidRequest) as caught:
        keys.host_id(seed)

    assert not seed.strip() or seed not in caught.value.text


@pytest.mark.parametrize("kind", [nkeys.PREFIX_BYTE_USER, nkeys.PREFIX_BYTE_ACCOUNT])
def test_a_seed_of_another_kind_is_refused_without_repeating_it(kind: int) -> None:
    seed = str(nkeys.encode_seed(os.urandom(32), kind), "ascii")

    with pytest.raises(errors.InvalidRequest, match="want N") as caught:
        keys.host_id(seed)

    assert seed not in caught.value.text


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_seed_is_of_the_kind_that_was_asked_for(kind: Kind) -> None:
    pair = keys.parse_seed(keys.new_seed(kind))

    assert pair.seed.startswith(f"S{kind}")
    assert pair.kind is kind
    public = keys.parse_public(pair.public_key)
    assert (public.kind, public.text[0], len(public.raw)) == (kind, kind, 32)


@pytest.mark.parametrize("seed", KNOWN, ids=lambda seed: seed[:2])
def test_a_seed_has_the_public_key_that_wasmcloud_says(seed: str) -> None:
    assert keys.parse_seed(seed).public_key == KNOWN[seed]


@pytest.mark.parametrize("kind", [Kind.USER, Kind.ACCOUNT, Kind.HOST, Kind.OPERATOR, Kind.CLUSTER])
def test_nats_own_library_agrees(kind: Kind) -> None:
    pair = keys.parse_seed(keys.new_seed(kind))

    theirs = nkeys.from_seed(bytearray(pair.seed.encode()))

    assert theirs.public_key.decode() == pair.public_key
    assert theirs.sign(b"content") == pair.sign(b"content")


@pytest.mark.parametrize("kind", SIGNERS)
def test_a_signature_is_of_one_content_and_one_key(kind: Kind) -> None:
    pair = keys.parse_seed(keys.new_seed(kind))
    other = keys.parse_public(keys.parse_seed(keys.new_seed(kind)).public_key)
    public = keys.parse_public(pair.public_key)

    signature = pair.sign(b"content")

    assert public.verify(b"content", signature)
    assert not public.verify(b"other content", signature)
    assert not public.verify(b"content", signature[:-1])
    assert not public.verify(b"content", b"")
    assert not other.verify(b"content", signature)


def test_a_curve_key_signs_nothing() -> None:
    pair = keys.parse_seed(keys.new_seed(Kind.CURVE))

    with pytest.raises(errors.InvalidRequest, match="can't sign"):
        pair.sign(b"content")
    assert not keys.parse_public(pair.public_key).verify(b"content", bytes(64))


def test_a_key_shown_in_a_log_is_not_its_secret() -> None:
    pair = keys.parse_seed(keys.new_seed(Kind.ACCOUNT))

    assert pair.public_key in repr(pair)
    assert pair.seed not in repr(pair)


def test_a_seed_in_the_place_of_a_public_key_is_not_repeated() -> None:
    seed = keys.new_seed(Kind.ACCOUNT)

    with pytest.raises(errors.InvalidRequest) as caught:
        keys.parse_public(seed)

    assert seed[2:20] not in caught.value.text


@given(position=st.integers(0, 55), character=st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"))
def test_a_public_key_with_one_wrong_character_is_refused(position: int, character: str) -> None:
    good = "ADT7IQK2432IBF7LVHXQAZLAQAHZQ5LD5WONSUPOS34TJEGMNJTBVPVH"
    text = good[:position] + character + good[position + 1 :]

    if text == good:
        assert keys.parse_public(text).text == good
    else:
        with pytest.raises(errors.InvalidRequest):
            keys.parse_public(text)


@given(st.text(max_size=60))
def test_no_text_makes_the_parsers_stumble(text: str) -> None:
    with pytest.raises(errors.InvalidRequest):
        keys.parse_public(text)
    with pytest.raises(errors.InvalidRequest):
        keys.parse_seed(text)


def test_a_kind_has_wasmclouds_words_and_natss() -> None:
    assert keys.KINDS["module"] is keys.KINDS["component"] is Kind.COMPONENT
    assert keys.KINDS["service"] is keys.KINDS["provider"] is Kind.PROVIDER
    assert keys.KINDS["server"] is keys.KINDS["host"] is Kind.HOST
    assert keys.KINDS["x25519"] is keys.KINDS["curve"] is Kind.CURVE
