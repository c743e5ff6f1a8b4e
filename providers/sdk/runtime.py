"""Runs a provider: its links, its calls, its health, its end. The same code in a process of its own
and inside a host.

The management subjects are wasmCloud 1.x's, so that a 1.x host can run our providers. What changes
the provider (links, configuration) goes through one queue in the order it arrived; calls go past
that queue, bounded, and wait briefly for a link that their host learned of before this one did.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from typing import Any

import structlog

from lattice import errors, limits, names, subjects
from lattice.aio import retry
from lattice.aio.tasks import TaskGroup
from lattice.bus import Bus, Message, Subscription
from lattice.rpc import Rpc, Service
from lattice.wire import codec, control
from lattice.wire.invocation import Invocation, Reply
from lattice.wire.provider import SHUTDOWN_REPLY, Health, HostData, ResolvedLink, Shutdown
from lattice.wire.streams import Source, Trailers
from providers.sdk.provider import Call, Provider, serves

log = structlog.get_logger()

CALLS_MAX = 10_000
"""Calls one provider executes at a time; further ones are ``overloaded`` at once."""

LINKS_MAX = 10_000
"""Links one provider holds."""

OFFER_AGAIN_S = 1.0
"""First pause before a refused link is offered again; grows to ``OFFER_AGAIN_S_MAX``."""

OFFER_AGAIN_S_MAX = 10.0

_LASTING = (errors.InvalidRequest, errors.Conflict, errors.Denied)
"""What only an operator mends; the provider then hears of it."""


class ProviderRuntime:
    """One running provider, and the context it is given."""

    def __init__(self, provider: Provider, data: HostData, *, bus: Bus, rpc: Rpc) -> None:
        self._provider = provider
        self._data = data
        self._bus = bus
        self._rpc = rpc
        self._config = data.config
        self._links = LinkBook(data.provider_key)
        self._calls = 0
        self._flows: set[Flow] = set()
        """Answers that flow: each is a call that has not ended."""
        self._idle = asyncio.Event()
        self._idle.set()
        self._turn = asyncio.Lock()
        self._tasks = TaskGroup(f"provider {data.provider_key}")
        self._subscriptions: list[Subscription] = []
        self._service: Service | None = None
        self._passed_on: Service | None = None
        """Calls that other copies pass on."""
        self._offering: asyncio.Task[None] | None = None
        self._log = log.bind(provider=data.provider_key)
        self.shutdown_requested = asyncio.Event()
        """Set when the host asked this copy to end; whoever runs it then calls ``aclose``."""
        self.drain_s = limits.PROVIDER_STOP_TIMEOUT_S
        """How long the host said that what runs has to end."""

    @property
    def provider_id(self) -> str:
        return self._data.provider_key

    @property
    def host_id(self) -> str:
        return self._data.host_id

    @property
    def lattice(self) -> str:
        return self._data.lattice_rpc_prefix

    @property
    def bus(self) -> Bus:
        return self._bus

    async def call(
        self,
        target: str,
        interface: str,
        operation: str,
        payload: bytes,
        *,
        timeout_s: float = limits.CALL_TIMEOUT_S,
        link_name: str = "default",
        key: str | None = None,
        trace: str | None = None,
    ) -> bytes:
        """Call an actor; see ``providers.sdk.Context``."""
        reply = await self.call_for_reply(
            target,
            interface,
            operation,
            payload,
            timeout_s=timeout_s,
            link_name=link_name,
            key=key,
            trace=trace,
        )
        return reply.payload

    async def call_for_reply(
        self,
        target: str,
        interface: str,
        operation: str,
        payload: bytes,
        *,
        timeout_s: float = limits.CALL_TIMEOUT_S,
        link_name: str = "default",
        key: str | None = None,
        trace: str | None = None,
        stream: Source | None = None,
        takes_stream: bool = False,
    ) -> Reply:
        """Call an actor; see ``providers.sdk.Context``."""
        return await self._rpc.call(
            Invocation(
                source=self.provider_id,
                target=target,
                interface=interface,
                operation=operation,
                payload=payload,
                deadline=asyncio.get_running_loop().time() + timeout_s,
                link_name=link_name,
                key=key,
                trace=trace,
                stream=stream,
                takes_stream=takes_stream,
            )
        )

    async def pass_on(self, call: Call, host_id: str) -> bytes:
        """Have another copy execute a call; see ``providers.sdk.Context``."""
        reply = await self._rpc.call(
            Invocation(
                source=self.provider_id,
                target=self.provider_id,
                interface=call.interface,
                operation=call.operation,
                payload=codec.pack([call.source, call.link.name, call.payload]),
                deadline=call.deadline,
                copy_host=host_id,
            )
        )
        return reply.payload

    async def start(self) -> None:
        """Start the provider, give it its links, and only then take calls.

        Raises:
            LatticeError: the provider could not start; it has been stopped again.
        """
        try:
            await self._provider.start(self, self._data.config)
            for link in self._data.link_definitions:
                await self.put_link(link)
            await self._subscribe()
            self._service = await self._rpc.serve(self.provider_id, self)
            self._passed_on = await self._rpc.serve_copy(self.provider_id, PassedOn(self))
        except BaseException as error:
            await self.aclose(drain_s=0)
            if isinstance(error, errors.LatticeError) or not isinstance(error, Exception):
                raise
            self._log.error("provider failed to start", exc_info=error)
            raise errors.InternalError(
                f"{self.provider_id} failed to start: {type(error).__name__}: {error}"
            ) from error
        self._log.info("provider started", links=len(self._links))

    async def put_link(self, link: ResolvedLink) -> None:
        """Take a link. One that the provider refuses is remembered with the reason.

        It is offered again by and by, unless only an operator can mend what is wrong with it.
        """
        if not self._links.concerns(link):
            return
        async with self._turn:
            known = self._links.get(link.key)
            if known == link:
                return
            if known is None and len(self._links) >= LINKS_MAX:
                self._log.error("too many links; one is ignored", limit=LINKS_MAX)
                return
            await self._offer([link])

    async def delete_link(self, link: ResolvedLink) -> None:
        """Forget a link; the provider hears of it if it ever had it."""
        async with self._turn:
            if (known := self._links.delete(link.key)) is not None:
                await self._attempt(self._provider.delete_link(known), "link could not be deleted")
                await self._offer(self._links.refused)

    async def update_config(self, config: dict[str, str]) -> None:
        """Pass on a changed configuration, and offer every link again, which it may change."""
        async with self._turn:
            if config == self._config:
                return
            if await self._attempt(self._provider.update_config(config), "config refused") is None:
                self._config = config
                await self._offer(self._links.all)

    async def health(self) -> Health | None:
        """Ask the provider: one that fails is not healthy, of one that is silent None is said."""
        timeout = asyncio.timeout(limits.HEALTH_TIMEOUT_S)
        try:
            async with timeout:
                return await self._provider.health()
        except Exception as error:
            if isinstance(error, TimeoutError) and timeout.expired():
                return None
            self._log.warning("health check failed", exc_info=error)
            return Health(healthy=False, message=f"the health check failed: {error}")

    def accept(self, invocation: Invocation) -> Awaitable[Reply]:
        """Execute a call over one of the provider's links.

        Raises:
            Overloaded: as many calls as allowed are running.
        """
        if self._calls >= CALLS_MAX:
            raise errors.Overloaded(f"{self.provider_id} executes {CALLS_MAX} calls already")
        # Counted here, not when the call's task gets to run: many may arrive before it does, and a
        # provider that is being stopped has to wait for all of them.
        self._calls += 1
        self._idle.clear()
        return self._execute(invocation)

    async def aclose(self, *, drain_s: float = limits.PROVIDER_STOP_TIMEOUT_S) -> None:
        """Take no more calls, let running ones end within ``drain_s``, stop the provider."""
        services = [each for each in (self._service, self._passed_on) if each is not None]
        self._service = self._passed_on = None
        for service in services:
            await service.aclose()
        try:
            async with asyncio.timeout(drain_s):
                await asyncio.gather(self._drain_provider(), self._finish_calls(services))
        except TimeoutError:
            self._log.warning("stopping with calls still running", calls=self._calls)
        for service in services:
            await service.abandon()
        for flow in list(self._flows):
            flow.close()
        for subscription in self._subscriptions:
            await subscription.unsubscribe()
        self._subscriptions.clear()
        await self._tasks.aclose()
        await self._attempt(self._stop_provider(), "provider failed to stop")

    async def _drain_provider(self) -> None:
        await self._attempt(self._provider.drain(), "provider failed to drain")

    async def _finish_calls(self, services: list[Service]) -> None:
        for service in services:
            await service.answered()
        await self._idle.wait()

    async def _stop_provider(self) -> None:
        # Inside a host nobody could kill one that hangs, and the host's own end would wait for it.
        async with asyncio.timeout(limits.PROVIDER_STOP_TIMEOUT_S):
            await self._provider.stop()

    async def _execute(self, invocation: Invocation) -> Reply:
        timeout = asyncio.timeout_at(invocation.deadline)
        flow = None
        try:
            if invocation.stream is not None and not self._provider.takes_streams:
                raise errors.InvalidRequest(f"{self.provider_id} takes no payload in pieces")
            async with timeout:
                link = await self._links.wait_for(
                    invocation.source, invocation.link_name, invocation.interface
                )
                answer = await self._provider.handle(
                    Call(
                        source=invocation.source,
                        link=link,
                        interface=invocation.interface,
                        operation=invocation.operation,
                        payload=invocation.payload,
                        deadline=invocation.deadline,
                        key=invocation.key,
                        stream=invocation.stream,
                        takes_stream=invocation.takes_stream,
                    )
                )
            reply = answer if isinstance(answer, Reply) else Reply(answer)
            if reply.stream is not None:
                flow = Flow(self, invocation, reply.stream)
                self._flows.add(flow)
                reply.stream = flow
        except TimeoutError:
            if not timeout.expired():
                # The provider's own: a bug, as whatever else escapes it.
                raise
            raise errors.DeadlineExceeded(
                f"{self.provider_id} did not finish {invocation.operation} in time"
            ) from None
        finally:
            if flow is None:
                self._end_call(invocation)
        return reply

    def named(self, error: Exception) -> errors.LatticeError:
        """What a caller hears of a failure within an answer that flows."""
        if isinstance(error, errors.LatticeError):
            return error
        self._log.error("an answer broke off by a bug", exc_info=error)
        return errors.InternalError(f"the answer of {self.provider_id} broke off: its log says why")

    def end_flow(self, flow: "Flow", invocation: Invocation) -> None:
        self._flows.discard(flow)
        self._end_call(invocation)

    def _end_call(self, invocation: Invocation) -> None:
        if invocation.stream is not None:
            invocation.stream.close()
        self._calls -= 1
        if self._calls == 0:
            self._idle.set()

    async def _offer(self, links: list[ResolvedLink]) -> None:
        """Put links; those that are refused, and need not be for ever, come again by and by."""
        for link in links:
            refusal = await self._attempt(self._provider.put_link(link), "link refused")
            self._links.put(link, refusal)
        if self._links.may_be_taken and (self._offering is None or self._offering.done()):
            self._offering = self._tasks.spawn(self._offer_again(), name="offer refused links")

    async def _offer_again(self) -> None:
        """Offer them now and then: an address in use, a store that is away, tell nobody later."""
        for pause_s in retry.backoff(OFFER_AGAIN_S, max_s=OFFER_AGAIN_S_MAX):
            await asyncio.sleep(pause_s)
            async with self._turn:
                await self._offer(self._links.refused)
                if not self._links.may_be_taken:
                    return

    async def _attempt(
        self, work: Coroutine[Any, Any, None], phrase: str
    ) -> errors.LatticeError | None:
        """Run one of the provider's hooks; its failure is logged and returned, never raised."""
        try:
            await work
        except errors.LatticeError as error:
            self._log.warning(phrase, code=error.code, error=error.text)
            return error
        except Exception as error:
            self._log.error(phrase, exc_info=error)
            return errors.InternalError(f"{self.provider_id}: {phrase}: {type(error).__name__}")
        return None

    async def _subscribe(self) -> None:
        provider_id, teller = self.provider_id, self._data.telling_host
        handlers: dict[str, Callable[[Message], Coroutine[Any, Any, None]]] = {
            subjects.link_put(self.lattice, provider_id, teller): self._on_link_put,
            subjects.link_delete(self.lattice, provider_id, teller): self._on_link_delete,
            subjects.config_update(self.lattice, provider_id, teller): self._on_config,
            subjects.provider_health(self.lattice, provider_id): self._on_health,
            subjects.provider_health(self.lattice, provider_id, self.host_id): self._on_health,
            subjects.provider_shutdown(self.lattice, provider_id): self._on_shutdown,
        }
        for subject, handler in handlers.items():
            self._subscriptions.append(await self._bus.subscribe(subject, self._hand_over(handler)))

    def _hand_over(
        self, handler: Callable[[Message], Coroutine[Any, Any, None]]
    ) -> Callable[[Message], Awaitable[None]]:
        async def receive(message: Message) -> None:
            self._tasks.spawn(self._guarded(handler, message), name=message.subject)

        return receive

    async def _guarded(
        self, handler: Callable[[Message], Coroutine[Any, Any, None]], message: Message
    ) -> None:
        try:
            await handler(message)
        except errors.LatticeError as error:
            self._log.warning("bad management message", subject=message.subject, error=error.text)

    async def _on_link_put(self, message: Message) -> None:
        await self.put_link(control.parse(ResolvedLink, message.data, what="link"))

    async def _on_link_delete(self, message: Message) -> None:
        await self.delete_link(control.parse(ResolvedLink, message.data, what="link"))

    async def _on_config(self, message: Message) -> None:
        await self.update_config(control.parse_config(message.data))

    async def _on_health(self, message: Message) -> None:
        health = await self.health()
        # Silence is told by silence, so that a host knows a provider that hangs from one that is
        # ill, which it would not replace.
        if health is not None:
            await self._reply(message, health.model_dump_json(exclude_none=True).encode())

    async def _on_shutdown(self, message: Message) -> None:
        request = control.parse(Shutdown, message.data, what="shutdown")
        # Every copy hears this; the one on the named host is meant.
        if request.host_id == self.host_id:
            if request.drain_ms is not None:
                self.drain_s = request.drain_ms / 1000
            await self._reply(message, SHUTDOWN_REPLY)
            self.shutdown_requested.set()

    async def _reply(self, message: Message, payload: bytes) -> None:
        if message.reply:
            await self._bus.publish(message.reply, payload)


class PassedOn:
    """What other copies of a provider pass on to this one, in the name of their callers."""

    def __init__(self, runtime: ProviderRuntime) -> None:
        self._runtime = runtime

    def accept(self, invocation: Invocation) -> Awaitable[Reply]:
        """Execute a call as if its caller had reached this copy.

        Raises:
            Denied: it does not come from a copy of the provider.
            InvalidRequest: it is not what a copy passes on.
            Overloaded: as many calls as allowed are running.
        """
        provider_id = self._runtime.provider_id
        if invocation.source != provider_id:
            raise errors.Denied(f"only copies of {provider_id} pass calls on to each other")
        match codec.unpack(invocation.payload):
            case [str(source), str(link_name), bytes(payload)]:
                return self._runtime.accept(
                    replace(invocation, source=source, link_name=link_name, payload=payload)
                )
        raise errors.InvalidRequest("a call that is passed on wants [source, link name, payload]")


class Flow:
    """The rest of a provider's answer: its call has ended when this has been read or closed."""

    def __init__(self, runtime: ProviderRuntime, invocation: Invocation, source: Source) -> None:
        self._runtime = runtime
        self._invocation = invocation
        self._source = source
        self._is_over = False
        self._error: errors.LatticeError | None = None
        loop = asyncio.get_running_loop()
        self._timer = loop.call_at(invocation.deadline, self._expire)

    @property
    def trailers(self) -> Trailers:
        return self._source.trailers

    async def read(self, size_max: int) -> bytes:
        content = b""
        try:
            if not self._is_over:
                content = await self._source.read(size_max)
        except Exception as error:
            self._break(error)
        if content:
            return content
        self.close()
        if self._error is not None:
            raise self._error
        return b""

    def close(self) -> None:
        if not self._is_over:
            self._is_over = True
            self._timer.cancel()
            self._source.close()
            self._runtime.end_flow(self, self._invocation)

    def _expire(self) -> None:
        self._break(
            errors.DeadlineExceeded(
                f"the answer to {self._invocation.operation} was not read by the call's deadline"
            )
        )

    def _break(self, error: Exception) -> None:
        # What ends it first is why: closing its source may fail who reads there.
        if not self._is_over:
            self._error = self._runtime.named(error)
            self.close()


class LinkBook:
    """A provider's links by key, those that it refused with the reason."""

    def __init__(self, provider_id: str) -> None:
        self._provider_id = provider_id
        self._links: dict[tuple[str, ...], ResolvedLink] = {}
        self._refusals: dict[tuple[str, ...], errors.LatticeError] = {}
        self._changed: asyncio.Future[None] | None = None

    def __len__(self) -> int:
        return len(self._links)

    def concerns(self, link: ResolvedLink) -> bool:
        return self._provider_id in (link.source_id, link.target)

    def get(self, key: tuple[str, ...]) -> ResolvedLink | None:
        return self._links.get(key)

    def put(self, link: ResolvedLink, refusal: errors.LatticeError | None) -> None:
        self._links[link.key] = link
        if refusal is None:
            self._refusals.pop(link.key, None)
        else:
            self._refusals[link.key] = refusal
        if self._changed is not None:
            self._changed.set_result(None)
            self._changed = None

    @property
    def all(self) -> list[ResolvedLink]:
        return list(self._links.values())

    @property
    def refused(self) -> list[ResolvedLink]:
        """Links that the provider did not take."""
        return [self._links[key] for key in self._refusals]

    @property
    def may_be_taken(self) -> bool:
        """Whether one was refused for a reason that may pass."""
        return any(not isinstance(refusal, _LASTING) for refusal in self._refusals.values())

    def delete(self, key: tuple[str, ...]) -> ResolvedLink | None:
        self._refusals.pop(key, None)
        return self._links.pop(key, None)

    def find(self, source: str, link_name: str, interface: names.Interface) -> ResolvedLink | None:
        key = (source, self._provider_id, link_name, interface.namespace, interface.package)
        link = self._links.get(key)
        return link if link is not None and serves(link, interface) else None

    async def wait_for(self, source: str, link_name: str, interface: str) -> ResolvedLink:
        """The link that a call came over; one that is on its way is waited for, shortly.

        Raises:
            InvalidRequest: the call names no interface.
            NoLink: there is none.
            LatticeError: the provider refused the link; its own reason.
        """
        parsed = names.parse_interface(interface)
        if (link := self.find(source, link_name, parsed)) is None:
            try:
                async with asyncio.timeout(limits.LINK_GRACE_S):
                    while (link := self.find(source, link_name, parsed)) is None:
                        self._changed = self._changed or asyncio.get_running_loop().create_future()
                        await asyncio.shield(self._changed)
            except TimeoutError:
                raise errors.NoLink(
                    source, link_name, interface, target=self._provider_id
                ) from None
        if (refusal := self._refusals.get(link.key)) is not None:
            # A copy: one error raised by call after call would gather all their tracebacks.
            raise refusal.copy()
        return link
