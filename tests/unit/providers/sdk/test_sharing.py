"""Things that several need: opened for the first, closed after the last."""

import pytest

from lattice import errors
from providers.sdk.sharing import Shared


class Doors:
    """Opens what is wanted, and remembers what is open."""

    def __init__(self) -> None:
        self.open_now: list[str] = []
        self.shared = Shared(self.open, self.close)

    async def open(self, where: str) -> str:
        if where == "nowhere":
            raise errors.Unavailable("nothing is there")
        self.open_now.append(where)
        return f"door to {where}"

    async def close(self, thing: str) -> None:
        self.open_now.remove(thing.removeprefix("door to "))


async def test_all_who_want_the_same_get_the_same_and_the_last_closes_it() -> None:
    doors = Doors()
    one, two = await doors.shared.take("cellar"), await doors.shared.take("cellar")
    other = await doors.shared.take("attic")
    assert one is two
    assert doors.open_now == ["cellar", "attic"]

    await doors.shared.release(one)
    async with doors.shared.using(two) as thing:
        assert thing == "door to cellar"
        await doors.shared.release(two)
        assert doors.open_now == ["cellar", "attic"]
    assert doors.open_now == ["attic"]
    assert doors.shared.shares == [other]


async def test_what_can_not_be_opened_is_not_kept() -> None:
    doors = Doors()
    with pytest.raises(errors.Unavailable):
        await doors.shared.take("nowhere")
    assert doors.shared.shares == []


async def test_the_end_closes_what_is_in_use_and_only_once() -> None:
    doors = Doors()
    share = await doors.shared.take("cellar")
    release = doors.shared.hold(share)
    await doors.shared.aclose()
    assert doors.open_now == []
    await release()
    await doors.shared.release(share)
    assert doors.open_now == []
