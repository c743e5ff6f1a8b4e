"""Processes of providers, and what those started, do not outlive their host however it ends."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from host.supervise import reaper
from host.supervise.guardian import REAPER, Guardian
from lattice.aio import processes
from tests.support.children import arguments, has_ended
from tests.support.eventually import eventually

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it needs /proc")

FOREVER = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(3600)"

PROVIDER = """
import os, subprocess, sys
def child(**how):
    print(subprocess.Popen([sys.executable, "-c", {forever!r}], **how).pid, flush=True)
{children}
{then}
"""

HOST = """
import asyncio, os, sys
from host.supervise.guardian import Guardian
from lattice.aio import processes
async def main():
    guardian = Guardian()
    await guardian.up()
    provider = await processes.spawn(
        sys.executable, "-c", {provider!r}, output=sys.stdout.fileno(),
        env={{**os.environ, **guardian.environment}},
    )
    guardian.watch(provider.pid)
    print(provider.pid, flush=True)
    await provider.wait()
asyncio.run(main())
"""


@asynccontextmanager
async def host(children: str, *, count: int) -> AsyncIterator[tuple[psutil.Process, set[int]]]:
    """A host whose provider has started children; the process ids of all of these."""
    provider = PROVIDER.format(forever=FOREVER, children=children, then=FOREVER)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HOST.format(provider=provider), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    pids = {int(await process.stdout.readline()) for _ in range(count + 1)}
    try:
        yield psutil.Process(process.pid), pids
    finally:
        for pid in (process.pid, *pids):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        await process.wait()


def alive(pids: set[int]) -> set[int]:
    return {pid for pid in pids if is_alive(pid)}


def is_alive(pid: int) -> bool:
    try:
        return not has_ended(psutil.Process(pid))
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize(
    "children",
    ["child()", "child(start_new_session=True)", "child(env={})"],
    ids=["that ignores signals", "that left the session", "that has another environment"],
)
async def test_a_child_of_a_provider_goes_with_a_host_that_is_killed(children: str) -> None:
    async with host(children, count=1) as (process, pids):
        assert alive(pids) == pids
        process.kill()
        await eventually(lambda: not alive(pids))


async def test_a_reaper_that_was_killed_is_replaced_by_one_that_knows_as_much() -> None:
    async with host("child(env={})", count=1) as (process, pids):

        def reapers() -> list[psutil.Process]:
            return [child for child in process.children() if str(REAPER) in arguments(child)]

        (first,) = reapers()
        first.kill()
        await eventually(lambda: [one for one in reapers() if one.pid != first.pid])
        process.kill()
        await eventually(lambda: not alive(pids))


async def test_nothing_else_is_killed() -> None:
    bystander = await processes.spawn(
        sys.executable, "-c", FOREVER, env={reaper.MARK: "of another host"}
    )
    guardian = Guardian()
    await guardian.up()
    ended = await processes.spawn(sys.executable, "-c", "pass")
    guardian.watch(ended.pid)
    await ended.wait()
    guardian.forget(ended.pid)
    guardian.forget(bystander.pid)
    await guardian.aclose()
    assert bystander.returncode is None
    await processes.end(bystander, grace_s=0)


async def test_what_left_its_session_goes_with_a_host_that_ends_in_order(tmp_path: Path) -> None:
    guardian = Guardian()
    await guardian.up()
    log = tmp_path / "log"
    with log.open("wb") as output:
        provider = await processes.spawn(
            sys.executable,
            "-c",
            PROVIDER.format(forever=FOREVER, children="child(start_new_session=True)", then=""),
            output=output,
            env={**os.environ, **guardian.environment},
        )
    guardian.watch(provider.pid)
    assert await provider.wait() == 0
    await processes.end(provider, grace_s=0)
    guardian.forget(provider.pid)
    stray = {int(log.read_text())}
    assert alive(stray) == stray
    await guardian.aclose()
    assert not alive(stray)


async def test_closing_a_guardian_that_was_not_needed_costs_nothing() -> None:
    guardian = Guardian()
    await guardian.aclose()
    await guardian.aclose()
