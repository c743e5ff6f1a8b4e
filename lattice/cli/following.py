"""Following an app until the lattice says that it is what it should be."""

import asyncio
from collections.abc import Collection

from lattice import errors
from lattice.cli import output
from lattice.control.apps import AppClient, StatusStream
from lattice.wire.apps import ScalerStatus, Status, StatusType

WAIT_TIMEOUT_MS = 300_000
"""How long a command waits for an app: a rollout takes its time on every host."""

LOOK_S = 1.0
"""How long no status may come before one is asked for: the telling of one may be lost."""

STALE_S = 3.0
"""How long a status that was there before may last until it is taken for the new one as well."""

ROLLBACK_S = 30.0
"""How long an app that failed may take to go back before the command ends all the same."""

DEPLOYED = (StatusType.DEPLOYED, StatusType.FAILED)
"""What ends the wait for a deployed app."""

UNDEPLOYED = (StatusType.UNDEPLOYED,)


class NotYet(errors.DeadlineExceeded):
    """The app is not yet what it should be."""

    remedy = "it may still come: look with lattice app status, or wait longer"


async def follow(
    client: AppClient,
    stream: StatusStream,
    app: str,
    *,
    ends: Collection[StatusType],
    before: Status | None,
    version: str | None = None,
    timeout_ms: int,
) -> Status:
    """Show how an app gets on until its status is one of ``ends``, and return that.

    ``before`` is its status before the request that is followed. It is not taken for the outcome
    unless it stays, and success not at all if it names another version than the one asked for.
    Failure is followed until nothing moves any more, as what failed is rolled back.

    Raises:
        DeadlineExceeded: none in time; the text says how far it is.
    """
    loop = asyncio.get_running_loop()
    start = loop.time()
    end = start + timeout_ms / 1000
    progress = Progress(app)
    status = before
    failed_at: float | None = None
    while (left := end - loop.time()) > 0:
        told = await stream.next(timeout_s=min(LOOK_S, left))
        found = told or await _look(client, app)
        if found is None:
            continue
        status = found
        progress.show(status)
        stale = told is None and status == before and loop.time() - start < STALE_S
        if status.status.type not in ends or not _fits(status, version, stale=stale):
            failed_at = None
            continue
        failed_at = failed_at or loop.time()
        if not _goes_back(status) or loop.time() - failed_at > ROLLBACK_S:
            return status
    state = describe(status) if status is not None else "nothing is known of it"
    raise NotYet(f"app {app} was not done within {timeout_ms} ms: {state}")


class Progress:
    """Says on standard error what has changed since it was last asked to.

    Of what was well from the beginning there is nothing to say.
    """

    def __init__(self, app: str) -> None:
        self._app = app
        self._said: dict[str, str] = {}

    def show(self, status: Status) -> None:
        for scaler in status.scalers:
            text = f"{short_name(self._app, scaler)}: {_info(scaler)}"
            self._say(scaler.id, scaler.status.type, text)
        # Otherwise its own message is no more than those of its parts.
        own = status.status.type if status.scalers else describe(status)
        self._say("", status.status.type, f"{self._app}: {own}")

    def _say(self, key: str, kind: StatusType, text: str) -> None:
        if self._said.get(key, text if kind is StatusType.DEPLOYED else "") != text:
            output.note(text)
        self._said[key] = text


def describe(status: Status) -> str:
    """``reconciling``, and why if it says so."""
    info = status.status
    return f"{info.type}: {info.message}" if info.message else str(info.type)


def short_name(app: str, scaler: ScalerStatus) -> str:
    """A scaler's name with the components called as in the manifest: ids begin with the app's."""
    name = scaler.name or scaler.id
    for prefix in {f"{app}-", f"{app.replace('-', '_')}-"}:
        name = name.replace(prefix, "")
    return name


def _info(scaler: ScalerStatus) -> str:
    text = f"{scaler.kind} {scaler.status.type}"
    return f"{text}: {scaler.status.message}" if scaler.status.message else text


def _fits(status: Status, version: str | None, *, stale: bool) -> bool:
    """Whether a status may be the outcome; one of wadm's says no version."""
    if status.status.type is StatusType.DEPLOYED and status.version and version is not None:
        return status.version == version
    return not stale


def _goes_back(status: Status) -> bool:
    return status.status.type is StatusType.FAILED and any(
        scaler.status.type is StatusType.RECONCILING for scaler in status.scalers
    )


async def _look(client: AppClient, app: str) -> Status | None:
    """The status as of now; None while nobody can tell, as when a leader has just gone."""
    try:
        return await client.status(app)
    except errors.OutcomeUnknown:
        return None
    except errors.NotFound:
        # Deleted meanwhile, or never heard of by whoever answers.
        return None
