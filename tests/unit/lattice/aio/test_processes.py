import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from functools import partial
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
    except (FileNotFoundError, ProcessLookupError):
        # The second, when it ends while it is read of.
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


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's promise is Linux's")
def test_a_child_whose_owner_died_before_it_could_say_so_does_not_run() -> None:
    """The kernel tells of no death that was before the request to be told."""
    somebody_else = os.getppid()
    child = subprocess.run(
        [sys.executable, "-c", ""],
        preexec_fn=partial(processes._die_with, somebody_else),
        check=False,
    )
    assert child.returncode == -signal.SIGKILL


async def test_what_a_child_has_started_and_left_behind_is_killed_with_it(tmp_path: Path) -> None:
    log = tmp_path / "log"
    program = f"""
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {STUBBORN!r}], stdout=subprocess.PIPE)
child.stdout.readline()
print("up", child.pid, flush=True)
"""
    process = await started(program, log)
    grandchild = int(log.read_text().split()[1])
    await process.wait()
    assert is_running(grandchild)

    assert await processes.end(process, grace_s=5) == 0

    await eventually(lambda: not is_running(grandchild))


async def test_last_words_are_the_last_and_all_are_passed_on(tmp_path: Path) -> None:
    onward = tmp_path / "onward"
    with onward.open("wb") as file:
        words = processes.LastWords(lines_max=2, bytes_max=14, onward=file.fileno())
        process = await processes.spawn(
            sys.executable,
            "-c",
            "import sys\nfor n in range(50_000): print('line', n, file=sys.stderr)",
            error_output=words.writer,
        )
        words.handed_over()
        await process.wait()
        words.close()
        words.close()
    assert words.text == "98\nline 49999"
    assert onward.read_text().count("\n") == 50_000


async def test_nobody_waits_for_whoever_inherited_the_pipe_of_last_words(tmp_path: Path) -> None:
    with (tmp_path / "onward").open("wb") as file:
        words = processes.LastWords(lines_max=9, bytes_max=99, onward=file.fileno())
        process = await processes.spawn(
            sys.executable,
            "-c",
            f"import subprocess, sys; sys.stderr.write('over'); sys.stderr.flush();"
            f" subprocess.Popen([sys.executable, '-c', {FOREVER!r}])",
            error_output=words.writer,
        )
        words.handed_over()
        assert await process.wait() == 0
        words.close()
        await processes.end(process, grace_s=0)
    assert words.text == "over"


async def test_a_program_that_is_still_being_written_is_waited_for(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\nexit 3\n")
    program.chmod(0o700)
    writer = program.open("ab")
    asyncio.get_running_loop().call_later(0.1, writer.close)

    process = await processes.spawn(program)

    assert await process.wait() == 3


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (0, "ended with status 0"),
        (-signal.SIGKILL, "was killed (SIGKILL)"),
        (-999, "was killed (signal 999)"),
    ],
)
def test_the_end_of_a_process_is_put_in_words(status: int, words: str) -> None:
    assert processes.ending(status) == words
