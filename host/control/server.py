"""Subscribes to the control subjects, and turns every request into one reply, whatever is in it."""

import asyncio
from collections.abc import Awaitable, Callable, Collection

import structlog

from lattice import errors, limits, subjects
from lattice.aio.tasks import TaskGroup
from lattice.bus import Bus, Message, Subscription
from lattice.subjects import ControlSubject
from lattice.wire import control, invocation

log = structlog.get_logger()

REQUESTS_MAX = 1_000
"""Control requests in hand at a time; further ones are ``overloaded``."""

Handler = Callable[[ControlSubject, bytes], Awaitable[bytes | None]]
"""Answers a request; None for no reply at all, which auctions use to decline."""


class ControlServer:
    """One host's ear on the control subjects."""

    def __init__(
        self,
        bus: Bus,
        lattice: str,
        host_id: str,
        handlers: dict[tuple[str, str], Handler],
        *,
        prefix: str = subjects.CONTROL_PREFIX,
        auctions: Collection[str] = ("component", "provider"),
    ) -> None:
        """``handlers`` by noun and verb: the whole table of what is supported.

        ``auctions``: the nouns whose auctions are listened to.
        """
        self._bus = bus
        self._lattice = lattice
        self._prefix = prefix
        self._auctions = auctions
        self._host_id = host_id
        self._handlers = handlers
        self._tasks = TaskGroup("control requests")
        self._in_hand: set[asyncio.Task[None]] = set()
        self._subscriptions: list[Subscription] = []

    async def open(self) -> None:
        """Start to listen. Subjects and queue groups are wasmCloud 1.x's, exactly.

        Raises:
            Unavailable: NATS is away.
        """
        host_id = self._host_id
        for tokens in (
            ("host", "ping"),
            ("host", "*", host_id),
            *((noun, "auction") for noun in self._auctions),
            ("component", "*", host_id),
            ("provider", "*", host_id),
            ("label", "*", host_id),
            ("registry", "put"),
        ):
            await self._subscribe(self._subject(*tokens))
        # One host answers for the lattice: the queue group's name is the whole prefix.
        for noun, rest in (("link", "*"), ("claims", "get"), ("config", ">")):
            await self._subscribe(self._subject(noun, rest), queue=self._subject(noun))
        # Whoever hears that this host has started may ask it at once.
        await self._bus.flush()
        for subscription in self._subscriptions:
            subscription.check()

    async def aclose(self) -> None:
        """Stop listening, and finish what is in hand unless it takes too long."""
        await asyncio.gather(*(subscription.drain() for subscription in self._subscriptions))
        self._subscriptions.clear()
        if self._in_hand:
            await asyncio.wait(self._in_hand, timeout=limits.CONTROL_TIMEOUT_S)
        await self._tasks.aclose()

    def _subject(self, *tokens: str) -> str:
        return subjects.control(self._lattice, *tokens, prefix=self._prefix)

    async def _subscribe(self, subject: str, *, queue: str = "") -> None:
        self._subscriptions.append(
            await self._bus.subscribe(subject, self._on_request, queue=queue)
        )

    async def _on_request(self, message: Message) -> None:
        if len(self._in_hand) >= REQUESTS_MAX:
            refusal = errors.Overloaded("this host has too many control requests in hand")
            await self._reply(message, control.refused(refusal))
            return
        task = self._tasks.spawn(self._serve(message), name=message.subject)
        self._in_hand.add(task)
        task.add_done_callback(self._in_hand.discard)

    async def _serve(self, message: Message) -> None:
        reply: bytes | None
        try:
            subject = subjects.parse_control(self._lattice, message.subject, prefix=self._prefix)
            handler = self._handlers.get((subject.noun, subject.verb))
            if handler is None:
                raise errors.InvalidRequest("unsupported subject")
            reply = await handler(subject, message.data)
        except errors.LatticeError as error:
            log.info("control request refused", subject=message.subject, error=error.text)
            reply = control.refused(error)
        except Exception as error:
            reference = invocation.new_id()
            log.error("control request failed by a bug", reference=reference, exc_info=error)
            bug = errors.InternalError(f"a bug, logged on {self._host_id} as {reference}")
            reply = control.refused(bug)
        if reply is not None:
            await self._reply(message, reply)

    async def _reply(self, message: Message, reply: bytes) -> None:
        if not message.reply:
            return
        try:
            await self._bus.publish(message.reply, reply)
        except errors.PayloadTooLarge as error:
            await self._bus.publish(message.reply, control.refused(error))
        except (errors.Unavailable, errors.InvalidRequest) as error:
            log.warning("a control reply could not be sent", error=error.text)
