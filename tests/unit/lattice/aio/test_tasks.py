import asyncio
from collections.abc import AsyncIterator

import pytest
from structlog.testing import capture_logs

from lattice.aio import tasks
from lattice.aio.tasks import TaskGroup
from tests.support.eventually import eventually


@pytest.fixture
async def group(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[TaskGroup]:
    monkeypatch.setattr(tasks, "RESTART_DELAY_S", 0)
    group = TaskGroup("owner")
    yield group
    await group.aclose()


async def for_ever() -> None:
    await asyncio.Event().wait()


async def fail() -> None:
    raise ValueError("no")


async def test_tasks_have_names_and_are_forgotten_when_they_end(group: TaskGroup) -> None:
    async def nothing() -> None:
        return

    group.spawn(for_ever(), name="b")
    group.spawn(for_ever(), name="a")
    group.spawn(nothing(), name="c")
    assert group.names == ["a", "b", "c"]

    await eventually(lambda: group.names == ["a", "b"])
    assert len(group) == 2


async def test_one_failure_is_logged_and_leaves_the_others(group: TaskGroup) -> None:
    other = group.spawn(for_ever(), name="other")
    with capture_logs() as logs:
        group.spawn(fail(), name="call")
        await eventually(lambda: len(group) == 1)

    assert [(line["event"], line["task"], line["owner"]) for line in logs] == [
        ("task failed", "call", "owner")
    ]
    assert not other.done()


async def test_an_eternal_task_is_started_again_however_it_ends(group: TaskGroup) -> None:
    runs = 0

    async def unreliable() -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            raise ValueError("no")
        if runs == 2:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            future.cancel()
            await future
        if runs > 3:
            await for_ever()

    with capture_logs() as logs:
        group.guard(unreliable, name="watch")
        await eventually(lambda: runs == 4)

    assert [line["event"] for line in logs] == [
        "eternal task failed",
        "eternal task cancelled",
        "eternal task ended",
    ]


async def test_an_eternal_task_ends_when_it_is_cancelled(group: TaskGroup) -> None:
    task = group.guard(for_ever, name="watch")
    await asyncio.sleep(0)

    task.cancel()

    await eventually(lambda: len(group) == 0)
    assert task.cancelled()


async def test_closing_ends_everything_without_a_word(group: TaskGroup) -> None:
    group.spawn(for_ever(), name="call")
    group.guard(for_ever, name="watch")
    await asyncio.sleep(0)

    with capture_logs() as logs:
        await group.aclose()
        await group.aclose()

    assert (len(group), logs) == (0, [])


async def test_closing_waits_for_tasks_that_take_their_time_to_end(group: TaskGroup) -> None:
    ended = False

    async def tidy() -> None:
        nonlocal ended
        try:
            await for_ever()
        finally:
            await asyncio.sleep(0)
            ended = True

    group.spawn(tidy(), name="tidy")
    await asyncio.sleep(0)

    await group.aclose()

    assert ended


async def test_closing_outlasts_a_task_that_swallows_a_cancellation(group: TaskGroup) -> None:
    async def stubborn() -> None:
        try:
            await for_ever()
        except asyncio.CancelledError:
            await for_ever()

    group.spawn(stubborn(), name="stubborn")
    await asyncio.sleep(0)

    async def close() -> None:
        await group.aclose()

    closing = TaskGroup("closing")
    closing.spawn(close(), name="close")
    await asyncio.sleep(0)
    for _ in range(5):
        for task in list(group._tasks):
            task.cancel()
        await asyncio.sleep(0)

    await eventually(lambda: len(group) == 0)
    await eventually(lambda: len(closing) == 0)


async def test_each_task_is_listed_with_its_group_its_restarts_and_last_failure(
    group: TaskGroup,
) -> None:
    runs = 0

    async def fail_twice() -> None:
        nonlocal runs
        runs += 1
        if runs > 2:
            await for_ever()
        raise ValueError("no")

    group.guard(fail_twice, name="watch")
    group.spawn(for_ever(), name="call")
    group.spawn(fail(), name="other call")
    await eventually(lambda: runs == 3)

    watch, call = group.records
    assert (watch.group, watch.name, watch.eternal) == ("owner", "watch", True)
    assert (watch.restarts, watch.last_failure) == (2, "ValueError: no")
    assert (call.name, call.eternal, call.restarts, call.last_failure) == ("call", False, 0, "")
    assert call.since_s >= watch.since_s
    assert (group.failures.count, group.failures.last) == (1, "other call: ValueError: no")
    assert group in tasks.groups()


async def test_a_task_that_swallows_its_cancellation_is_ended_all_the_same() -> None:
    heard = 0

    async def stubborn() -> None:
        nonlocal heard
        while heard < 3:
            try:
                await for_ever()
            except asyncio.CancelledError:
                heard += 1

    group = TaskGroup("any")
    task = group.spawn(stubborn(), name="stubborn")
    await asyncio.sleep(0)

    await tasks.end(task)

    assert task.done()
    assert heard == 3
    await tasks.end(task)
