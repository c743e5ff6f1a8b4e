"""Child processes that end when they should: with their owner, whatever happens to it."""

import asyncio
import ctypes
import errno
import itertools
import os
import signal
import sys
from collections import deque
from contextlib import suppress
from functools import partial
from os import PathLike
from typing import IO

BUSY_ATTEMPTS_MAX = 50
BUSY_PAUSE_S = 0.02
"""Between two tries to run a program that is held open for writing: another child that was made
while we wrote it holds it so, until it runs its own program."""

_PR_SET_PDEATHSIG = 1
# Looked up before any fork: a child of a threaded process must not call the loader.
_prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None


_READ_BYTES = 64 * 1024
"""What is read at a time of what a child says: what a pipe holds."""

_READS_MAX = 4
"""Reads in a row at a child's end; each may find less than a whole pipe."""


async def spawn(
    *command: str | PathLike[str],
    output: IO[bytes] | int | None = None,
    error_output: int | None = None,
    stdin: int | None = None,
    env: dict[str, str] | None = None,
    directory: PathLike[str] | None = None,
) -> asyncio.subprocess.Process:
    """Start a child that the kernel kills when this process dies, even by SIGKILL (Linux).

    The kernel does so when the thread that forked ends, even if the process goes on. Event loops
    fork in the thread that they run in: all our programs run theirs in the main thread, whose end
    is the process's.

    It gets a session and a process group of its own, so that Ctrl-C on a terminal reaches only its
    owner, which then ends its children in order. ``output`` takes both its standard output and its
    errors, ``error_output`` its errors alone.

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
                stderr=error_output if output is None else asyncio.subprocess.STDOUT,
                env=env,
                cwd=directory,
                start_new_session=True,
                preexec_fn=partial(_die_with, os.getpid()),
            )
        except OSError as error:
            if error.errno != errno.ETXTBSY or next(attempts) == BUSY_ATTEMPTS_MAX:
                raise
            await asyncio.sleep(BUSY_PAUSE_S)


async def end(process: asyncio.subprocess.Process, *, grace_s: float) -> int:
    """Ask a child to end, kill it when it has not after ``grace_s``, and return its exit status.

    Whatever is left of its process group is killed then: what it started, and forgot. Cancelling
    kills all of it at once.
    """
    try:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.terminate()
            with suppress(TimeoutError):
                async with asyncio.timeout(grace_s):
                    await process.wait()
    finally:
        # A group's number is not given away while somebody is in it, as a process's is not.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    return await process.wait()


def ending(status: int) -> str:
    """How a process ended, in words, from its exit status."""
    if status >= 0:
        return f"ended with status {status}"
    try:
        return f"was killed ({signal.Signals(-status).name})"
    except ValueError:
        return f"was killed (signal {-status})"


class LastWords:
    """A pipe for what a child says, of which the end is kept; all of it is passed on.

    It is this process's own and not the child's transport's: whoever inherited the child's end may
    hold it for ever, and nobody waits for that.
    """

    def __init__(self, *, lines_max: int, bytes_max: int, onward: int) -> None:
        """``onward``: the file descriptor that it is passed on to."""
        self._lines: deque[bytes] = deque(maxlen=lines_max)
        self._bytes_max = bytes_max
        self._onward = onward
        self._reader, self.writer = os.pipe()
        os.set_blocking(self._reader, False)
        asyncio.get_running_loop().add_reader(self._reader, self._read)

    def handed_over(self) -> None:
        """Close our copy of the child's end, once it has its own."""
        if self.writer >= 0:
            os.close(self.writer)
            self.writer = -1

    @property
    def text(self) -> str:
        """The last lines."""
        self._read_all()
        return b"".join(self._lines)[-self._bytes_max :].decode(errors="replace").strip()

    def close(self) -> None:
        """Listen no more; what was said is kept. Safe to call twice."""
        self.handed_over()
        self._read_all()
        if self._reader >= 0:
            self._stop_listening()

    def _read_all(self) -> None:
        # As much as a pipe holds: a child that goes on talking must not keep us here.
        for _ in range(_READS_MAX):
            if self._reader < 0 or not self._read():
                return

    def _read(self) -> bool:
        """Take what there is; false when there is nothing."""
        try:
            chunk = os.read(self._reader, _READ_BYTES)
        except BlockingIOError:
            return False
        if not chunk:
            self._stop_listening()
            return False
        # Not ours to fail for: whoever read it may be gone.
        with suppress(OSError):
            os.write(self._onward, chunk)
        begun = self._lines.pop() if self._lines and not self._lines[-1].endswith(b"\n") else b""
        for line in (begun + chunk).splitlines(keepends=True):
            self._lines.append(line[-self._bytes_max :])
        return True

    def _stop_listening(self) -> None:
        asyncio.get_running_loop().remove_reader(self._reader)
        os.close(self._reader)
        self._reader = -1


def _die_with(parent: int) -> None:
    """Run in the child: have the kernel kill it when its parent dies, or has died meanwhile."""
    if _prctl is not None:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)
