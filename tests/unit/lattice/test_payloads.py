"""What is done with a payload that nobody will read, where its store says no."""

from typing import cast

import pytest

from lattice import errors
from lattice.bus import Bus, ObjectStore
from lattice.payloads import Payloads
from lattice.wire.invocation import PayloadRef


class Refusing:
    """A store that removes nothing."""

    def __init__(self, refusal: errors.LatticeError) -> None:
        self.refusal = refusal
        self.asked: list[str] = []

    async def delete(self, name: str) -> None:
        self.asked.append(name)
        raise self.refusal


@pytest.mark.parametrize("refusal", [errors.Unavailable("away"), errors.Denied("not permitted")])
async def test_a_payload_that_can_not_be_removed_is_left_to_expire(
    refusal: errors.LatticeError,
) -> None:
    payloads = Payloads(cast(Bus, None), "default")
    store = Refusing(refusal)
    payloads._store = cast(ObjectStore, store)
    await payloads.discard(PayloadRef(name="a", size=1, digest=""))
    assert store.asked == ["a"]
