"""Kills what a host left behind: a small program that outlives its host, by a moment.

Its standard input is held by the host alone, so that it ends when the host does, however that came
about. On it come the sessions of provider processes as they start (``+PID``) and end (``-PID``).
At its end every process is killed that belongs to one of the sessions, or that carries the host's
mark in its environment: so neither leaving the session nor forging the environment is a way out,
only both. It needs nothing but the standard library, no rights, and Linux's ``/proc``.
"""

import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

MARK = "LATTICE_HOST_PROCESS"
"""Variable in the environment of provider processes; it names the one run of their host."""

ROUNDS_MAX = 100
"""Looks for what is left: whoever forks faster than it is killed is killed when it is tired."""

PAUSE_S = 0.05
"""Between two looks: what was killed takes a moment to go."""


def main() -> None:
    """Wait for the end of the host, whose mark and sessions until now are the arguments."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    mark, sessions = f"{MARK}={sys.argv[1]}".encode(), {int(text) for text in sys.argv[2:]}
    for line in sys.stdin.buffer:
        (sessions.add if line[:1] == b"+" else sessions.discard)(int(line[1:]))
    for _ in range(ROUNDS_MAX):
        if not kill_left(mark, sessions):
            return
        time.sleep(PAUSE_S)


def kill_left(mark: bytes, sessions: set[int]) -> bool:
    """Kill all that is left; whether there was anything."""
    found = False
    for process in Path("/proc").iterdir():
        if not process.name.isdigit() or int(process.name) == os.getpid():
            continue
        # It may go at any moment, and others' processes are not ours to look at.
        with suppress(OSError):
            if not _is_left(process, mark, sessions):
                continue
            # The handle pins the process, and a second look makes sure that it is the same one.
            handle = os.pidfd_open(int(process.name))
            try:
                if _is_left(process, mark, sessions):
                    signal.pidfd_send_signal(handle, signal.SIGKILL)
                    found = True
            finally:
                os.close(handle)
    return found


def _is_left(process: Path, mark: bytes, sessions: set[int]) -> bool:
    # The program's name, in parentheses, may hold anything.
    status = (process / "stat").read_bytes().rpartition(b")")[2]
    state, _parent, _group, session = status.split()[:4]
    if state in (b"Z", b"X"):
        return False
    return int(session) in sessions or mark in (process / "environ").read_bytes().split(b"\0")


if __name__ == "__main__":
    main()
