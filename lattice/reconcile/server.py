"""Answers wadm's API, so that its clients need no other.

Every reconciler answers, whoever leads: what is asked for is read and written in the bucket. Only a
plan needs what the leader sees. Every answer of ours carries a header that tells it from a real
wadm's.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from lattice import errors, limits, subjects
from lattice.aio.tasks import TaskGroup
from lattice.bus import Bus, Message, Subscription
from lattice.reconcile.api import AppApi
from lattice.reconcile.model import App
from lattice.reconcile.store import Apps
from lattice.wire import apps as wire
from lattice.wire import invocation

log = structlog.get_logger()

SERVER_HEADER = "Lattice-Reconciler"
"""Header of every answer of ours: the name of the reconciler that gave it."""

PROBE_HEADER = "Lattice-Probe"
"""Header of a question that is only asked to see who answers."""

REQUESTS_MAX = 200
"""Requests in hand at a time; further ones are ``overloaded``."""

QUEUE = "lattice_reconciler"
"""One of us answers each request; a real wadm has another queue group, ``wadm_server``."""

T = TypeVar("T", bound=wire.Api)

Plan = Callable[[App], Awaitable[wire.PlanAnswer]]
"""What deploying an app would change."""


class AppServer:
    """Answers for the apps of one lattice, while it is open."""

    def __init__(self, bus: Bus, lattice: str, apps: Apps, *, name: str) -> None:
        """``name``: of the host, or what else this reconciler is called."""
        self._bus = bus
        self._lattice = lattice
        self._apps = apps
        self._name = name
        room = bus.max_payload - limits.ENVELOPE_BYTES_MARGIN
        self._api = AppApi(apps, name=name, room_bytes=room)
        self._tasks = TaskGroup("app requests")
        self._in_hand: set[asyncio.Task[None]] = set()
        self._subscription: Subscription | None = None

    async def open(self) -> None:
        """Begin to answer. Safe to call twice.

        Raises:
            Unavailable: NATS is away.
        """
        if self._subscription is None:
            self._subscription = await self._bus.subscribe(
                subjects.app_apis(self._lattice), self._on_request, queue=QUEUE
            )
            await self._bus.flush()

    async def aclose(self) -> None:
        """Answer what is in hand, and nothing more. Safe to call twice; it can be opened again."""
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            await subscription.drain()
        if self._in_hand:
            await asyncio.wait(self._in_hand, timeout=limits.CONTROL_TIMEOUT_S)
        await self._tasks.aclose()

    async def serve_plans(self, plan: Plan) -> Subscription:
        """Answer plans as well, as long as the subscription lasts; only the leader can.

        Raises:
            Unavailable: NATS is away.
        """

        async def answer(message: Message) -> None:
            await self._take(message, lambda: self._plan(message, plan))

        return await self._bus.subscribe(subjects.app_plan(self._lattice), answer)

    async def _on_request(self, message: Message) -> None:
        await self._take(message, lambda: self._answer(message))

    async def _take(self, message: Message, work: Callable[[], Awaitable[bytes]]) -> None:
        if len(self._in_hand) >= REQUESTS_MAX:
            refusal = errors.Overloaded("this reconciler has too many requests in hand")
            await self._reply(message, _refused(refusal))
            return
        task = self._tasks.spawn(self._serve(message, work), name=message.subject)
        self._in_hand.add(task)
        task.add_done_callback(self._in_hand.discard)

    async def _serve(self, message: Message, work: Callable[[], Awaitable[bytes]]) -> None:
        try:
            answer = await work()
        except errors.LatticeError as error:
            log.info("app request refused", subject=message.subject, error=error.text)
            answer = _refused(error)
        except Exception as error:
            reference = invocation.new_id()
            log.error("app request failed by a bug", reference=reference, exc_info=error)
            answer = _refused(errors.InternalError(f"a bug, logged on {self._name} as {reference}"))
        await self._reply(message, answer)

    async def _reply(self, message: Message, answer: bytes) -> None:
        if not message.reply:
            return
        headers = {SERVER_HEADER: self._name}
        try:
            await self._bus.publish(message.reply, answer, headers=headers)
        except errors.PayloadTooLarge as error:
            await self._bus.publish(message.reply, _refused(error), headers=headers)
        except (errors.Unavailable, errors.InvalidRequest) as error:
            log.warning("an app answer could not be sent", error=error.text)

    async def _answer(self, message: Message) -> bytes:
        if PROBE_HEADER in (message.headers or {}):
            return self._api.listing([]).encode()
        subject = subjects.parse_app_api(self._lattice, message.subject)
        await self._apps.catch_up()
        app = subject.app
        body = message.data
        match subject.operation:
            case "put" if app is None:
                return (await self._api.put(body, message.headers or {})).encode()
            case "get" if app is not None:
                return self._api.get(app, _request(wire.GetRequest, body, "get")).encode()
            case "get" if app is None:
                return self._api.listing(self._api.summaries()).encode()
            case "list" if app is None:
                return wire.encode_summaries(self._api.summaries())
            case "versions" if app is not None:
                return self._api.versions(app).encode()
            case "history" if app is not None:
                raise errors.InvalidRequest(
                    "Model deployment history is not currently supported."
                    " It may be added in a future version"
                )
            case "deploy" if app is not None:
                request = _request(wire.DeployRequest, body, "deploy")
                return (await self._api.deploy(app, request.version)).encode()
            case "undeploy" if app is not None:
                _request(wire.UndeployRequest, body, "undeploy")
                return (await self._api.undeploy(app)).encode()
            case "del" if app is not None:
                request_ = _request(wire.DeleteRequest, body, "delete")
                return (await self._api.delete(app, request_.version)).encode()
            case "status" if app is not None:
                return self._api.status(app).encode()
            case _:
                raise errors.InvalidRequest(f"Unsupported subject: {message.subject}")

    async def _plan(self, message: Message, plan: Plan) -> bytes:
        request = _request(wire.PlanRequest, message.data, "plan")
        await self._apps.catch_up()
        return (await plan(self._api.planned(request))).encode()


def _request(kind: type[T], body: bytes, what: str) -> T:
    """Read a request; an empty body asks for nothing special."""
    return wire.parse(kind, body or b"{}", what=f"{what} application request")


def _refused(error: errors.LatticeError) -> bytes:
    return wire.ErrorAnswer(message=error.text, code=error.code).encode()


async def somebody_else_serves(bus: Bus, lattice: str, *, timeout_s: float) -> bool:
    """Whether something answers wadm's API for this lattice that is not one of us.

    Raises:
        Unavailable: NATS is away.
    """
    answers = await bus.request_many(
        subjects.app_api(lattice, "get"), headers={PROBE_HEADER: "1"}, timeout_s=timeout_s
    )
    return any(SERVER_HEADER not in (answer.headers or {}) for answer in answers)
