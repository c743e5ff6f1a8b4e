"""One reconciler of many leads: the one that holds the lease.

The lease is a key of a bucket whose values die of age, and is only ever written by compare-and-set.
Its holder writes it anew every second and counts it as its own for less than its life, from before
each write, on its own monotonic clock: a process that was frozen knows at once that it has lost it.

Waiting for the lease to die would make a crash cost its whole life. The leader says twice a second
that it lives; when it has not for a while the others ask it directly, and NATS itself answers for a
process that is gone. Then one of them replaces it by compare-and-set. Should the old one live after
all, its next write to the lease or to the memory fails, and what it had begun is in the memory.
"""

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from uuid import uuid4

import structlog

from lattice import errors, subjects
from lattice.aio.tasks import TaskGroup
from lattice.bus import Bucket, Bus, Message, Subscription
from lattice.wire import reconciler as wire
from lattice.wire.reconciler import Leading

log = structlog.get_logger()

LEASE_S = 6.0
"""Life of the lease: a leader that is frozen for longer than that is replaced."""

RENEW_S = 1.0
"""Between renewals."""

MARGIN_S = 1.5
"""The leader stops so long before its lease dies: clocks drift, and the bucket is cleaned late."""

BEAT_S = 0.5
"""Between the leader's words that it lives."""

SILENCE_S = 1.2
"""After so long without a word the others ask: two beats may be late."""

SPREAD_S = 0.2
"""All hear of a leader's end at once: each waits up to so long before it tries to follow it."""

ASK_TIMEOUT_S = 1.0
"""A leader that does not answer by then may be frozen; its lease tells."""

ASK_AGAIN_S = 0.1
"""Between the two questions nobody must answer: interest spreads through a cluster with delay."""

LEASE_KEY = "leader"


@dataclass(slots=True)
class Term:
    """A time of leading."""

    epoch: int
    """Revision of the write that began it: grows from term to term, whoever leads."""
    revision: int
    """Of the latest renewal."""
    valid_until: float
    """On the event loop's clock."""

    @property
    def is_valid(self) -> bool:
        """Whether the lease is surely held at this moment."""
        return asyncio.get_running_loop().time() < self.valid_until


class Leader:
    """Takes part in the choice of a leader. ``open`` it; ``aclose`` it to resign."""

    def __init__(
        self,
        bus: Bus,
        lattice: str,
        *,
        name: str,
        won: Callable[[Term], None],
        lost: Callable[[], None],
        heard: Callable[[Leading], None],
    ) -> None:
        """``won`` and ``lost`` hear of our terms, ``heard`` of what the leader, we too, says."""
        self._bus = bus
        self._lattice = lattice
        self._holder = uuid4().hex
        self._name = name
        self._won = won
        self._lost = lost
        self._heard = heard
        # Until somebody has looked who else serves.
        self._stepped_back = True
        self._last: Leading | None = None
        """What the leader before us said last; its lease may be older."""
        self._term: Term | None = None
        self._bucket: Bucket
        self._tasks = TaskGroup("leader")
        self._subscriptions: list[Subscription] = []
        self._answering: Subscription | None = None
        self._word = asyncio.Event()
        self._resigned = False
        self._closing = False

    async def open(self) -> None:
        """Try for the lease once, and go on trying.

        Raises:
            Unavailable: JetStream is off, or does not answer.
        """
        self._bucket = await self._bus.bucket(subjects.lease_bucket(self._lattice), ttl_s=LEASE_S)
        self._bus.on_reconnect(self._doubt)
        beat = subjects.reconciler_beat(self._lattice)
        self._subscriptions = [
            await self._bus.subscribe(beat, self._on_beat),
            await self._bus.subscribe(
                subjects.reconciler_holder(self._lattice, self._holder), self._on_question
            ),
        ]
        await self._try()
        self._tasks.guard(self._keep, name="keep or follow the leader")
        self._tasks.guard(self._beat, name="say that we lead")

    async def aclose(self) -> None:
        """End our term, if we have one, so that another can begin at once. Safe to call twice."""
        self._closing = True
        await self._tasks.aclose()
        await self.resign()
        for subscription in self._subscriptions:
            await subscription.unsubscribe()
        self._subscriptions.clear()

    @property
    def term(self) -> Term | None:
        """Our term; whether it is still valid is another question."""
        return self._term

    @property
    def stepped_back(self) -> bool:
        """Whether nobody is to serve and decide; so it is until a leader has said otherwise."""
        return self._stepped_back

    async def step_back(self, stepped_back: bool) -> None:
        """Tell everybody that, as long as we lead, nobody serves and decides; or that we do."""
        self._stepped_back = stepped_back
        if self._term is not None:
            self._heard(self._leading)
            await self._say(self._leading)

    async def resign(self) -> None:
        """End our term, if we have one, so that another can begin at once."""
        if (term := self._end_term()) is not None:
            try:
                await self._bucket.delete(LEASE_KEY, expected=term.revision)
                await self._say(Leading(holder=None, name=self._name))
            except errors.LatticeError as error:
                log.info("the lease could not be given back; it dies of age", error=error.text)
        await self._stop_answering()

    @property
    def _leading(self) -> Leading:
        term = self._term
        return Leading(
            holder=self._holder,
            name=self._name,
            epoch=term.epoch if term else 0,
            stepped_back=self._stepped_back,
        )

    async def _keep(self) -> None:
        while True:
            if self._term is None:
                await self._wait_for_silence()
                await self._try()
            else:
                await asyncio.sleep(RENEW_S)
                await self._renew(self._term)

    async def _beat(self) -> None:
        while True:
            if self._term is not None and self._term.is_valid:
                await self._say(self._leading)
            await asyncio.sleep(BEAT_S)

    async def _try(self) -> None:
        """Take the lease if nobody holds it, or a process that is gone."""
        began = asyncio.get_running_loop().time()
        try:
            entry = await self._bucket.get(LEASE_KEY)
            before = wire.parse(entry.value) if entry is not None else None
            if entry is not None and not await self._is_gone(before):
                return
            expected = 0 if entry is None else entry.revision
            revision = await self._bucket.put(LEASE_KEY, self._value(), expected=expected)
        except errors.Conflict:
            # Somebody else was faster.
            return
        except (errors.Unavailable, errors.Denied) as error:
            log.debug("can't try for the lease now", error=error.text)
            return
        self._term = Term(epoch=revision, revision=revision, valid_until=began + LEASE_S - MARGIN_S)
        self._answering = await self._bus.subscribe(
            subjects.reconciler_state(self._lattice), self._on_question_to_the_leader
        )
        log.info("this reconciler leads", lattice=self._lattice, epoch=revision)
        # Nobody needs to look again who else serves when the leader before did a moment ago.
        if before is None:
            self._stepped_back = True
        elif self._last is None or self._last.holder != before.holder:
            self._stepped_back = before.stepped_back
        self._won(self._term)
        await self._say(self._leading)

    async def _is_gone(self, leading: Leading | None) -> bool:
        """Whether a lease's holder is surely no more."""
        if leading is None or leading.holder is None:
            # Not ours to judge: it dies of age.
            return False
        for pause_s in (ASK_AGAIN_S, 0):
            loop = asyncio.get_running_loop()
            try:
                answer = await self._bus.request(
                    subjects.reconciler_holder(self._lattice, leading.holder),
                    deadline=loop.time() + ASK_TIMEOUT_S,
                )
            except errors.NotRunning:
                await asyncio.sleep(pause_s)
                continue
            except errors.OutcomeUnknown:
                return False
            if (word := wire.parse(answer.data)) is not None:
                self._hear(word)
            return False
        log.warning("the reconciler that led is gone", name=leading.name)
        return True

    async def _renew(self, term: Term) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with asyncio.timeout(LEASE_S - MARGIN_S):
                term.revision = await self._bucket.put(
                    LEASE_KEY, self._value(), expected=term.revision
                )
            term.valid_until = began + LEASE_S - MARGIN_S
        except errors.Conflict:
            await self._look_again(term)
        except (errors.Unavailable, TimeoutError):
            if not term.is_valid:
                log.warning("the lease could not be renewed in time")
                self._end_term()
                await self._stop_answering()

    async def _look_again(self, term: Term) -> None:
        """Tell a renewal of our own, whose acknowledgement was lost, from another leader."""
        try:
            entry = await self._bucket.get(LEASE_KEY)
        except (errors.Unavailable, errors.Denied):
            return
        leading = wire.parse(entry.value) if entry else None
        if entry is not None and leading is not None and leading.holder == self._holder:
            term.revision = entry.revision
            await self._renew(term)
            return
        log.warning("another reconciler has taken the lease")
        self._end_term()
        await self._stop_answering()

    def _end_term(self) -> Term | None:
        term, self._term = self._term, None
        if term is not None:
            term.valid_until = 0.0
            self._lost()
        return term

    async def _stop_answering(self) -> None:
        if self._answering is not None:
            await self._answering.unsubscribe()
            self._answering = None

    def _doubt(self) -> None:
        """After a reconnection our lease may be another's: it counts again once it is renewed."""
        if self._term is not None:
            self._term.valid_until = 0.0

    async def _wait_for_silence(self) -> None:
        """Return when the leader has not been heard for too long, or has resigned."""
        while not self._resigned:
            self._word.clear()
            try:
                async with asyncio.timeout(SILENCE_S):
                    await self._word.wait()
            except TimeoutError:
                break
        self._resigned = False
        await asyncio.sleep(random.uniform(0, SPREAD_S))  # noqa: S311 - no secret

    async def _on_beat(self, message: Message) -> None:
        if (word := wire.parse(message.data)) is None:
            return
        if word.holder is None:
            self._resigned = True
            self._word.set()
        else:
            self._hear(word)

    def _hear(self, word: Leading) -> None:
        self._word.set()
        self._last = word
        # A leader follows nobody's word but its own.
        if self._term is None or word.holder == self._holder:
            self._stepped_back = word.stepped_back
            self._heard(word)

    async def _on_question(self, message: Message) -> None:
        if message.reply and not self._closing:
            with suppress(errors.Unavailable):
                await self._bus.publish(message.reply, self._value())

    async def _on_question_to_the_leader(self, message: Message) -> None:
        # One that was frozen and has just woken leads no more, though it does not know it yet.
        if self._term is not None and self._term.is_valid:
            await self._on_question(message)

    async def _say(self, word: Leading) -> None:
        try:
            payload = word.model_dump_json().encode()
            await self._bus.publish(subjects.reconciler_beat(self._lattice), payload)
        except errors.LatticeError as error:
            log.debug("the leader's word could not be sent", error=error.text)

    def _value(self) -> bytes:
        return self._leading.model_dump_json().encode()
