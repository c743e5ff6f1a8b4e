"""Executes a call once per key, whichever process of the lattice gets it, and how often it comes.

A key is claimed by creating its record in the bucket, before anything is executed: of all who try
only one can. The others wait for the answer to appear there. Within a process all calls with one
key share one *flight*, so that at most one of them claims or looks.

A flight is not cancelled with those who wait for it: whoever lost its connection comes back with
the key, and wants the answer.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Protocol

import structlog

from lattice import errors, limits, subjects
from lattice.aio import retry
from lattice.aio.tasks import TaskGroup
from lattice.bus import Bucket, Bus
from lattice.idempotency import rules
from lattice.wire import invocation as wire
from lattice.wire import outcomes
from lattice.wire.invocation import Invocation, PayloadRef, Reply
from lattice.wire.outcomes import Outcome

log = structlog.get_logger()

POLL_S = 0.02
"""First pause before looking again whether a call elsewhere has its answer; doubled each time."""

POLL_MAX_S = 0.5

CLOSE_S = 1.0
"""How long those who still wait for an answer may take to get it when the process ends."""

Execute = Callable[[], Awaitable[Reply]]
"""Executes the call; raises nothing but errors of the list."""


class LargePayloads(Protocol):
    """Where answers lie that are too large for a record."""

    async def put(self, name: str, payload: bytes) -> PayloadRef: ...

    async def read(self, ref: PayloadRef) -> bytes: ...


@dataclass(frozen=True, slots=True, eq=False)
class _Flight:
    digest: bytes
    outcome: asyncio.Future[Reply | errors.LatticeError | None]
    """None when the time of the call that began it ran out before an answer appeared."""


@dataclass(frozen=True, slots=True)
class _Claim:
    bucket: Bucket
    name: str
    outcome: Outcome
    revision: int


class OncePerKey:
    """One process's calls with idempotency keys."""

    def __init__(self, bus: Bus, lattice: str, payloads: LargePayloads, *, at: str) -> None:
        self._bus = bus
        self._bucket_name = subjects.outcome_bucket(lattice)
        self._bucket: Bucket | None = None
        self._payloads = payloads
        self._at = at
        self._flights: dict[str, _Flight] = {}
        self._waiting = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._closing = False
        self._tasks = TaskGroup("calls with a key")
        self._now = asyncio.get_running_loop().time

    async def run(self, invocation: Invocation, execute: Execute) -> Reply:
        """Give the answer of the one call with this key, which may be this one.

        Cancelling it ends the wait, not the call.

        Raises:
            LatticeError: what the call failed with, now or when it was executed.
            Conflict: the key belongs to another payload.
            InvalidRequest: the key can't be one.
            Overloaded: as many calls with keys as allowed run or wait here.
            Unavailable: the key could not be claimed, and nothing was executed; or it is not known
                what came of the call that claimed it.
            DeadlineExceeded: no answer in time.
        """
        if max(self._waiting, len(self._flights)) >= limits.IDEMPOTENT_CALLS_MAX:
            raise errors.Overloaded(f"{self._waiting} calls with idempotency keys run here already")
        self._waiting += 1
        self._idle.clear()
        try:
            async with asyncio.timeout_at(invocation.deadline):
                return await self._share(invocation, execute)
        except TimeoutError:
            raise errors.DeadlineExceeded(
                "time ran out before the call with this idempotency key had an answer"
            ) from None
        finally:
            self._waiting -= 1
            self._note_idle()

    async def aclose(self) -> None:
        """Let calls that have ended be remembered and answered; give up the others."""
        self._closing = True
        try:
            async with asyncio.timeout(CLOSE_S):
                await self._idle.wait()
        except TimeoutError:
            log.warning("calls with idempotency keys are given up", calls=len(self._flights))
        await self._tasks.aclose()

    async def _share(self, invocation: Invocation, execute: Execute) -> Reply:
        name, digest = rules.record_name(invocation), rules.digest_of(invocation.payload)
        while True:
            joined = flight = self._flights.get(name)
            if flight is None:
                flight = self._take_off(name, digest, invocation, execute)
            rules.check_payload(flight.digest, digest)
            outcome = await asyncio.shield(flight.outcome)
            if joined and isinstance(outcome, errors.Expired):
                # It was not executed, as the time of who began it was up. Ours may not be.
                outcome = None
            if isinstance(outcome, errors.LatticeError):
                # A copy: one error raised by call after call would gather all their tracebacks.
                raise outcome.from_parts(outcome.text, at=outcome.at, detail=outcome.detail)
            if outcome is not None:
                return outcome
            if self._now() >= invocation.deadline:
                raise TimeoutError

    def _take_off(
        self, name: str, digest: bytes, invocation: Invocation, execute: Execute
    ) -> _Flight:
        flight = _Flight(digest, asyncio.get_running_loop().create_future())
        self._flights[name] = flight
        task = self._tasks.spawn(
            self._fly(flight, name, invocation, execute), name="call with a key"
        )
        # For the ends that it does not come to by itself: cancelled with the process, or by a bug.
        task.add_done_callback(lambda task: self._land(name, flight, _lost(task)))
        return flight

    def _land(
        self, name: str, flight: _Flight, outcome: Reply | errors.LatticeError | None
    ) -> None:
        if flight.outcome.done():
            return
        # Both in one step: to join a flight that is over is no wait, and could go on for ever.
        del self._flights[name]
        flight.outcome.set_result(outcome)
        self._note_idle()

    def _note_idle(self) -> None:
        if self._waiting == 0 and not self._flights:
            self._idle.set()

    async def _fly(
        self, flight: _Flight, name: str, invocation: Invocation, execute: Execute
    ) -> None:
        outcome: Reply | errors.LatticeError | None
        try:
            outcome = await self._answer(flight, name, invocation, execute)
        except errors.LatticeError as error:
            outcome = error
        self._land(name, flight, outcome)

    async def _answer(
        self, flight: _Flight, name: str, invocation: Invocation, execute: Execute
    ) -> Reply | None:
        """Execute the call if its key can be claimed, or wait for the answer of who claimed it."""
        # A claim is not cut short by the deadline: made all the same, it would block the key.
        while (claim := await self._claim(name, invocation)) is None:
            try:
                async with asyncio.timeout_at(invocation.deadline):
                    answer = await self._await_answer(name, flight.digest)
            except TimeoutError:
                return None
            if answer is not None:
                return await self._replay(answer)
        return await self._execute(claim, invocation, execute)

    async def _claim(self, name: str, invocation: Invocation) -> _Claim | None:
        """Reserve the key for this call; None when somebody has it."""
        try:
            bucket = await self._open()
            outcome = rules.begun(
                invocation,
                at=self._at,
                left_s=invocation.deadline - self._now(),
                now_ms=_unix_ms(),
            )
            revision = await bucket.put(name, outcomes.encode(outcome), expected=0)
        except errors.Conflict:
            return None
        except errors.Unavailable as error:
            # Opened anew next time: somebody may have deleted it.
            self._bucket = None
            raise errors.Unavailable(
                f"the idempotency key could not be claimed, nothing was executed: {error.text}"
            ) from error
        return _Claim(bucket, name, outcome, revision)

    async def _await_answer(self, name: str, digest: bytes) -> bytes | None:
        """Wait for the answer of who has the key; None when it was given back."""
        bucket = await self._open()
        pauses = retry.backoff(POLL_S, max_s=POLL_MAX_S)
        while (entry := await bucket.get(name)) is not None:
            outcome = outcomes.decode(entry.value)
            answer = rules.recall(outcome, digest=digest, now_ms=_unix_ms())
            if answer is not None:
                return answer
            await asyncio.sleep(next(pauses))
            if self._closing:
                raise errors.Draining("the process ends that waited for the call's answer")
        return None

    async def _replay(self, answer: bytes) -> Reply:
        reply, ref = wire.decode_reply(answer)
        if ref is not None:
            reply.payload = await self._payloads.read(ref)
        return reply

    async def _execute(self, claim: _Claim, invocation: Invocation, execute: Execute) -> Reply:
        """Execute the call whose key was claimed, and have its outcome remembered."""
        try:
            reply = await execute()
        except errors.LatticeError as error:
            if rules.frees(error):
                await self._free(claim)
            else:
                error.at = error.at or self._at
                answer = wire.encode_error(invocation.id, error)
                if len(answer) > limits.IDEMPOTENT_ANSWER_BYTES:
                    short = error.from_parts(error.text, at=error.at)
                    answer = wire.encode_error(invocation.id, short)
                await self._remember(claim, answer)
            raise
        if len(reply.payload) <= limits.IDEMPOTENT_ANSWER_BYTES:
            await self._remember(claim, wire.encode_reply(invocation.id, reply))
        else:
            await self._remember_large(claim, invocation.id, reply)
        return reply

    async def _remember_large(self, claim: _Claim, call_id: str, reply: Reply) -> None:
        try:
            ref = await self._payloads.put(f"{call_id}.k", reply.payload)
        except errors.LatticeError as error:
            log.warning("an answer is not remembered", call=call_id, error=error.text)
        else:
            await self._remember(claim, wire.encode_reply(call_id, reply, ref=ref))

    async def _remember(self, claim: _Claim, answer: bytes) -> None:
        """Store the answer; should that fail, the key stays claimed and its outcome unknown."""
        outcome = replace(claim.outcome, answer=answer)
        try:
            await claim.bucket.put(claim.name, outcomes.encode(outcome), expected=claim.revision)
        except errors.LatticeError as error:
            log.warning("an answer is not remembered", call=outcome.call_id, error=error.text)

    async def _free(self, claim: _Claim) -> None:
        """Give the key back, before anybody hears that the call may be repeated."""
        try:
            await claim.bucket.delete(claim.name, expected=claim.revision)
        except errors.LatticeError as error:
            log.warning(
                "an idempotency key stays claimed", call=claim.outcome.call_id, error=error.text
            )

    async def _open(self) -> Bucket:
        if self._bucket is None:
            self._bucket = await self._bus.bucket(
                self._bucket_name,
                ttl_s=limits.IDEMPOTENCY_TTL_S,
                bytes_max=limits.IDEMPOTENCY_STORE_BYTES_MAX,
            )
        return self._bucket


def _lost(task: asyncio.Task[None]) -> errors.LatticeError:
    if task.cancelled():
        return errors.Cancelled("the call was abandoned")
    return errors.InternalError("a bug; the log of the host has it")


def _unix_ms() -> int:
    return time.time_ns() // 1_000_000
