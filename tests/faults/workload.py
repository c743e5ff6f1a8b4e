"""What users do meanwhile: call in every way there is, write links and configs, scale, look on.

Everything is noted in the history before it is asked, and again when it is answered. Who does what
next is chosen by the run's seed; how the lattice interleaves it is its own affair.
"""

import asyncio
import itertools
import json
import random
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, suppress
from typing import Literal

import httpx

from lattice import errors, subjects
from lattice.aio.tasks import TaskGroup
from lattice.bus import Bucket, Bus, Message
from lattice.control.client import ControlClient
from lattice.state.links import Difference
from lattice.state.store import State
from lattice.wire import codec, control
from tests.faults.arena import (
    ACTORS,
    DATA_CALL_TIMEOUT_S,
    LATTICE,
    MAILBOX_CALLS,
    Arena,
)
from tests.faults.history import History, Phase

CALLERS = 8
CALLER_PAUSE_S = 0.03
CANARY_S = 0.1
"""Between canaries of one kind; each has a second, so that a second's outage is seen."""
CANARY_TIMEOUT_S = 1.0
WRITER_TURN_S = 0.3
"""All writers write at the same moments: only then does one get in the way of another."""
WRITERS = 3
"""Of links, and as many of configs and of registers."""
KEPT_SHARE = 0.4
REGISTERS = 2
"""Of configs, and as many of links."""
PENDING_MAX = 6
"""Operations of unknown outcome on one register, before a fresh one takes its place: the search
for an order doubles with each."""
REFUSED_PAUSE_S = 0.05
CAUGHT_UP_S = 10.0
STOP_S = 20.0
"""Far beyond every deadline of what users ask for."""
BUSY_ACTORS = len(ACTORS) + 2
HOST_MEMORY_BYTES_MAX = 600 * 1024 * 1024

Way = Literal["envelope", "door", "direct", "chain", "http", "keyed"]
WAYS: tuple[Way, ...] = ("envelope", "door", "direct", "chain", "http", "keyed")

KEYED_TRIES_MAX = 5
"""Of a caller with an idempotency key, until it has an answer; then it asks once more."""

LINK_SOURCE = "linker"
"""All links of the set have one source, and so one key that everybody writes."""


class Workload:
    """Users of one lattice. ``open`` them, then ``aclose``; ``final_reads`` when all is quiet."""

    def __init__(self, arena: Arena, seed: int, *, kept_share: float = KEPT_SHARE) -> None:
        """``kept_share``: of the links and configs that are added, how many are not removed."""
        self._kept_share = kept_share
        self._arena = arena
        self._history = arena.history
        self._seed = seed
        self._stopped = False
        self._users = TaskGroup("workload")
        self._observing = TaskGroup("observers")
        self._registers = Registers(arena.history)
        self._observers: list[Observer] = []
        self._stack = AsyncExitStack()
        self._http = httpx.AsyncClient(
            timeout=DATA_CALL_TIMEOUT_S, trust_env=False, base_url=arena.http_url
        )
        self._configs: Bucket
        self._links: Bucket

    async def open(self) -> None:
        """Start to follow the lattice, and then to use it."""
        arena = self._arena
        bus = await self._connect("users")
        self._configs = await bus.bucket(subjects.config_bucket(LATTICE))
        self._links = await bus.bucket(subjects.state_bucket(LATTICE))
        self._client = ControlClient(bus, LATTICE)
        proxied = tuple(proxy.url for proxy in arena.observer_proxies)
        for name, urls in (("observer 1", ()), ("observer 2", proxied)):
            observer = Observer(name, self._history)
            await observer.open(await self._connect(name, urls), self._observing)
            self._observers.append(observer)
        await bus.subscribe(subjects.beat(LATTICE, "*"), self._on_beat)
        for number in range(CALLERS):
            self._spawn(self._call_now_and_then, f"caller {number}")
        for number in range(WRITERS):
            self._spawn(self._change_links, f"linker {number}")
            self._spawn(self._change_configs, f"configurer {number}")
            self._spawn(self._use_registers, f"writer {number}")
        self._spawn(self._scale, "scaler")
        self._users.spawn(self._send_canaries(), name="canaries")

    async def stop(self) -> None:
        """Have everybody finish what they are at."""
        self._stopped = True
        with suppress(TimeoutError):
            async with asyncio.timeout(STOP_S):
                while len(self._users):  # noqa: ASYNC110 - they have no event in common
                    await asyncio.sleep(0.02)
        self._expect(not len(self._users), f"never answered: {self._users.names}")
        for host in self._arena.hosts:
            await self._arena.scale("elastic", "echo", 0, host)

    async def aclose(self) -> None:
        await self._users.aclose()
        await self._observing.aclose()
        await self._http.aclose()
        await self._stack.aclose()

    async def final_reads(self) -> None:
        """Read everything that was written, wherever it can be read."""
        history = self._history
        for key in self._registers.keys:
            await self._read_register("suite", key, final=True)
        # Any host answers; so many questions reach each of them.
        for _ in range(12):
            links = await self._client.links()
            names = sorted(link.name for link in links if link.source_id == LINK_SOURCE)
            history.observe("a host", "final", set="links", members=names)
        fresh = Observer("fresh observer", history)
        await fresh.open(await self._connect("fresh observer"), self._observing)
        for observer in (*self._observers, fresh):
            state = observer.state
            links = [link for link in state.links if link.source_id == LINK_SOURCE]
            history.observe(
                observer.name, "final", set="links", members=sorted(link.name for link in links)
            )
            configs = sorted(name for name in state.configs if name.startswith("set-"))
            history.observe(observer.name, "final", set="configs", members=configs)

    async def wait_caught_up(self) -> None:
        """Wait until everybody who follows the state has seen all of it, which they must."""
        for observer in self._observers:
            for bucket, mirror in (
                (self._links, observer.state._data_mirror),
                (self._configs, observer.state._config_mirror),
            ):
                extent = await bucket.extent()
                caught_up = await mirror.wait_for(extent.last_sequence, timeout_s=CAUGHT_UP_S)
                self._expect(caught_up, f"{observer.name} is behind with {bucket.name}")

    def _expect(self, met: bool, text: str) -> None:
        self._history.observe("workload", "expectation", met=met, text=text)

    async def _connect(self, name: str, urls: tuple[str, ...] = ()) -> Bus:
        return await self._arena.connect(name, urls, stack=self._stack)

    def _spawn(self, user: Callable[[str, random.Random], Awaitable[None]], name: str) -> None:
        async def go_on() -> None:
            rng = random.Random(f"{self._seed} {name}")
            try:
                while not self._stopped:
                    await user(name, rng)
            except Exception as error:
                # A fault of the suite, or an answer that nobody thought of: never to be missed.
                self._expect(False, f"{name} failed: {error!r}")

        self._users.spawn(go_on(), name=name)

    async def _send_canaries(self) -> None:
        """A call and a write every now and then, whatever became of those before."""
        numbers = itertools.count()
        flying = TaskGroup("canaries")
        while not self._stopped:
            number = next(numbers)
            flying.spawn(self._canary_call(number), name="canary call")
            flying.spawn(self._canary_write(number), name="canary write")
            await asyncio.sleep(CANARY_S)
        async with asyncio.timeout(10):
            while len(flying):  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.02)

    async def _canary_call(self, number: int) -> None:
        call_id = f"canary-{number}"
        operation = self._history.invoke("canary", "canary", of="call", call=call_id)
        await self._call("canary", "chain", call_id, CANARY_TIMEOUT_S, operation)

    async def _canary_write(self, number: int) -> None:
        operation = self._history.invoke("canary", "canary", of="write")
        try:
            await self._client.put_config("canary", {"number": str(number)})
        except errors.LatticeError as error:
            self._history.complete(operation, "fail", code=error.code, text=error.text)
        else:
            self._history.complete(operation, "ok")

    async def _call_now_and_then(self, name: str, rng: random.Random) -> None:
        way = rng.choice(WAYS)
        call_id = f"{name.replace(' ', '')}-{rng.getrandbits(48):012x}"
        for _ in range(KEYED_TRIES_MAX if way == "keyed" else 1):
            if await self._call(name, way, call_id, DATA_CALL_TIMEOUT_S):
                break
            await asyncio.sleep(REFUSED_PAUSE_S)
        if way == "keyed":
            await self._call(name, way, call_id, DATA_CALL_TIMEOUT_S)
        await asyncio.sleep(rng.uniform(0, 2 * CALLER_PAUSE_S))

    async def _call(
        self, name: str, way: Way, call_id: str, timeout_s: float, canary: int | None = None
    ) -> bool:
        history = self._history
        call = history.invoke(name, "call", call=call_id, way=way, timeout_s=timeout_s)
        try:
            answer = await self._send(way, call_id.encode(), timeout_s)
            if answer != call_id.encode():
                raise errors.InternalError(f"answered {answer[:100]!r}")
        except errors.LatticeError as error:
            outcome = {"code": error.code, "text": error.text, "at": error.at}
            for operation in (call, canary):
                if operation is not None:
                    history.complete(operation, "fail", **outcome)
            return False
        for operation in (call, canary):
            if operation is not None:
                history.complete(operation, "ok")
        return True

    async def _send(self, way: Way, payload: bytes, timeout_s: float) -> bytes:
        arena = self._arena
        match way:
            case "envelope" | "chain" | "direct":
                target = {"envelope": "relay", "chain": "front", "direct": "ledger"}[way]
                call = arena.call(target, "Ledger.Note", payload, timeout_s=timeout_s)
                return (await arena.rpc.call(call)).payload
            case "keyed":
                call = arena.call("relay", "Ledger.Note", payload, timeout_s=timeout_s)
                call.key = payload.decode()
                return (await arena.rpc.call(call)).payload
            case "door":
                return await self._through_the_door(payload, timeout_s)
            case "http":
                return await self._over_http(payload)

    async def _through_the_door(self, payload: bytes, timeout_s: float) -> bytes:
        message = await self._arena.bus.request(
            subjects.door(LATTICE, "relay", "Ledger.Note"),
            payload,
            headers={"Lattice-Timeout-Ms": str(int(timeout_s * 1000))},
            deadline=asyncio.get_running_loop().time() + timeout_s,
        )
        if (code := (message.headers or {}).get("Nats-Service-Error-Code")) is not None:
            raise _error(code, (message.headers or {}).get("Nats-Service-Error", ""))
        return message.data

    async def _over_http(self, payload: bytes) -> bytes:
        try:
            answer = await self._http.get(f"/{payload.decode()}")
        except httpx.TimeoutException as error:
            raise errors.DeadlineExceeded(f"HTTP: {error!r}") from None
        except httpx.HTTPError as error:
            # Refused while its host is away, or cut off in the middle.
            raise errors.Unavailable(f"HTTP: {error!r}") from None
        if (code := answer.headers.get("lattice-error")) is not None:
            raise _error(code, answer.text)
        return answer.content

    async def _change_links(self, name: str, rng: random.Random) -> None:
        writer = name.replace(" ", "")
        link_name = f"set-{writer}-{rng.getrandbits(40):010x}"

        async def put() -> None:
            await self._client.put_link(
                control.Link(
                    source_id=LINK_SOURCE,
                    target="nowhere",
                    name=link_name,
                    wit_namespace="test",
                    wit_package="set",
                )
            )

        async def delete() -> None:
            await self._client.delete_link(
                control.DeleteLink(
                    source_id=LINK_SOURCE, name=link_name, wit_namespace="test", wit_package="set"
                )
            )

        await self._add_and_remove(name, rng, "links", link_name, put, delete)

    async def _change_configs(self, name: str, rng: random.Random) -> None:
        config_name = f"set-{name.replace(' ', '')}-{rng.getrandbits(40):010x}"

        async def put() -> None:
            await self._client.put_config(config_name, {"of": name})

        async def delete() -> None:
            await self._client.delete_config(config_name)

        await self._add_and_remove(name, rng, "configs", config_name, put, delete)

    async def _add_and_remove(
        self,
        name: str,
        rng: random.Random,
        set_name: str,
        element: str,
        add: Callable[[], Awaitable[None]],
        remove: Callable[[], Awaitable[None]],
    ) -> None:
        """Add an element, and mostly remove it again; one of unknown fate is left alone."""
        await self._next_turn(set_name)
        added = await self._write(name, "add", add, set=set_name, element=element)
        if added == "ok" and rng.random() >= self._kept_share:
            await self._next_turn(set_name)
            await self._write(name, "remove", remove, set=set_name, element=element)

    async def _write(
        self, name: str, kind: str, write: Callable[[], Awaitable[None]], **data: object
    ) -> Phase:
        """Have something written, and say in which phase that ended."""
        operation = self._history.invoke(name, kind, **data)
        try:
            await write()
        except errors.LatticeError as error:
            # A bug by its own account, whatever came of the write.
            self._expect(error.code != "internal", f"a write of {name} failed: {error.text}")
            phase: Phase = "fail" if error.executed == "no" else "info"
            self._history.complete(operation, phase, code=error.code, text=error.text)
            return phase
        self._history.complete(operation, "ok")
        return "ok"

    async def _next_turn(self, what: str) -> None:
        """Wait for the next moment at which everybody writes, and may."""
        await asyncio.sleep(WRITER_TURN_S - asyncio.get_running_loop().time() % WRITER_TURN_S)
        if what == "links":
            await self._arena.links_writable.wait()

    async def _use_registers(self, name: str, rng: random.Random) -> None:
        kind: Literal["config", "link"] = rng.choice(("config", "link"))
        await self._next_turn(f"{kind}s")
        key = self._registers.choose(kind, rng)
        draw = rng.random()
        if draw < 0.4:
            await self._read_register(name, key)
        elif draw < 0.75:
            value = f"t-{rng.getrandbits(40):010x}"
            do = "put" if kind == "config" else "put_new"
            await self._write_register(name, key, do, value)
        else:
            await self._write_register(name, key, "delete", None)

    async def _write_register(self, name: str, key: str, do: str, value: str | None) -> None:
        async def write() -> None:
            if key.startswith("register-config"):
                if value is None:
                    await self._client.delete_config(key)
                else:
                    await self._client.put_config(key, {"value": value})
            elif value is None:
                await self._client.delete_link(
                    control.DeleteLink(source_id=key, wit_namespace="test", wit_package="register")
                )
            else:
                await self._client.put_link(
                    control.Link(
                        source_id=key, target=value, wit_namespace="test", wit_package="register"
                    )
                )

        if await self._write(name, "register", write, key=key, do=do, value=value) == "info":
            self._registers.note_unknown(key)

    async def _read_register(self, name: str, key: str, *, final: bool = False) -> None:
        operation = self._history.invoke(name, "register", key=key, do="read", final=final)
        is_config = key.startswith("register-config")
        bucket = self._configs if is_config else self._links
        try:
            entry = await bucket.get(key if is_config else subjects.component_key(key))
        except errors.LatticeError as error:
            self._history.complete(operation, "info", code=error.code, text=error.text)
            return
        value: str | None = None
        if entry is not None:
            fields = json.loads(entry.value)
            targets = [link["target"] for link in fields.get("links", [])]
            value = fields["value"] if is_config else next(iter(targets), None)
        self._history.complete(operation, "ok", value=value, key=key)

    async def _scale(self, _name: str, rng: random.Random) -> None:
        """Scale an actor of the suite's own up and down; its outcome shows in the inventory."""
        host = self._arena.victim(rng.random())
        with suppress(errors.LatticeError):
            await self._arena.scale("elastic", "echo", rng.choice((0, 1, 5, 20)), host)
        await asyncio.sleep(rng.uniform(0.5, 1.5))

    async def _on_beat(self, message: Message) -> None:
        try:
            beat = codec.unpack(message.data)
            host, waiting, memory = beat["id"], beat["waiting"], beat["memory"]
        except (errors.LatticeError, KeyError, TypeError):
            # Somebody else's.
            return
        note = self._history.observe
        note(
            host, "figure", figure="calls waiting", value=waiting, most=MAILBOX_CALLS * BUSY_ACTORS
        )
        note(host, "figure", figure="memory bytes", value=memory, most=HOST_MEMORY_BYTES_MAX)


class Registers:
    """Keys that several write at once; one that too much is unknown of is replaced."""

    def __init__(self, history: History) -> None:
        self._history = history
        self._unknown: dict[str, int] = {}
        self._current: dict[tuple[str, int], str] = {}
        self.keys: list[str] = []
        """Every key that was ever used."""

    def choose(self, kind: str, rng: random.Random) -> str:
        place = (kind, rng.randrange(REGISTERS))
        key = self._current.get(place)
        if key is None or self._unknown.get(key, 0) >= PENDING_MAX:
            key = self._current[place] = f"register-{kind}-{len(self.keys)}"
            self.keys.append(key)
        return key

    def note_unknown(self, key: str) -> None:
        self._unknown[key] = self._unknown.get(key, 0) + 1


class Observer:
    """Follows the state as a host does, and notes what it sees of registers."""

    def __init__(self, name: str, history: History) -> None:
        self.name = name
        self._history = history
        self._state: State | None = None

    @property
    def state(self) -> State:
        assert self._state is not None
        return self._state

    async def open(self, bus: Bus, tasks: TaskGroup) -> None:
        self._state = await State.open(bus, LATTICE, self, tasks)
        self.configs_changed(frozenset(self._state.configs))
        self.links_changed(Difference(tuple(self._state.links), ()))

    def links_changed(self, difference: Difference) -> None:
        if self._state is None:
            # What stands there already is noted once all of it has been read.
            return
        changed = (link.source_id for link in (*difference.put, *difference.deleted))
        for source in _registers(changed):
            links = [link for link in self._state.links.of(source) if link.source_id == source]
            self._see(source, links[0].target if links else None)

    def configs_changed(self, config_names: frozenset[str]) -> None:
        if self._state is None:
            return
        for name in _registers(config_names):
            config = self._state.config(name)
            self._see(name, config["value"] if config else None)

    def _see(self, key: str, value: str | None) -> None:
        self._history.observe(self.name, "seen", key=key, value=value)


def _registers(names: Iterable[str]) -> list[str]:
    return sorted({name for name in names if name.startswith("register-")})


def _error(code: str, text: str) -> errors.LatticeError:
    cls = errors.BY_CODE.get(code)
    return cls.from_parts(text) if cls is not None else errors.InternalError(f"{code}: {text}")
