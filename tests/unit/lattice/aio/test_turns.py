"""Floods of work: what is done at once, what waits, who is next, and what is too much."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from lattice.aio import turns
from lattice.aio.tasks import TaskGroup
from lattice.aio.turns import Line, Turns, pace_after

SLICE_S = 0.001


class Work:
    """Lines whose items take a slice each on a clock that nothing else moves."""

    def __init__(self) -> None:
        self.tasks = TaskGroup("test")
        self.turns = Turns(self.tasks, slice_s=SLICE_S)
        self.done: list[str] = []
        self.now = 0.0
        self.clock_s = 1.0
        self.ages: list[float] = []
        self.patience_s: float | None = None
        """How long items may take."""

    def line(self, **bounds: float) -> Line[str]:
        return Line(self.turns, self._do, now=lambda: self.now, **bounds)  # type: ignore[arg-type]

    async def take(self, line: Line[str], item: str, size: int = 1) -> bool:
        """What a callback does with what comes in."""
        if self.turns.is_free:
            await self._do(item, self.now)
            self.turns.note_done()
            return True
        return line.offer(item, size)

    async def _do(self, item: str, arrived: float) -> float | None:
        self.ages.append(self.now - arrived)
        self.clock_s += SLICE_S
        self.done.append(item)
        if item.startswith("fails"):
            raise RuntimeError(item)
        if item.startswith("cancels"):
            raise asyncio.CancelledError
        return self.patience_s


@pytest.fixture
async def work(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Work]:
    work = Work()
    monkeypatch.setattr(turns, "perf_counter", lambda: work.clock_s)
    yield work
    await work.tasks.aclose()


async def test_an_idle_process_does_what_comes_at_once(work: Work) -> None:
    line = work.line()
    await work.take(line, "first", 1)
    assert (work.done, len(line), len(work.tasks)) == (["first"], 0, 0)


async def test_what_is_beyond_a_slice_is_left_to_later_passes(work: Work) -> None:
    line = work.line()
    for number in range(5):
        await work.take(line, f"{number}", 1)
    assert work.done == ["0"]
    passes = 0
    while len(work.done) < 5:
        await asyncio.sleep(0)
        passes += 1
    assert work.done == ["0", "1", "2", "3", "4"]
    assert passes >= 4, "others were let in between"


async def test_lines_take_turns(work: Work) -> None:
    flooded, quiet = work.line(), work.line()
    for number in range(4):
        await work.take(flooded, f"flooded {number}", 1)
    await work.take(quiet, "quiet", 1)
    await flooded.wait_empty()
    assert work.done == ["flooded 0", "flooded 1", "quiet", "flooded 2", "flooded 3"]


async def test_the_time_in_line_is_told(work: Work) -> None:
    line = work.line()
    await work.take(line, "first", 1)
    await work.take(line, "second", 1)
    work.now = 7.0
    await line.wait_empty()
    assert work.ages == [0.0, 7.0]


@pytest.mark.parametrize(
    ("bounds", "told"),
    [
        ({"items_max": 2}, "2 of 2 wait"),
        ({"bytes_max": 25}, "20 of 25 bytes"),
    ],
    ids=["by number", "by size"],
)
async def test_a_full_line_takes_no_more(work: Work, bounds: dict[str, float], told: str) -> None:
    line = work.line(**bounds)
    await work.take(line, "at once", 10)
    assert await work.take(line, "waits", 10)
    assert await work.take(line, "waits too", 10)
    assert not await work.take(line, "too much", 10)
    assert told in line.describe()
    await line.wait_empty()
    assert work.done == ["at once", "waits", "waits too"]


async def test_a_line_whose_oldest_item_waits_for_half_of_its_time_takes_no_more(
    work: Work,
) -> None:
    line = work.line()
    work.patience_s = 1.0
    for item in ("at once", "tells how patient items are"):
        await work.take(line, item)
    await line.wait_empty()
    await work.take(line, "at once")
    await work.take(line, "waits")
    work.now = 0.49
    assert await work.take(line, "waits too")
    work.now = 0.5
    assert not await work.take(line, "too late")
    assert "the oldest for 0.500, the next one would for 0.000 of 0.500 s" in line.describe()
    await line.wait_empty()


async def test_in_a_flood_nothing_waits_for_longer_than_half_of_its_time(work: Work) -> None:
    line = work.line()
    work.patience_s = 1.0
    taken = offered = 0
    while work.now < 5.0:
        # Ten times what it can do: one item takes a slice, and one is done in a pass.
        for _ in range(10):
            offered += 1
            taken += await work.take(line, f"{offered}", 1)
        await asyncio.sleep(0)
        work.now = work.clock_s - 1.0
    await line.wait_empty()
    assert len(work.done) == taken
    assert taken * SLICE_S == pytest.approx(5.5, rel=0.1), "it was busy all the time"
    # The pace is an average, and follows the first items slowly.
    assert max(work.ages) < 0.5 * 1.25


async def test_a_line_that_got_slow_takes_less_until_it_is_fast_again(work: Work) -> None:
    line = work.line()
    work.patience_s = 2.0

    async def fill() -> int:
        """How many items of a flood it takes."""
        while work.turns.is_free:
            await work.take(line, "at once", 1)
        taken = 0
        while await work.take(line, "waits", 1):
            taken += 1
        return taken

    async def wear(item_s: float) -> None:
        for _ in range(300):
            await work.take(line, "first", 1)
            await work.take(line, "second", 1)
            work.clock_s += item_s
            await line.wait_empty()

    await wear(0.1)
    slow = await fill()
    await line.wait_empty()
    await wear(0.0)
    assert 5 <= slow <= 20
    assert await fill() > 10 * slow
    await line.wait_empty()


async def test_a_line_takes_as_much_after_its_process_was_stopped(work: Work) -> None:
    line = work.line()
    work.patience_s = 1.0

    async def fill() -> int:
        """How many items of a flood it takes."""
        taken = 0
        while await work.take(line, "waits"):
            taken += 1
        return taken

    for _ in range(300):
        await work.take(line, "first")
        await work.take(line, "second")
        await line.wait_empty()
    before = await fill()
    await line.wait_empty()
    await work.take(line, "waits")
    await work.take(line, "waits")
    # The clock of arrivals, which ages go by, stands still meanwhile.
    work.clock_s += 60.0
    await line.do_next()
    assert await fill() > before / 2
    await line.wait_empty()


@pytest.mark.parametrize("pace_s", [0.0, 0.00005, 0.001, 0.2])
def test_one_item_moves_the_pace_by_no_more_than_a_few_would(pace_s: float) -> None:
    stalled_s = pace_after(pace_s, 3600.0)
    assert pace_s < stalled_s <= 1.25 * max(pace_s, turns.PACE_S_MIN)


@pytest.mark.parametrize("item_s", [0.00002, 0.001, 0.1, 2.0])
@pytest.mark.parametrize("pace_s", [0.0, 0.0001, 0.05])
def test_the_pace_follows_what_items_take(pace_s: float, item_s: float) -> None:
    for _ in range(10 * turns.PACE_ITEMS):
        pace_s = pace_after(pace_s, item_s)
    assert pace_s == pytest.approx(item_s, rel=0.15)


@pytest.mark.parametrize("item", ["fails", "cancels"])
async def test_an_item_that_goes_wrong_holds_up_nothing(work: Work, item: str) -> None:
    line = work.line()
    for each in ("first", item, "last"):
        await work.take(line, each, 1)
    await line.wait_empty()
    assert work.done == ["first", item, "last"]


async def test_nothing_is_left_when_the_lines_are_empty(work: Work) -> None:
    line = work.line()
    for number in range(3):
        await work.take(line, f"{number}", 1)
    await line.wait_empty()
    await asyncio.sleep(0)
    assert len(work.tasks) == 0
    await work.take(line, "again", 1)
    assert work.done[-1] == "again"


async def test_what_comes_while_the_last_item_is_done_is_done_once(work: Work) -> None:
    first, second = work.line(), work.line()
    for number in range(200):
        await work.take(first if number % 3 else second, f"{number}", 1)
        if number % 5 == 0:
            await asyncio.sleep(0)
    await first.wait_empty()
    await second.wait_empty()
    assert sorted(work.done, key=int) == [f"{number}" for number in range(200)]
    assert len(work.tasks) <= 1
