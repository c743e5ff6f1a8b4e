"""Sees to it that no process of a provider outlives this host, even when the host is killed.

The kernel kills a provider's process with its host, but not what that process has started. For
those there is a reaper, one small process beside each host that has provider processes: see
``host.supervise.reaper``. It is killed by nobody but whoever aims at it, and then started again.
"""

import asyncio
import sys
import uuid
from contextlib import suppress
from pathlib import Path

import structlog

from host.supervise.reaper import MARK
from lattice import errors, limits
from lattice.aio.tasks import TaskGroup

log = structlog.get_logger()

REAPER = Path(__file__).with_name("reaper.py")

END_TIMEOUT_S = 10.0
"""How long a reaper may take to look for what is left; twice what it needs at the most."""


class Guardian:
    """A host's side of its reaper."""

    def __init__(self) -> None:
        self._mark = uuid.uuid4().hex
        self._sessions: set[int] = set()
        self._reaper: asyncio.subprocess.Process | None = None
        self._is_up = asyncio.Event()
        self._tasks = TaskGroup("guardian")

    @property
    def environment(self) -> dict[str, str]:
        """What the environment of each provider process must have."""
        return {MARK: self._mark}

    async def up(self) -> None:
        """Return when the reaper is there, as it must be before any process is started.

        Raises:
            InternalError: it can't be had on this machine.
        """
        if sys.platform != "linux":
            return
        if not len(self._tasks):
            self._tasks.guard(self._keep_reaper, name="reaper")
        try:
            async with asyncio.timeout(limits.PROVIDER_START_TIMEOUT_S):
                await self._is_up.wait()
        except TimeoutError:
            raise errors.InternalError(
                "no process may be started: what would kill it with its host does not start"
            ) from None

    def watch(self, session: int) -> None:
        """A process was started, which leads a session of its own."""
        self._sessions.add(session)
        self._tell(f"+{session}\n")

    def forget(self, session: int) -> None:
        """It has ended, and its session with it."""
        self._sessions.discard(session)
        self._tell(f"-{session}\n")

    async def aclose(self) -> None:
        """Have the reaper do its work, and end. Safe to call twice."""
        await self._tasks.aclose()
        reaper, self._reaper = self._reaper, None
        if reaper is None:
            return
        assert reaper.stdin is not None
        reaper.stdin.close()
        try:
            async with asyncio.timeout(END_TIMEOUT_S):
                await reaper.wait()
        except TimeoutError:
            log.warning("processes of providers could not be killed")
            reaper.kill()

    async def _keep_reaper(self) -> None:
        told = frozenset(self._sessions)
        # Not ``processes.spawn``: it would die with us. Isolated, so that nothing is imported.
        reaper = self._reaper = await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            "-S",
            REAPER,
            self._mark,
            *map(str, told),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
        for session in self._sessions - told:
            self._tell(f"+{session}\n")
        for session in told - self._sessions:
            self._tell(f"-{session}\n")
        self._is_up.set()
        await reaper.wait()
        self._is_up.clear()

    def _tell(self, line: str) -> None:
        # One that is gone is told everything when it is back.
        if self._reaper is not None and self._reaper.stdin is not None:
            with suppress(OSError, RuntimeError):
                self._reaper.stdin.write(line.encode())
