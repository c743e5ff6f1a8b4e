"""Child processes that end when they should: with their owner, whatever happens to it."""

import asyncio
import ctypes
import errno
import itertools
import signal
import sys
from contextlib import suppress
from os import PathLike
from typing import IO

BUSY_ATTEMPTS_MAX = 50
BUSY_PAUSE_S = 0.02
"""Between two tries to run a program that is held open for writing: another child that was made
while we wrote it holds it so, until it runs its own program."""

_PR_SET_PDEATHSIG = 1
# Looked up before any fork: a child of a threaded process must not call the loader.
_prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None


async def spawn(
    *command: str | PathLike[str],
    output: IO[bytes] | int | None = None,
    stdin: int | None = None,
    env: dict[str, str] | None = None,
) -> asyncio.subprocess.Process:
    """Start a child that the kernel kills when this process dies, even by SIGKILL (Linux).

    It gets a process group of its own, so that Ctrl-C on a terminal reaches only its owner, which
    then ends its children in order. ``output`` takes both its standard output and its errors.

    Raises:
        OSError: it could not be started.
    """
    attempts = itertools.count(1)
    while True:
        try:
            return await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL if stdin is None else stdin,
                stdout=output,
                stderr=asyncio.subprocess.STDOUT if output is not None else None,
                env=env,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )
        except OSError as error:
            if error.errno != errno.ETXTBSY or next(attempts) == BUSY_ATTEMPTS_MAX:
                raise
            await asyncio.sleep(BUSY_PAUSE_S)


async def end(process: asyncio.subprocess.Process, *, grace_s: float) -> int:
    """Ask a child to end, kill it when it has not after ``grace_s``, and return its exit status.

    Cancelling kills it at once.
    """
    if process.returncode is None:
        with suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(grace_s):
                await process.wait()
        except (TimeoutError, asyncio.CancelledError) as reason:
            with suppress(ProcessLookupError):
                process.kill()
            if isinstance(reason, asyncio.CancelledError):
                raise
    return await process.wait()


def _die_with_parent() -> None:
    if _prctl is not None:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
