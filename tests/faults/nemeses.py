"""The faults: how each is injected and ended, and for how long it may be felt.

A *total* fault leaves nothing that could serve, so its bound counts from its end; any other is got
over while it lasts, and its bound counts from its injection. ``heal`` is called once after each
``inject``, also after one that failed, and may be called when there is nothing left to end.
"""

import asyncio
import json
import random
import signal
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import ClassVar

import nats
import nats.errors
import nats.js.api
import nats.js.errors
import psutil

from lattice import errors, subjects
from lattice.wire import codec, events
from lattice.wire.invocation import encode_request
from tests.faults.arena import LATTICE, MAILBOX_CALLS, Arena
from tests.faults.history import operations
from tests.faults.schedule import Kind, Window
from tests.faults.servers import Server
from tests.support.proxy import Proxy

FLOOD_CALLS = 600
"""At once, to an actor with one instance: all mailboxes together hold half of it."""

RUBBISH_MESSAGES = 300

FILLER = "FILLER"
FILLER_BYTES = 900_000


class Nemesis:
    """One kind of fault."""

    name: ClassVar[str]
    lasts_s: ClassVar[tuple[float, float]] = (1.0, 4.0)
    rest_s: ClassVar[float] = 4.0
    bound_s: ClassVar[float] = 5.0
    """For how long calls or writes may fail because of it."""
    total: ClassVar[bool] = False
    servers: ClassVar[frozenset[int]] = frozenset({1, 3})
    """Numbers of nats-servers with which it makes sense."""

    def __init__(self, arena: Arena) -> None:
        self.arena = arena

    @classmethod
    def kind(cls) -> Kind:
        shortest_s, longest_s = cls.lasts_s
        return Kind(name=cls.name, shortest_s=shortest_s, longest_s=longest_s, rest_s=cls.rest_s)

    async def inject(self, window: Window) -> str:
        """Begin; returns whom it strikes."""
        raise NotImplementedError

    async def heal(self) -> None:
        """End it."""

    def expect(self, met: bool, text: str) -> None:
        """Note something that must hold because of this fault."""
        self.arena.history.observe(self.name, "expectation", met=met, text=text)


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
    rest_s = 6.0
    bound_s = 10.0
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
    rest_s = 6.0
    bound_s = 10.0
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
    rest_s = 8.0
    bound_s = 20.0
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


class _Network(Nemesis):
    """Does something to all connections of one host, or to those of the second observer as well."""

    def _proxies(self, window: Window) -> tuple[str, list[Proxy]]:
        host = self.arena.victim(window.draw)
        return f"{host.name} and an observer", [*host.proxies, *self.arena.observer_proxies]

    async def inject(self, window: Window) -> str:
        who, self._struck = self._proxies(window)
        for proxy in self._struck:
            proxy.rng = random.Random(window.draw)
            self.strike(proxy)
        return who

    def strike(self, proxy: Proxy) -> None:
        raise NotImplementedError

    async def heal(self) -> None:
        for proxy in self._struck:
            proxy.refusing = False
            proxy.delay_s = proxy.jitter_s = proxy.loss = 0.0
            proxy.bytes_per_s = None
            proxy.thaw()


class Partition(_Network):
    """Nothing gets through in either direction, and nobody is told."""

    name = "partition"
    lasts_s = (3.0, 12.0)
    bound_s = 12.0

    def strike(self, proxy: Proxy) -> None:
        proxy.freeze()


class BriefPartition(_Network):
    """As short as a switch that is replaced: nobody notices, nothing may be missing."""

    name = "partition of 300 ms"
    lasts_s = (0.3, 0.3)
    bound_s = 3.0

    def strike(self, proxy: Proxy) -> None:
        proxy.freeze()


class Deaf(_Network):
    """The host can send, and hears nothing."""

    name = "one-way partition"
    lasts_s = (3.0, 10.0)
    bound_s = 12.0

    def strike(self, proxy: Proxy) -> None:
        proxy.freeze("down")


class Mute(_Network):
    """The host hears, and what it sends is lost on the way."""

    name = "other-way partition"
    lasts_s = (3.0, 10.0)
    bound_s = 12.0

    def strike(self, proxy: Proxy) -> None:
        proxy.freeze("up")


class HalfOpen(_Network):
    """The server has forgotten connections that the host believes in."""

    name = "half-open connections"
    lasts_s = (3.0, 10.0)
    bound_s = 12.0

    def strike(self, proxy: Proxy) -> None:
        proxy.half_open()


class Reset(_Network):
    """Every connection is reset; new ones are taken at once."""

    name = "connections reset"
    lasts_s = (0.1, 0.5)

    def strike(self, proxy: Proxy) -> None:
        proxy.drop()


class Flapping(_Network):
    """The way is there for a second, and gone for a second, again and again."""

    name = "flapping"
    lasts_s = (4.0, 8.0)
    total = True
    bound_s = 8.0

    async def inject(self, window: Window) -> str:
        who, self._struck = self._proxies(window)
        self._flaps = asyncio.create_task(self._flap(), name="flapping")
        return who

    async def heal(self) -> None:
        self._flaps.cancel()
        await asyncio.wait((self._flaps,))
        await super().heal()

    async def _flap(self) -> None:
        while True:
            for is_gone in (True, False):
                for proxy in self._struck:
                    proxy.refusing = is_gone
                    if is_gone:
                        proxy.drop()
                await asyncio.sleep(1.0)


class Latency(_Network):
    """100 ± 50 ms, and one packet in a hundred lost, on every way that there is."""

    name = "latency and loss"
    lasts_s = (3.0, 6.0)
    total = True

    def _proxies(self, window: Window) -> tuple[str, list[Proxy]]:
        return "everybody", [proxy for host in self.arena.hosts for proxy in host.proxies]

    def strike(self, proxy: Proxy) -> None:
        proxy.delay_s, proxy.jitter_s, proxy.loss = 0.1, 0.05, 0.01


class Throttle(_Network):
    """One megabit a second."""

    name = "thin line"
    lasts_s = (3.0, 6.0)
    total = True

    def strike(self, proxy: Proxy) -> None:
        proxy.bytes_per_s = 1_000_000 / 8


class _Calling(Nemesis):
    """Calls something that does harm, all the time, and counts how that ends."""

    callers: ClassVar[int] = 2
    pause_s: ClassVar[float] = 0.05
    bound_s = 2.0

    async def inject(self, window: Window) -> str:
        self.outcomes: Counter[str] = Counter()
        self._tasks = [
            asyncio.create_task(self._keep_calling(number), name=f"{self.name} {number}")
            for number in range(self.callers)
        ]
        return "every host"

    async def heal(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        unexpected = self.outcomes.keys() - self.expected()
        self.expect(
            not unexpected and self.outcomes.total() > 0,
            f"{self.name} ended in {dict(self.outcomes)}, want only {sorted(self.expected())}",
        )

    def expected(self) -> frozenset[str]:
        """Codes in which it may end."""
        raise NotImplementedError

    async def _keep_calling(self, number: int) -> None:
        while True:
            try:
                await self.attack(number)
            except errors.LatticeError as error:
                self.outcomes[error.code] += 1
            else:
                self.outcomes["ok"] += 1
            await asyncio.sleep(self.pause_s)

    async def attack(self, number: int) -> None:
        raise NotImplementedError

    async def _call(self, target: str, operation: str = "Test.Run", payload: bytes = b"") -> bytes:
        reply = await self.arena.rpc.call(self.arena.call(target, operation, payload))
        return reply.payload


class MaliciousGuests(_Calling):
    """Guests that spin, trap, grow without end and shout; beside them good ones go on working."""

    name = "malicious guests"
    lasts_s = (4.0, 7.0)
    callers = 4

    async def attack(self, number: int) -> None:
        match number:
            case 0:
                await self._call("spin")
            case 1:
                # The length says in which way it traps.
                await self._call("traps", payload=bytes(self.outcomes.total() % 8))
            case 2:
                await self._call("bomb")
            case _:
                await self._call("shout")

    def expected(self) -> frozenset[str]:
        return frozenset(
            {"actor_trapped", "cpu_exceeded", "memory_exceeded", "actor_error", "overloaded"}
            # A busy machine: half a second of CPU may take longer than a call may.
            | {"deadline_exceeded"}
        )


class Cycle(_Calling):
    """An actor that calls itself: ended by the count of hops, never by the clock."""

    name = "call cycle"

    async def attack(self, number: int) -> None:
        try:
            await self._call("circle")
        except errors.ActorError as error:
            if "hops" not in error.text:
                raise
            raise errors.HopLimit(0, 0) from None

    def expected(self) -> frozenset[str]:
        return frozenset({"hop_limit"})


class Flood(Nemesis):
    """Many times more calls than an actor has room for: refused at once, and the rest served."""

    name = "flood"
    lasts_s = (1.0, 2.0)
    bound_s = 2.0

    async def inject(self, window: Window) -> str:
        host = self.arena.victim(window.draw)
        await self.arena.scale("sluggish", "relay", 1, host)
        await self.arena.put_link("sluggish", "ledger")
        await self.arena.until_answers("sluggish")
        self._outcomes: Counter[str] = Counter()
        self._host = host
        self._calls = [
            asyncio.create_task(self._call(number, window), name="flood")
            for number in range(FLOOD_CALLS)
        ]
        return f"sluggish on {host.name}"

    async def heal(self) -> None:
        await asyncio.gather(*self._calls)
        taken = self._outcomes.total() - self._outcomes["overloaded"]
        self.expect(
            self._outcomes["overloaded"] > 0
            and self._outcomes.keys() <= {"ok", "overloaded", "deadline_exceeded", "actor_error"},
            f"a flood of {FLOOD_CALLS} ended in {dict(self._outcomes)}",
        )
        self.expect(taken >= MAILBOX_CALLS, f"of a flood only {taken} were taken")
        await self.arena.scale("sluggish", "relay", 0, self._host)

    async def _call(self, number: int, window: Window) -> None:
        call_id = f"flood-{window.number}-{number}"
        history = self.arena.history
        operation = history.invoke("flood", "call", call=call_id, way="flood", timeout_s=2.0)
        try:
            await self.arena.rpc.call(
                self.arena.call("sluggish", "Ledger.Hold", f"5 {call_id}".encode(), timeout_s=2.0)
            )
        except errors.LatticeError as error:
            history.complete(operation, "fail", code=error.code, text=error.text)
            self._outcomes[error.code] += 1
        else:
            history.complete(operation, "ok")
            self._outcomes["ok"] += 1


class Rubbish(Nemesis):
    """Malformed and forged messages on the subjects of calls, control, events and beats."""

    name = "malformed and forged messages"
    bound_s = 2.0

    async def inject(self, window: Window) -> str:
        rng = random.Random(window.draw)
        bus = self.arena.bus
        for _ in range(RUBBISH_MESSAGES):
            subject, payload = rng.choice(MESSAGES)(rng, self.arena)
            with suppress(errors.LatticeError):
                await bus.publish(subject, payload, reply=rng.choice(("", "nobody.listens")))
        return "everybody"


def _call_rubbish(rng: random.Random, arena: Arena) -> tuple[str, bytes]:
    target = rng.choice(("relay", "front", "echo", "ledger", "http"))
    return subjects.call(LATTICE, target, "stranger"), _mangled(rng, _envelope(arena))


def _control_rubbish(rng: random.Random, arena: Arena) -> tuple[str, bytes]:
    tokens = rng.choice(
        (
            ("link", "put"),
            ("link", "del"),
            ("config", "put", "rubbish"),
            ("component", "scale", arena.victim(rng.random()).id),
            ("provider", "start", arena.victim(rng.random()).id),
            ("provider", "stop", arena.victim(rng.random()).id),
            ("no", "such", "request"),
        )
    )
    body = json.dumps({"component_id": 3, "links": [[[]]], "source_id": "a b"}).encode()
    return subjects.control(LATTICE, *tokens), _mangled(rng, body)


def _event_rubbish(rng: random.Random, arena: Arena) -> tuple[str, bytes]:
    host_id = rng.choice((arena.victim(rng.random()).id, "N" + "A" * 55))
    name = rng.choice(("host_stopped", "host_started", "component_scaled", "provider_stopped"))
    forged = events.encode(name, {"host_id": host_id, "component_id": "relay"}, source=host_id)
    return subjects.event(LATTICE, name), rng.choice((forged, _mangled(rng, forged)))


def _beat_rubbish(rng: random.Random, arena: Arena) -> tuple[str, bytes]:
    beat = codec.pack({"id": rng.choice((7, None, "N" * 56)), "load": "much", "running": -1})
    return subjects.beat(LATTICE, rng.choice(("N" + "B" * 55, "x"))), _mangled(rng, beat)


MESSAGES: Sequence[Callable[[random.Random, Arena], tuple[str, bytes]]] = (
    _call_rubbish,
    _control_rubbish,
    _event_rubbish,
    _beat_rubbish,
)


def _envelope(arena: Arena) -> bytes:
    invocation = arena.call("relay", "Ledger.Refused", b"rubbish")
    # Never what could be taken for a call of the workload.
    return encode_request(invocation, now=invocation.deadline)


def _mangled(rng: random.Random, data: bytes) -> bytes:
    match rng.randrange(4):
        case 0:
            return data[: rng.randrange(len(data))]
        case 1:
            at = rng.randrange(len(data))
            return data[:at] + rng.randbytes(3) + data[at + 1 :]
        case 2:
            return rng.randbytes(rng.randrange(200))
        case _:
            return data + rng.randbytes(5)


class PurgedBucket(Nemesis):
    """The bucket of links is empty all of a sudden; what runs must go on with what it knew.

    Nobody writes links meanwhile, and at the end they are put back as from a backup.
    """

    name = "bucket purged"
    bound_s = 10.0
    deleted = False

    async def inject(self, window: Window) -> str:
        self.arena.links_writable.clear()
        # Whoever is writing has a deadline.
        await asyncio.sleep(2.5)
        self._client = await nats.connect(self.arena.urls[0])
        self._jetstream = self._client.jetstream(timeout=5)
        bucket = subjects.state_bucket(LATTICE)
        store = await self._jetstream.key_value(bucket)
        self._backup = {}
        for key in await store.keys():
            self._backup[key] = (await store.get(key)).value
        self._stream = f"KV_{bucket}"
        self._config = (await self._jetstream.stream_info(self._stream)).config
        if self.deleted:
            await self._jetstream.delete_stream(self._stream)
        else:
            await self._jetstream.purge_stream(self._stream)
        return bucket

    async def heal(self) -> None:
        bucket = subjects.state_bucket(LATTICE)
        if self.deleted:
            with suppress(nats.js.errors.BadRequestError):
                await self._jetstream.add_stream(self._config)
        store = await self._jetstream.key_value(bucket)
        for key, value in self._backup.items():
            with suppress(nats.js.errors.KeyWrongLastSequenceError):
                await store.create(key, value or b"")
        await self._client.close()
        self.arena.links_writable.set()


class DeletedBucket(PurgedBucket):
    """The bucket of links is gone, stream and all."""

    name = "bucket deleted"
    deleted = True


class DiskFull(Nemesis):
    """JetStream has no room left: writes are refused, and everything else goes on."""

    name = "disk full"
    lasts_s = (2.0, 4.0)
    rest_s = 5.0
    total = True
    servers = frozenset({1})

    async def inject(self, window: Window) -> str:
        self._client = await nats.connect(self.arena.urls[0])
        self._jetstream = self._client.jetstream(timeout=5)
        await self._jetstream.add_stream(name=FILLER, subjects=[FILLER])
        filler = bytes(FILLER_BYTES)
        with suppress(nats.js.errors.APIError, nats.errors.Error):
            while True:
                await self._jetstream.publish(FILLER, filler)
        return "JetStream"

    async def heal(self) -> None:
        await self._jetstream.delete_stream(FILLER)
        await self._client.close()


NEMESES: tuple[type[Nemesis], ...] = (
    KillHost,
    DrainHost,
    FreezeHost,
    ClockJump,
    KillProvider,
    FreezeProvider,
    KillOnlyServer,
    FreezeOnlyServer,
    KillLeader,
    KillFollower,
    Partition,
    BriefPartition,
    Deaf,
    Mute,
    HalfOpen,
    Reset,
    Flapping,
    Latency,
    Throttle,
    MaliciousGuests,
    Cycle,
    Flood,
    Rubbish,
    PurgedBucket,
    DeletedBucket,
    DiskFull,
)


def by_name(names: Iterable[str] = (), *, servers: int) -> dict[str, type[Nemesis]]:
    """The faults that make sense with so many nats-servers, or those named of them."""
    wanted = set(names)
    found = {
        nemesis.name: nemesis
        for nemesis in NEMESES
        if servers in nemesis.servers and (not wanted or nemesis.name in wanted)
    }
    assert not wanted - found.keys(), f"no such faults here: {sorted(wanted - found.keys())}"
    return found
