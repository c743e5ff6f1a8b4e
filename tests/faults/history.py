"""One recorded history per run: what was asked of the lattice, what became of it, and the faults.

Append-only JSON lines. Every operation is two entries with one number: an ``invoke``, and later
``ok`` (it was done), ``fail`` (it was not), or ``info`` (nobody knows). What is only observed is
one ``info`` entry of its own.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

Phase = Literal["invoke", "ok", "fail", "info"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of a history."""

    at_s: float
    """Since the run began, on the clock that all processes of a machine share."""
    process: str
    """Who did or saw it."""
    kind: str
    phase: Phase
    operation: int
    """The same number in an ``invoke`` and in what became of it."""
    data: Mapping[str, Any] = field(default_factory=dict)

    def to_line(self) -> str:
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_line(cls, line: str) -> "Entry":
        return cls(**json.loads(line))


@dataclass(frozen=True, slots=True)
class Operation:
    """An invocation and what became of it."""

    invoke: Entry
    completion: Entry | None
    """None if nothing was ever heard."""

    @property
    def phase(self) -> Phase:
        """``info`` as well where nothing was heard: it may have been done, or be done later."""
        return "info" if self.completion is None else self.completion.phase

    @property
    def data(self) -> Mapping[str, Any]:
        return self.invoke.data

    @property
    def outcome(self) -> Mapping[str, Any]:
        return {} if self.completion is None else self.completion.data

    @property
    def evidence(self) -> tuple[Entry, ...]:
        return (self.invoke,) if self.completion is None else (self.invoke, self.completion)


class History:
    """Writes a history, and keeps it for the checkers."""

    def __init__(self, now: Callable[[], float], file: IO[str] | None = None) -> None:
        self._now = now
        self._file = file
        self._began_s = now()
        self._next = 0
        self._open: dict[int, Entry] = {}
        self.entries: list[Entry] = []

    def elapsed_s(self) -> float:
        return self._now() - self._began_s

    def invoke(self, process: str, kind: str, **data: Any) -> int:
        """Note that something is about to be asked; returns the operation's number."""
        self._next += 1
        entry = self._note(process, kind, "invoke", self._next, data)
        self._open[self._next] = entry
        return self._next

    def complete(self, operation: int, phase: Phase, **data: Any) -> None:
        """Note what became of an operation; only the first time counts."""
        if (invoke := self._open.pop(operation, None)) is not None:
            self._note(invoke.process, invoke.kind, phase, operation, data)

    def observe(self, process: str, kind: str, *, at: float | None = None, **data: Any) -> None:
        """Note something that was only seen; ``at`` on the clock that the history is kept by."""
        self._next += 1
        self._note(process, kind, "info", self._next, data, at)

    def _note(
        self,
        process: str,
        kind: str,
        phase: Phase,
        operation: int,
        data: Mapping[str, Any],
        at: float | None = None,
    ) -> Entry:
        entry = Entry(
            at_s=round((self._now() if at is None else at) - self._began_s, 6),
            process=process,
            kind=kind,
            phase=phase,
            operation=operation,
            data=data,
        )
        self.entries.append(entry)
        if self._file is not None:
            self._file.write(entry.to_line() + "\n")
        return entry


def operations(history: Iterable[Entry], *kinds: str) -> list[Operation]:
    """The operations of some kinds, in the order of their invocations."""
    found: dict[int, Operation] = {}
    for entry in history:
        if entry.kind not in kinds:
            continue
        if entry.phase == "invoke":
            found[entry.operation] = Operation(entry, None)
        elif (operation := found.get(entry.operation)) is not None:
            found[entry.operation] = Operation(operation.invoke, entry)
    return list(found.values())


def observations(history: Iterable[Entry], *kinds: str) -> Iterator[Entry]:
    """What was only seen, of some kinds."""
    return (entry for entry in history if entry.kind in kinds and entry.phase == "info")


def read(path: Path) -> Sequence[Entry]:
    """A history as it was written."""
    with path.open() as lines:
        return [Entry.from_line(line) for line in lines]
