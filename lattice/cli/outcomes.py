"""Waiting for what a host said it would do: it acknowledges at once and tells by an event later."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress

from lattice import errors
from lattice.control.client import Event, EventStream

WAIT_TIMEOUT_MS = 300_000
"""How long a command waits for an outcome. The host has bounds of its own for fetching and
compiling, and says when it reaches them; this is for news that never come."""

LOOK_S = 10.0
"""How long no news may come before the host is looked at: it may be gone, or its event be lost."""


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

    Events are delivered at most once, so ``look``, which asks the host whether it is done, is
    called now and then, and has the last word when the time is up.

    Raises:
        NotFound: the host is gone.
        LatticeError: what the event of failure says.
        DeadlineExceeded: neither came, and ``look`` finds nothing.
    """
    loop = asyncio.get_running_loop()
    give_up = loop.time() + timeout_ms / 1000
    while True:
        event = await stream.wait_for(
            lambda event: event.name in (done, failed) and matches(event, concerns),
            timeout_s=min(LOOK_S, max(give_up - loop.time(), 0)),
        )
        if event is not None:
            if event.name == failed:
                raise failure(event)
            return
        # A host that is too busy to answer is there.
        with suppress(errors.DeadlineExceeded):
            if await look():
                return
        if loop.time() >= give_up:
            raise NoNews(f"no news of {what} within {timeout_ms} ms")


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
