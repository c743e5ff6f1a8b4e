"""Commands that were sent: not repeated while they may still take effect, and ever more rarely.

Commands are absolute, so repeating one is harmless; the point is not to start something twice on
two hosts, and not to shout at a host that can't.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict

from lattice.reconcile.model import (
    Attempt,
    Command,
    Memory,
    ObservedProvider,
    StartProvider,
    StopProvider,
    digest,
)

COMPONENT_PATIENCE_S = 5.0
"""How long an actor or a link may take to show, wadm's own time; a repetition waits twice that."""

PROVIDER_PATIENCE_S = 60.0
"""How long a provider may take to show: it has to be fetched first. wadm's own time as well."""

REFUSED_PAUSE_S = 1.0
"""From the first refusal until the next try; doubled with each further one."""

PAUSE_S_MAX = 300.0
"""Longest pause before another try: what is mended is found mended within minutes."""

DOUBLINGS_MAX = 16
"""More of them only overflow; the pause has long been at its bound."""

FAILING_TRIES = 3
"""Refusals or unseen tries after which a host counts as one that can't; others do its share."""

SENT_MAX = 500
"""Commands sent by one decision; the rest follows, and meanwhile the memory stays small."""

FULL_PAUSE_S = 0.5
"""After a decision that sent as much as it may; hosts work on it meanwhile."""

ERROR_CHARS = 1_000
"""What is kept of an error's text: it is in the memory and in every status."""


class Attempts:
    """The attempts of a memory, while a decision is made."""

    def __init__(self, memory: Memory, now: float) -> None:
        self._now = now
        self._known = dict(memory.attempts)
        self._kept: dict[str, Attempt] = {}
        self._sent = 0

    def __bool__(self) -> bool:
        return bool(self._known or self._kept)

    def note_given_up(self, key: str, provider: ObservedProvider) -> None:
        """A host has tried for long, and failed: it is as if it had refused again and again."""
        if self.get(key) is None:
            self._kept[key] = Attempt(
                command=_start_of(provider.reference, provider.annotations),
                until=self._now + PAUSE_S_MAX,
                failures=FAILING_TRIES,
                refused=True,
                error=(provider.given_up or "")[:ERROR_CHARS],
            )

    def get(self, key: str) -> Attempt | None:
        return self._kept.get(key) or self._known.get(key)

    def count_under_way(self, key: str) -> int | None:
        """What a host's count will be by a command under way, None when there is none."""
        attempt = self.get(key)
        if attempt is None or attempt.refused or attempt.until <= self._now:
            return None
        return attempt.count

    def is_failing(self, key: str) -> bool:
        """Whether a host could not do it a few times, and its next try is still to come."""
        attempt = self.get(key)
        return (
            attempt is not None
            and (attempt.failures >= FAILING_TRIES or attempt.tries > FAILING_TRIES)
            and attempt.until > self._now
        )

    def end(self, key: str) -> float:
        """Until when it is waited for; now when it is not."""
        attempt = self.get(key)
        return attempt.until if attempt else self._now

    def error(self, key: str) -> str:
        """What a host answered that has refused for good, as far as one can tell."""
        attempt = self.get(key)
        return attempt.error if attempt and attempt.failures >= FAILING_TRIES else ""

    def tries(self, key: str) -> int:
        attempt = self.get(key)
        return attempt.tries if attempt else 0

    def may_send(self, command: Command, *, count: int = 0) -> bool:
        """Whether to send a command now; if so, it is noted as sent."""
        before = self.get(command.key)
        if self._sent >= SENT_MAX:
            self.keep(command.key)
            return False
        fingerprint = digest(type(command).__name__, asdict(command))
        same = {fingerprint}
        if isinstance(command, StartProvider):
            same.add(_start_of(command.reference, command.annotations))
        if before is None or before.command not in same:
            attempt = Attempt(command=fingerprint, until=0, count=count)
        elif before.until > self._now:
            self._kept[command.key] = before
            return False
        else:
            attempt = before.model_copy(
                update={"command": fingerprint, "tries": before.tries + 1, "refused": False}
            )
        attempt.until = self._now + _patience_s(command, attempt.tries)
        self._sent += 1
        self._kept[command.key] = attempt
        return True

    def keep(self, key: str) -> None:
        """Remember an attempt that is neither repeated nor given up."""
        if (attempt := self.get(key)) is not None:
            self._kept[key] = attempt

    def settle(self, key: str) -> None:
        """What was wanted is there."""
        self._kept.pop(key, None)
        self._known.pop(key, None)

    def remaining(self) -> dict[str, Attempt]:
        """What to remember: what was asked for, and what may still take effect."""
        under_way = {
            key: attempt for key, attempt in self._known.items() if attempt.until > self._now
        }
        return under_way | self._kept

    def ends(self) -> Iterator[float]:
        """When to look again."""
        if self._sent >= SENT_MAX:
            yield self._now + FULL_PAUSE_S
        yield from (attempt.until for attempt in self._kept.values())


def failed(memory: Memory, key: str, error: str, now: float) -> Memory:
    """The memory after a command was refused, or an event told that it failed.

    ``key`` is ``Command.key``. Of a command that is not remembered nothing is kept: it was somebody
    else's, or what it was for is there by now.
    """
    attempt = memory.attempts.get(key)
    if attempt is None:
        return memory
    failures = attempt.failures + 1
    pause_s = min(REFUSED_PAUSE_S * 2.0 ** min(failures - 1, DOUBLINGS_MAX), PAUSE_S_MAX)
    refused = attempt.model_copy(
        update={
            "failures": failures,
            "refused": True,
            "error": error[:ERROR_CHARS],
            "until": now + pause_s,
        }
    )
    apps = {
        # A link that could not be put again with its new configs looks as if it had been.
        name: app.model_copy(update={"links": app.links | {key: ""}}) if key in app.links else app
        for name, app in memory.apps.items()
    }
    return memory.model_copy(update={"attempts": memory.attempts | {key: refused}, "apps": apps})


def _start_of(reference: str, annotations: Mapping[str, str]) -> str:
    """Fingerprint of a start of which no more is known than what runs, or should, says of it."""
    return digest("start", reference, annotations)


def _patience_s(command: Command, tries: int) -> float:
    slow = isinstance(command, StartProvider | StopProvider)
    first_s = PROVIDER_PATIENCE_S if slow else COMPONENT_PATIENCE_S
    return min(first_s * 2.0 ** min(tries - 1, DOUBLINGS_MAX), PAUSE_S_MAX)
