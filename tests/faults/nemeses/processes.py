"""Processes are killed, frozen, drained, and their clocks set."""

import asyncio
import signal
from collections import Counter
from contextlib import suppress

import psutil

from lattice import errors, subjects
from lattice.control import diagnostics
from lattice.wire.diagnostics import StallDiagnostics
from tests.faults.arena import COMMAND_TIMEOUT_S, LATTICE
from tests.faults.history import operations
from tests.faults.host_program import block_the_loop
from tests.faults.nemeses.nemesis import Nemesis
from tests.faults.schedule import Window
from tests.faults.servers import Server

LAME_DUCK_S_MAX = 35.0
"""A server in lame-duck mode ends sooner when its clients do; this is its own bound, and some."""


class KillHost(Nemesis):
    """SIGKILL; the host is started again as itself."""

    name = "host killed"

    async def inject(self, window: Window) -> str:
        self._host = self.arena.victim(window.draw)
        orphans = self._host.providers()
        await self.arena.kill_host(self._host)
        _, alive = await asyncio.to_thread(psutil.wait_procs, orphans, timeout=2)
        self.expect(not alive, f"providers of {self._host.name} that outlive it: {len(alive)}")
        return self._host.name

    async def heal(self) -> None:
        await self.arena.start_host(self._host)


class DrainHost(Nemesis):
    """SIGTERM, as a rolling restart sends it; the host is started again as itself.

    No call is lost by it. That of HTTP can be, by whoever finds nobody at the address.
    """

    name = "host drained"
    bound_s = 2.0

    async def inject(self, window: Window) -> str:
        self._host = self.arena.victim(window.draw)
        self._began_s = self.arena.history.elapsed_s()
        self._host.signal(signal.SIGTERM)
        assert self._host.process is not None
        status = await asyncio.wait_for(self._host.process.wait(), 20)
        self.expect(status == 0, f"{self._host.name} ended with status {status}")
        return self._host.name

    async def heal(self) -> None:
        failed = [
            call
            for call in operations(self.arena.history.entries, "call")
            if call.invoke.at_s >= self._began_s
            and call.data["way"] != "http"
            and call.phase == "fail"
        ]
        codes = Counter(call.outcome["code"] for call in failed)
        self.expect(not failed, f"calls failed while {self._host.name} drained: {dict(codes)}")
        await self.arena.start_host(self._host)


class FreezeHost(Nemesis):
    """SIGSTOP, and SIGCONT a while later: whoever wakes up must not believe it is still then."""

    name = "host frozen"
    lasts_s = (1.0, 12.0)
    bound_s = 10.0
    """Until NATS stops routing to it: two pings of three seconds, and some."""

    async def inject(self, window: Window) -> str:
        self._host = self.arena.victim(window.draw)
        self._host.signal(signal.SIGSTOP)
        return self._host.name

    async def heal(self) -> None:
        self._host.signal(signal.SIGCONT)


class ClockJump(Nemesis):
    """The wall clock of one host jumps five minutes ahead, and back again."""

    name = "clock jumped"
    bound_s = 2.0

    async def inject(self, window: Window) -> str:
        self._host = self.arena.victim(window.draw)
        self._host.signal(signal.SIGUSR1)
        return self._host.name

    async def heal(self) -> None:
        self._host.signal(signal.SIGUSR1)


class BlockedLoop(Nemesis):
    """The event loop of one host is blocked for some seconds, as by a library that waits.

    The host itself says so afterwards, with the stack of what blocked it.
    """

    name = "event loop blocked"
    lasts_s = (4.0, 5.0)
    bound_s = 6.0

    async def inject(self, window: Window) -> str:
        self._host = self.arena.victim(window.draw)
        self._stalls_before = (await self._stalls()).count
        self._host.signal(signal.SIGUSR2)
        return self._host.name

    async def heal(self) -> None:
        seen = await self._stalls()
        self.expect(
            seen.count > self._stalls_before and block_the_loop.__name__ in seen.last_stack,
            f"{self._host.name} says of what blocked it: {seen}",
        )

    async def _stalls(self) -> StallDiagnostics:
        told = await diagnostics.of_host(
            self.arena.bus, LATTICE, self._host.id, timeout_s=COMMAND_TIMEOUT_S
        )
        return told.stalls


class KillProvider(Nemesis):
    """SIGKILL for one copy of the ledger; its host must start another."""

    name = "provider killed"
    lasts_s = (2.0, 4.0)

    async def inject(self, window: Window) -> str:
        host = self.arena.victim(window.draw)
        for provider in host.providers():
            provider.kill()
        return f"ledger of {host.name}"


class FreezeProvider(Nemesis):
    """SIGSTOP for one copy of the ledger: for so short a time that nobody replaces it."""

    name = "provider frozen"
    lasts_s = (1.0, 4.0)
    total = True

    async def inject(self, window: Window) -> str:
        host = self.arena.victim(window.draw)
        self._frozen = host.providers()
        for provider in self._frozen:
            provider.suspend()
        return f"ledger of {host.name}"

    async def heal(self) -> None:
        for provider in self._frozen:
            with suppress(psutil.NoSuchProcess):
                provider.resume()


class KillOnlyServer(Nemesis):
    """SIGKILL for the only nats-server, started again with what it had stored."""

    name = "NATS killed"
    lasts_s = (0.5, 4.0)
    bound_s = 6.0
    total = True
    servers = frozenset({1})

    async def inject(self, window: Window) -> str:
        await self.arena.servers[0].kill()
        return self.arena.servers[0].name

    async def heal(self) -> None:
        await self.arena.servers[0].start()


class FreezeOnlyServer(Nemesis):
    """SIGSTOP for the only nats-server: connections stay open, and nothing comes over them."""

    name = "NATS frozen"
    lasts_s = (0.5, 8.0)
    bound_s = 6.0
    total = True
    servers = frozenset({1})

    async def inject(self, window: Window) -> str:
        self.arena.servers[0].signal(signal.SIGSTOP)
        return self.arena.servers[0].name

    async def heal(self) -> None:
        self.arena.servers[0].signal(signal.SIGCONT)


class KillLeader(Nemesis):
    """SIGKILL for the server that leads the stream of configs."""

    name = "NATS leader killed"
    lasts_s = (2.0, 4.0)
    bound_s = 15.0
    """An election takes some seconds, and writes wait for it."""
    servers = frozenset({3})

    leads = True

    async def inject(self, window: Window) -> str:
        leader = await self._leader()
        others = [server for server in self.arena.servers if server.name != leader.name]
        self._server = leader if self.leads else others[int(window.draw * len(others))]
        await self._server.kill()
        return self._server.name

    async def heal(self) -> None:
        await self._server.start()

    async def _leader(self) -> Server:
        stream = f"KV_{subjects.config_bucket(LATTICE)}"
        for server in self.arena.servers:
            streams = await server.monitor("jsz?streams=true") or {}
            for account in streams.get("account_details", []):
                for detail in account.get("stream_detail", []):
                    if detail["name"] == stream:
                        name = detail["cluster"].get("leader", "")
                        return next(s for s in self.arena.servers if s.name == name)
        raise AssertionError(f"nobody leads {stream}")


class KillFollower(KillLeader):
    """SIGKILL for one of the others."""

    name = "NATS follower killed"
    leads = False


class LameDuck(Nemesis):
    """A server is taken down in order: it says so, gives its clients time to leave, and ends.

    No call is lost by it. One may hear that nobody has the target, while that is between two.
    """

    name = "NATS lame duck"
    lasts_s = (6.0, 8.0)
    bound_s = 3.0
    servers = frozenset({3})

    async def inject(self, window: Window) -> str:
        self._server = self.arena.servers[int(window.draw * len(self.arena.servers))]
        self._began_s = self.arena.history.elapsed_s()
        self._server.signal(signal.SIGUSR2)
        return self._server.name

    async def heal(self) -> None:
        assert self._server.process is not None
        await asyncio.wait_for(self._server.process.wait(), LAME_DUCK_S_MAX)
        lost = Counter(
            call.outcome["code"]
            for call in operations(self.arena.history.entries, "call")
            if call.invoke.at_s >= self._began_s
            # A key is claimed in a stream, whose leader may have to move as well.
            and call.data["way"] != "keyed"
            and call.phase == "fail"
            and errors.BY_CODE[call.outcome["code"]].executed != "no"
        )
        self.expect(not lost, f"calls were lost while {self._server.name} left: {dict(lost)}")
        await self._server.start()
