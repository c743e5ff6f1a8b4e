"""Waiting for what a host said it would do: it acknowledges at once and tells by an event later."""

from collections.abc import Awaitable, Callable, Mapping

from lattice import errors
from lattice.control.client import Event, EventStream

WAIT_TIMEOUT_MS = 30_000
"""How long a command waits for an outcome: to fetch and compile a large module takes seconds."""


class NoNews(errors.DeadlineExceeded):
    """The outcome did not become known in time."""

    remedy = "it may still come: look with lattice get inventory, or wait longer"


async def wait(
    stream: EventStream,
    *,
    done: str,
    failed: str,
    concerns: Mapping[str, str],
    timeout_ms: int,
    look: Callable[[], Awaitable[bool]],
    what: str,
) -> None:
    """Wait until an event ``done`` or ``failed`` comes whose data has the fields of ``concerns``.

    Events are delivered at most once, so when the time is up ``look`` has the last word.

    Raises:
        LatticeError: what the event of failure says.
        DeadlineExceeded: neither came, and ``look`` finds nothing.
    """
    event = await stream.wait_for(
        lambda event: event.name in (done, failed) and matches(event, concerns),
        timeout_s=timeout_ms / 1000,
    )
    if event is None:
        if not await look():
            raise NoNews(f"no news of {what} within {timeout_ms} ms")
    elif event.name == failed:
        raise failure(event)


def matches(event: Event, concerns: Mapping[str, str]) -> bool:
    return all(event.data.get(key) == value for key, value in concerns.items())


def failure(event: Event) -> errors.LatticeError:
    """The error that an event of failure stands for; wasmCloud 1.x's events have no code."""
    text, code = event.data.get("error"), event.data.get("code")
    cls = errors.BY_CODE.get(code) if isinstance(code, str) else None
    fallback = errors.ProviderError if event.name.startswith("provider") else errors.ActorError
    return (cls or fallback).from_parts(
        text if isinstance(text, str) and text else f"{event.name}, without a reason",
        at=event.source,
    )
