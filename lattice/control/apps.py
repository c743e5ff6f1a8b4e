"""One method per request of wadm's API for apps, and ours beside it, ``plan``.

It asks whoever serves that API on the lattice: one of our reconcilers, or a real wadm. Everything
here is acknowledged at once and done later; ``statuses`` tells how far it is.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Protocol, TypeVar

import structlog

from lattice import errors, limits, names, subjects
from lattice.bus import Bus, Message
from lattice.wire import apps
from lattice.wire.apps import Status, StatusType, Summary, VersionInfo

log = structlog.get_logger()

STATUSES_WAITING_MAX = 100
"""Statuses held for a slow reader; the older ones say nothing that the newer ones don't."""


class Answered(Protocol):
    """What every answer has."""

    @property
    def result(self) -> str: ...

    @property
    def message(self) -> str: ...

    @property
    def code(self) -> str | None: ...


A = TypeVar("A", bound=Answered)


class NobodyServes(errors.Unavailable):
    """The API has no server on this lattice."""

    remedy = "start one with: lattice host, or lattice reconcile"


class NoPlan(errors.Unavailable):
    """The API is served, but by something that can't plan."""

    remedy = "a wadm can't plan; deploying is the only way to see what it does"


class NoLeader(errors.Unavailable):
    """One of the reconcilers is about to lead, and until then none of them can plan."""

    remedy = "try again in a few seconds"


class NoApp(errors.NotFound):
    """There is no app of that name, or no such version of it."""

    remedy = "see which there are with: lattice app list"


class AppClient:
    """Asks the app server of one lattice.

    Every method may raise ``Unavailable`` when NATS is away or nobody serves the API,
    ``DeadlineExceeded``, and what the server refuses with.
    """

    def __init__(
        self, bus: Bus, lattice: str, *, timeout_s: float = limits.CONTROL_TIMEOUT_S
    ) -> None:
        self._bus = bus
        self._lattice = lattice
        self._timeout_s = timeout_s

    async def put(self, manifest: str) -> apps.PutAnswer:
        """Store a version of an app: the text as it is, YAML or JSON.

        Raises:
            AlreadyExists: there is such a version.
            InvalidRequest: the manifest has an error.
        """
        message = await self._ask("put", body=manifest.encode())
        return _done(_parsed(apps.PutAnswer, message))

    async def get(self, app: str, version: str | None = None) -> dict[str, Any]:
        """A version's manifest as JSON; without a version, that of the one put last.

        Raises:
            NotFound: no such app, or version.
        """
        body = apps.GetRequest(version=version).encode() if version is not None else b""
        answer = _done(_parsed(apps.GetAnswer, await self._ask("get", app, body)))
        if answer.manifest is None:
            raise errors.InvalidRequest("the server answered without a manifest")
        return answer.manifest

    async def summaries(self) -> list[Summary]:
        """Every app, by name."""
        message = await self._ask("get")
        found = _done(_parsed(apps.ListAnswer, message)).models
        return sorted(found, key=lambda summary: summary.name)

    async def versions(self, app: str) -> list[VersionInfo]:
        """An app's versions, oldest first.

        Raises:
            NotFound: no such app.
        """
        return _done(_parsed(apps.VersionsAnswer, await self._ask("versions", app))).versions

    async def deploy(self, app: str, version: str | None = None) -> apps.DeployAnswer:
        """Have a version run; without one, that which was put last.

        Raises:
            NotFound: no such app, or version.
        """
        body = apps.DeployRequest(version=version).encode() if version is not None else b""
        return _done(_parsed(apps.DeployAnswer, await self._ask("deploy", app, body)))

    async def undeploy(self, app: str) -> apps.DeployAnswer:
        """Have nothing of it run any more.

        Raises:
            NotFound: no such app.
        """
        return _done(_parsed(apps.DeployAnswer, await self._ask("undeploy", app)))

    async def delete(self, app: str, version: str | None = None) -> apps.DeleteAnswer:
        """Forget a version, or all of them; what is deployed of it is undeployed.

        That there was none is no error: the result says ``noop`` then.
        """
        body = apps.DeleteRequest(version=version).encode() if version is not None else b""
        return _done(_parsed(apps.DeleteAnswer, await self._ask("del", app, body)))

    async def status(self, app: str) -> Status:
        """How far an app is.

        Raises:
            NotFound: no such app.
        """
        answer = _done(_parsed(apps.StatusAnswer, await self._ask("status", app)))
        status = answer.status or Status(status=apps.StatusInfo())
        if status.status.type is StatusType.UNDEPLOYED and not status.scalers:
            # What wadm also says of an app that it has never heard of.
            await self.versions(app)
        return status

    async def plan(
        self,
        *,
        manifest: str | None = None,
        app: str | None = None,
        version: str | None = None,
    ) -> apps.PlanAnswer:
        """What deploying a manifest, or a version that was put, would change, and why.

        Raises:
            NotFound: no such app, or version.
            InvalidRequest: the manifest has an error.
            Unavailable: whoever serves the API can't tell, as a real wadm.
        """
        request = apps.PlanRequest(manifest=manifest, name=app, version=version)
        try:
            message = await self._request(subjects.app_plan(self._lattice), request.encode())
        except NobodyServes:
            # Only the leader plans. Raises the same if nobody serves the rest either.
            if _parsed(apps.ListAnswer, await self._ask("get")).served_by is not None:
                raise NoLeader("no reconciler leads at the moment") from None
            raise NoPlan("what serves the apps of this lattice can't plan") from None
        return _done(_parsed(apps.PlanAnswer, message))

    @asynccontextmanager
    async def statuses(self, app: str) -> AsyncIterator["StatusStream"]:
        """Listen to an app's status: it is told when it changes, at most once.

        Whoever must not miss the outcome asks for ``status`` as well, now and then.
        """
        stream = StatusStream()
        subject = subjects.app_status(self._lattice, names.parse_app(app))
        subscription = await self._bus.subscribe(subject, stream.receive)
        # Interest must have reached the server before the request whose outcome is awaited.
        await self._bus.flush()
        try:
            yield stream
        finally:
            await subscription.unsubscribe()

    async def _ask(self, operation: str, app: str | None = None, body: bytes = b"") -> Message:
        name = None if app is None else names.parse_app(app)
        return await self._request(subjects.app_api(self._lattice, operation, name), body)

    async def _request(self, subject: str, body: bytes) -> Message:
        if len(body) > self._bus.max_payload:
            raise errors.PayloadTooLarge("the request", len(body), self._bus.max_payload)
        deadline = asyncio.get_running_loop().time() + self._timeout_s
        try:
            return await self._bus.request(subject, body, deadline=deadline)
        except errors.NotRunning:
            raise NobodyServes(f"nobody serves apps on lattice {self._lattice!r}") from None


class StatusStream:
    """Statuses in the order of their arrival."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Status] = asyncio.Queue(STATUSES_WAITING_MAX)

    async def receive(self, message: Message) -> None:
        try:
            status = apps.parse(Status, message.data, what="app status")
        except errors.LatticeError as error:
            log.warning("an app's status can't be read", error=error.text)
            return
        if self._queue.full():
            self._queue.get_nowait()
        self._queue.put_nowait(status)

    async def next(self, *, timeout_s: float) -> Status | None:
        """The next status; None when none came in time."""
        try:
            async with asyncio.timeout(timeout_s):
                return await self._queue.get()
        except TimeoutError:
            return None


def _parsed(kind: type[A], message: Message) -> A:
    """Read an answer, which on failure may be no more than a result and a message.

    Raises:
        LatticeError: that failure.
        InvalidRequest: it is neither.
    """
    try:
        return apps.parse(kind, message.data, what="the answer")
    except errors.InvalidRequest:
        failure = apps.parse(apps.ErrorAnswer, message.data, what="the answer")
        raise _failure(failure) from None


def _done(answer: A) -> A:
    """The answer, unless it says that it was not done.

    Raises:
        LatticeError: what it says instead.
    """
    if answer.result in ("error", "notfound"):
        raise _failure(answer)
    return answer


def _failure(answer: Answered) -> errors.LatticeError:
    text = answer.message or "the server of the apps refused, without a reason"
    cls = errors.BY_CODE.get(answer.code or "")
    if answer.result == "notfound" or cls is errors.NotFound:
        return NoApp(text)
    if cls is not None:
        return cls.from_parts(text)
    # wadm has no codes, so its words must do.
    if text.endswith("already exists"):
        return errors.AlreadyExists(text)
    if "does not have a version" in text or "does not have the specified version" in text:
        return NoApp(text)
    return errors.InvalidRequest(text)
