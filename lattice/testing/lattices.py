"""A lattice for one test, with capabilities at hand.

The host and the NATS are the real ones. What an actor's links lead to is a ``Capability``, which
records calls and has them answered: by a function of the test, or by a provider that is started
when it is first needed, with its data in memory.
"""

import asyncio
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from lattice import binaries, errors, installed, limits, names, workbench
from lattice.binaries import Abi
from lattice.bus import Message
from lattice.testing import web
from lattice.testing.actors import Actor, Module, content
from lattice.testing.background import Background, Pending
from lattice.testing.capabilities import Capability, Disturbance, Function, failure
from lattice.testing.ground import Ground, free_address, now_s
from lattice.testing.stores import KeyValue
from lattice.testing.web import Web
from lattice.wire import codec, control
from lattice.wire import invocation as wire
from lattice.wire.invocation import Invocation, Reply

KEYVALUE = ("wasmcloud:keyvalue", "wasi:keyvalue")
"""Interfaces of one and the same store."""

MESSAGES_MAX = 10_000
"""Messages that are held for a test; older ones are dropped first."""

IN_MEMORY: Mapping[str, Mapping[str, str]] = {
    "blobstore": {"backend": "memory"},
    "keyvalue": {"backend": "memory"},
}
"""By provider the config with which it leaves nothing behind."""

OUTSIDE = frozenset({"http-client"})
"""Providers that reach beyond the lattice: a test says itself what is there (``Lattice.web``)."""

OFFERED: Mapping[str, str] = {
    "wasi:blobstore": "blobstore",
    "wasi:keyvalue": "keyvalue",
    "wasmcloud:blobstore": "blobstore",
    "wasmcloud:keyvalue": "keyvalue",
    "wasmcloud:messaging": "messaging",
}
"""What every actor finds that a test starts by itself: a provider by package, if it is installed.
"""


class Messages:
    """Messages on a subject, from when it was asked for."""

    def __init__(self, background: Background) -> None:
        self._background = background
        self._waiting: deque[Message] = deque(maxlen=MESSAGES_MAX)
        self._arrived = asyncio.Event()

    def next(self, *, timeout_s: float = limits.CALL_TIMEOUT_S) -> Pending[bytes]:
        """The payload of the next one.

        Raises, when awaited:
            TimeoutError: none came in time.
        """

        async def take() -> bytes:
            async with asyncio.timeout(timeout_s):
                while not self._waiting:
                    self._arrived.clear()
                    await self._arrived.wait()
            return self._waiting.popleft().data

        return self._background.run(take())

    async def receive(self, message: Message) -> None:
        self._waiting.append(message)
        self._arrived.set()


@dataclass(slots=True, kw_only=True, eq=False)
class Backing:
    """A provider that capabilities pass calls on to, started when the first of them does."""

    id: str
    reference: str
    config: Mapping[str, str]
    link_config: Mapping[str, str] = field(default_factory=dict)
    """What it gets to know about links to it."""
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    runs: bool = False
    linked: set[str] = field(default_factory=set)
    """Ids of the capabilities that may call it."""

    def wants(self, other: "Backing") -> bool:
        """Whether one provider will do for both."""
        mine = (self.reference, self.config, self.link_config)
        return mine == (other.reference, other.config, other.link_config)


class Lattice:
    """A lattice and everything in it; made by ``opened``."""

    def __init__(self, background: Background, ground: Ground) -> None:
        self._background = background
        self._ground = ground
        self._capabilities: dict[tuple[str, str], Capability] = {}
        """By package and link name."""
        self._backings: list[Backing] = []
        self._behind: dict[tuple[str, str], Backing] = {}
        """What stands behind capabilities, by their package and link name."""
        self._actors: dict[str, Actor] = {}
        self._abis: dict[str, Abi] = {}
        self._addresses: dict[str, str] = {}
        """Where actors answer HTTP."""
        self._turn = asyncio.Lock()

    @property
    def nats_url(self) -> str:
        """For NATS clients of the test's own."""
        return self._ground.nats_url

    def start(
        self,
        module: Module,
        name: str = "actor",
        *,
        config: Mapping[str, str] | None = None,
        count: int = workbench.ACTOR_COUNT,
    ) -> Pending[Actor]:
        """Start an actor from the file, or the bytes, of its module or component.

        It is linked to every capability that is offered here, and to all that were faked before.
        ``count`` is how many of its calls may run at the same time.

        Raises, when awaited:
            LatticeError: it could not be started.
        """

        async def start() -> Actor:
            for package, provider in OFFERED.items():
                if installed.provider(provider) is not None:
                    await self.serve(package, "default", offered(package))
            actor = await self.run(module, name, config=config or {}, count=count)
            for capability in self._capabilities.values():
                await self._link(name, capability)
            return actor

        return self._background.run(start())

    def fake(
        self,
        interface: str,
        operations: Mapping[str, Function] | None = None,
        /,
        *,
        name: str = "default",
        raw: bool = False,
        **functions: Function,
    ) -> Capability:
        """Have functions answer what actors call on an interface, over links of this name.

        An operation is named in full (``{"Math.Add": …}``) or by what stands behind its last dot
        (``add=…``). A function gets the arguments, decoded from msgpack, and gives a value; a
        ``raw`` one gets and gives bytes. It may be a coroutine function, and raise a
        ``LatticeError``, which is what the actor then reads. What no function answers goes where it
        went before.
        """
        capability = self._at_hand(interface, name)
        capability.answer({**(operations or {}), **functions}, raw=raw)
        return capability

    def web(self, answer: Web, *, name: str = "default") -> list[Capability]:
        """Have a function answer the HTTP requests that actors send: httpx's, and its response.

        It gives the capabilities of both interfaces for that, which have the calls.
        """
        return [
            self.fake(package, web.functions(answer), name=name, raw=True)
            for package in web.PACKAGES
        ]

    def fail(
        self,
        interface: str,
        error: errors.LatticeError | type[errors.LatticeError] | str,
        *,
        operation: str | None = None,
        times: int | None = None,
        after_s: float = 0.0,
        name: str = "default",
    ) -> Disturbance:
        """Have calls on an interface fail from now on, or for the length of a ``with`` block.

        ``error`` may be a code, such as ``"unavailable"``. What is ``overloaded``, ``not_running``
        or ``draining`` the runtime repeats by itself, twice; ``times`` counts those as well.
        """
        disturbance = Disturbance(
            error=failure(error), operation=operation, delay_s=after_s, left=times
        )
        return self._at_hand(interface, name).disturb(disturbance)

    def slow(
        self,
        interface: str,
        by_s: float,
        *,
        operation: str | None = None,
        times: int | None = None,
        name: str = "default",
    ) -> Disturbance:
        """Have calls on an interface take longer; those whose deadline passes fail."""
        disturbance = Disturbance(error=None, operation=operation, delay_s=by_s, left=times)
        return self._at_hand(interface, name).disturb(disturbance)

    def capability(self, interface: str, *, name: str = "default") -> Capability:
        """Where actors' links for an interface lead: it has the calls that came.

        Raises:
            NotFound: no links lead there.
        """
        package = package_of(interface)
        if (found := self._capabilities.get((package, name))) is None:
            known = ", ".join(sorted({known for known, _ in self._capabilities})) or "none"
            raise errors.NotFound(
                f"no links named {name} lead to {package}; there are links to: {known}"
            )
        return found

    @property
    def keyvalue(self) -> KeyValue:
        """The key-value store that actors have behind their default link."""
        return self.store()

    def store(self, *, name: str = "default") -> KeyValue:
        """The key-value store behind links of a name, of either interface for that."""
        return KeyValue(self._background, partial(self._ask_behind, KEYVALUE[0], name))

    def ask(
        self, interface: str, operation: str, request: object = None, *, name: str = "default"
    ) -> Pending[Any]:
        """Ask the provider behind links of a name, as an actor would; it is not recorded.

        Request and answer are values, for a component's interface a list of arguments and their
        result: ``await lattice.ask("wasi:blobstore/container", "container.list-objects", ["a"])``.

        Raises, when awaited:
            NotFound: no provider stands there.
            LatticeError: what the provider says.
        """

        async def ask() -> Any:
            payload = b"" if request is None else codec.pack(request)
            answer = await self._ask_behind(interface, name, operation, payload)
            return codec.unpack(answer) if answer else None

        return self._background.run(ask())

    def link(
        self,
        source: str,
        interface: str,
        target: str,
        *,
        name: str = "default",
        source_config: Mapping[str, str] | None = None,
        target_config: Mapping[str, str] | None = None,
    ) -> Pending[None]:
        """Put a link, in place of one of that name; calls over it are not recorded."""

        async def put() -> None:
            await self._ground.delete_link(source, interface, name=name)
            await self._ground.put_link(
                source,
                interface,
                target,
                name=name,
                source_config=source_config,
                target_config=target_config,
            )

        return self._background.run(put())

    def unlink(self, source: str, interface: str, *, name: str = "default") -> Pending[None]:
        """Take a link away: what its source calls over it is ``no_link`` from then on."""
        return self._background.run(self._ground.delete_link(source, interface, name=name))

    def start_provider(
        self, provider: str, name: str, *, config: Mapping[str, str] | None = None
    ) -> Pending[None]:
        """Start a provider by its name or reference, to be linked by hand.

        Raises, when awaited:
            LatticeError: it could not be started.
        """
        reference = installed.reference(provider)
        return self._background.run(self._ground.start_provider(name, reference, config or {}))

    def publish(self, subject: str, payload: bytes = b"") -> Pending[None]:
        """Publish a message on NATS."""

        async def publish() -> None:
            await self._ground.bus.publish(subject, payload)
            await self._ground.bus.flush()

        return self._background.run(publish())

    def request(
        self, subject: str, payload: bytes = b"", *, timeout_s: float = limits.CALL_TIMEOUT_S
    ) -> Pending[bytes]:
        """Send a request on NATS, and give the payload of its answer.

        Raises, when awaited:
            NotRunning: nobody listens there.
            DeadlineExceeded: no answer came in time.
        """

        async def request() -> bytes:
            deadline = now_s() + timeout_s
            return (await self._ground.bus.request(subject, payload, deadline=deadline)).data

        return self._background.run(request())

    def messages(self, subject: str) -> Messages:
        """Listen to a subject of NATS, wildcards allowed, from now on."""

        async def listen() -> Messages:
            messages = Messages(self._background)
            await self._ground.bus.subscribe(subject, messages.receive)
            await self._ground.bus.flush()
            return messages

        return self._background.do(listen())

    # What follows runs on the background's own loop: it is for the fixtures, not for tests.

    async def run(
        self,
        module: Module,
        actor_id: str,
        *,
        config: Mapping[str, str],
        count: int = workbench.ACTOR_COUNT,
    ) -> Actor:
        """Start an actor without any links.

        Raises:
            LatticeError: it could not be started.
        """
        names.parse_entity(actor_id)
        wasm = await asyncio.to_thread(content, module)
        self._abis[actor_id] = binaries.read(wasm).abi
        await self._ground.put_config(actor_id, config)
        reference = await self._ground.upload(actor_id, wasm)
        await self._ground.scale(actor_id, reference=reference, count=count, config=actor_id)
        actor = Actor(
            actor_id,
            self._background,
            self._ground,
            address=partial(self.serve_http, actor_id),
        )
        self._actors[actor_id] = actor
        return actor

    async def serve(self, package: str, link_name: str, backing: Backing | None) -> Capability:
        """What stands where links of a name for a package lead; ``backing`` for a new one.

        Safe to call by many at once.
        """
        async with self._turn:
            if (found := self._capabilities.get((package, link_name))) is not None:
                return found
            capability = Capability(
                id=f"test-{package.replace(':', '-')}-{link_name}",
                interface=package,
                link_name=link_name,
            )
            if backing is not None:
                shared = self._behind[package, link_name] = self._shared(backing)
                capability.forward = partial(self._forward, capability, shared)
            await self._ground.serve(capability.id, capability)
            self._capabilities[package, link_name] = capability
            return capability

    async def serve_http(self, actor_id: str) -> str:
        """Put an actor behind a web server, unless it is; where it answers."""
        async with self._turn:
            if (known := self._addresses.get(actor_id)) is not None:
                return known
            address = free_address()
            provider_id = f"{actor_id}-{workbench.HTTP_SERVER}"
            reference = installed.reference(workbench.HTTP_SERVER)
            await self._ground.start_provider(provider_id, reference, {})
            is_component = self._abis.get(actor_id) is Abi.COMPONENT
            await self._ground.put_link(
                provider_id,
                "wasi:http/incoming-handler" if is_component else "wasmcloud:httpserver",
                actor_id,
                source_config={"address": address},
            )
            self._addresses[actor_id] = address
            return address

    async def lead(self, link: control.Link, backing: Backing | None) -> None:
        """Have a link lead to a capability instead of its target; made unless it is there."""
        package = f"{link.wit_namespace}:{link.wit_package}"
        capability = await self.serve(package, link.name, backing)
        await self._ground.put_link(
            link.source_id,
            package,
            capability.id,
            name=link.name,
            interfaces=link.interfaces,
        )

    async def aclose(self) -> None:
        for actor in self._actors.values():
            await actor.http.aclose()

    @property
    def ground(self) -> Ground:
        return self._ground

    def _at_hand(self, interface: str, name: str) -> Capability:
        """A capability that every actor is linked to."""

        async def serve() -> Capability:
            package = package_of(interface)
            is_known = (package, name) in self._capabilities
            capability = await self.serve(package, name, offered(package))
            if not is_known:
                for actor_id in self._actors:
                    await self._link(actor_id, capability)
            return capability

        return self._background.do(serve())

    async def _link(self, actor_id: str, capability: Capability) -> None:
        await self._ground.put_link(
            actor_id, capability.interface, capability.id, name=capability.link_name
        )

    def _shared(self, backing: Backing) -> Backing:
        """One provider for all capabilities that want the same one with the same config."""
        for known in self._backings:
            if known.wants(backing):
                return known
        self._backings.append(backing)
        backing.id = f"{backing.id}-{len(self._backings)}"
        return backing

    async def _ask_behind(
        self, interface: str, link_name: str, operation: str, payload: bytes
    ) -> bytes:
        package = package_of(interface)
        backing = self._behind.get((package, link_name))
        if backing is None and package in KEYVALUE:
            # One store has both faces, of which the actor may know one.
            known = (self._behind.get((each, link_name)) for each in KEYVALUE)
            backing = next((each for each in known if each is not None), None)
        capability = await self.serve(package, link_name, backing or offered(package))
        if capability.forward is None:
            raise errors.NotFound(f"no provider stands behind {package}, link name {link_name}")
        reply = await capability.forward(
            Invocation(
                source=capability.id,
                target=capability.id,
                interface=interface,
                operation=operation,
                payload=payload,
                deadline=now_s() + limits.CALL_TIMEOUT_S,
                link_name=link_name,
            )
        )
        return reply.payload

    async def _forward(
        self, capability: Capability, backing: Backing, invocation: Invocation
    ) -> Reply:
        """Have the provider behind a capability answer."""
        async with backing.turn:
            if not backing.runs:
                await self._ground.start_provider(backing.id, backing.reference, backing.config)
                backing.runs = True
            if capability.id not in backing.linked:
                await self._ground.put_link(
                    capability.id,
                    capability.interface,
                    backing.id,
                    name=capability.link_name,
                    target_config=backing.link_config,
                )
                backing.linked.add(capability.id)
        onward = replace(
            invocation,
            source=capability.id,
            target=backing.id,
            id=wire.new_id(),
            hops=invocation.hops + 1,
        )
        return await self._ground.call(onward)


def offered(package: str) -> Backing | None:
    """What stands behind a capability unless a project says otherwise."""
    provider = OFFERED.get(package)
    if provider is None or installed.provider(provider) is None:
        return None
    return faked(provider)


def faked(provider: str, config: Mapping[str, str] | None = None) -> Backing | None:
    """A provider that keeps in memory what it would keep elsewhere, or none that reaches outside.

    Others are as they are.
    """
    reference = installed.reference(provider)
    if (name := reference.rpartition("/")[2]) in OUTSIDE:
        return None
    return Backing(
        id=f"test-{workbench.provider_name(reference)}",
        reference=reference,
        config=IN_MEMORY.get(name, config or {}),
    )


def package_of(interface: str) -> str:
    """Namespace and package of an interface, by which links are looked up.

    Raises:
        InvalidRequest: it is none.
    """
    parsed = names.parse_interface(interface)
    return f"{parsed.namespace}:{parsed.package}"


@contextmanager
def opened(background: Background, data_dir: Path) -> Iterator[Lattice]:
    """A lattice of its own, taken down at the end. ``data_dir``: for what its host compiles.

    Raises:
        NotFound: no nats-server is installed.
    """
    stack = AsyncExitStack()

    async def start() -> Lattice:
        ground = Ground()
        await ground.open(stack, data_dir)
        lattice = Lattice(background, ground)
        stack.push_async_callback(lattice.aclose)
        return lattice

    try:
        yield background.do(start())
    finally:
        background.do(stack.aclose())
