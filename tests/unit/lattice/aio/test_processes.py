import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path

import pytest

from lattice.aio import processes
from tests.support.eventually import eventually

FOREVER = "import time; print('up', flush=True); time.sleep(3600)"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {FOREVER}"

OWNER = f"""
import asyncio, sys
from lattice.aio import processes
async def main():
    child = await processes.spawn(sys.executable, "-c", {FOREVER!r})
    print(child.pid, flush=True)
    await child.wait()
asyncio.run(main())
"""


async def started(program: str, log: Path) -> asyncio.subprocess.Process:
    with log.open("wb") as output:
        process = await processes.spawn(sys.executable, "-c", program, output=output)
    await eventually(lambda: "up" in log.read_text())
    return process


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


async def test_a_child_ends_when_it_is_asked_to(tmp_path: Path) -> None:
    process = await started(FOREVER, tmp_path / "log")

    assert await processes.end(process, grace_s=5) == -signal.SIGTERM
    assert await processes.end(process, grace_s=5) == -signal.SIGTERM


async def test_a_child_that_does_not_listen_is_killed(tmp_path: Path) -> None:
    process = await started(STUBBORN, tmp_path / "log")

    assert await processes.end(process, grace_s=0.05) == -signal.SIGKILL


async def test_cancelling_kills_at_once(tmp_path: Path) -> None:
    process = await started(STUBBORN, tmp_path / "log")

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await processes.end(process, grace_s=3600)

    assert await process.wait() == -signal.SIGKILL


async def test_what_is_not_there_cannot_be_started() -> None:
    with pytest.raises(OSError, match="nonexistent"):
        await processes.spawn("/nonexistent/program")


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's promise is Linux's")
async def test_a_child_does_not_outlive_an_owner_that_is_killed() -> None:
    owner = await asyncio.create_subprocess_exec(
        sys.executable, "-c", OWNER, stdout=asyncio.subprocess.PIPE
    )
    assert owner.stdout is not None
    child = int(await owner.stdout.readline())
    try:
        assert is_running(child)
        owner.kill()
        await owner.wait()

        await eventually(lambda: not is_running(child))
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)


async def test_a_program_that_is_still_being_written_is_waited_for(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\nexit 3\n")
    program.chmod(0o700)
    writer = program.open("ab")
    asyncio.get_running_loop().call_later(0.1, writer.close)

    process = await processes.spawn(program)

    assert await process.wait() == 3
