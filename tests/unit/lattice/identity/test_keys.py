import os

import nkeys
import pytest

from lattice import errors
from lattice.identity import keys


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
