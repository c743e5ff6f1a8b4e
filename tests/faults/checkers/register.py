"""Every key behaves as if it had one copy, and its operations took effect one after the other.

The search is Wing and Gong's with Lowe's memory, as in porcupine: take any operation that began
before every other that is left has ended, try it, and never look twice at the same remaining
operations in the same state. An operation whose outcome nobody knows may have taken effect at any
time after it began, or never.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tests.faults.checkers import Violation
from tests.faults.history import Entry, Operation, operations

STEPS_MAX = 500_000
"""States that are looked at for one key; beyond it the key is undecided, which is a violation."""

State = str | None


@dataclass(frozen=True, slots=True)
class _Step:
    """An operation as the search sees it."""

    begins: float
    ends: float
    """Infinite where nobody knows the outcome."""
    apply: Callable[[State], tuple[bool, State]]
    """Whether the outcome fits a state, and the state afterwards."""
    operation: Operation


@dataclass(frozen=True, slots=True)
class RegisterChecker:
    """Of operations of kind ``register``: ``put``, ``put_new``, ``delete`` and ``read`` of a key.

    ``put_new`` is a link's: it takes effect only where nothing stands, or the same value; otherwise
    its outcome is a ``fail`` with code ``conflict``.
    """

    steps_max: int = STEPS_MAX

    def check(self, history: Sequence[Entry]) -> list[Violation]:
        by_key: defaultdict[str, list[Operation]] = defaultdict(list)
        for operation in operations(history, "register"):
            by_key[operation.data["key"]].append(operation)
        violations = []
        for key, found in sorted(by_key.items()):
            steps = [step for operation in found if (step := _step(operation)) is not None]
            verdict = linearize(steps, steps_max=self.steps_max)
            if verdict is None:
                continue
            text = (
                f"{key}: undecided after {self.steps_max} steps"
                if verdict == "undecided"
                else f"{key}: no order of its operations explains what was seen"
            )
            violations.append(Violation("register", text, _evidence(found, verdict)))
        return violations


def linearize(steps: Sequence[_Step], *, steps_max: int) -> "Operation | str | None":
    """None if an order exists; otherwise the operation at which the longest one got stuck."""
    ordered = sorted(steps, key=lambda step: step.begins)
    everything = (1 << len(ordered)) - 1
    must = sum(1 << n for n, step in enumerate(ordered) if step.ends != float("inf"))
    seen: set[tuple[int, State]] = {(everything, None)}
    stack: list[tuple[int, State]] = [(everything, None)]
    fewest, stuck = len(ordered) + 1, 0
    looked_at = 0
    while stack:
        left, state = stack.pop()
        if not left & must:
            return None
        looked_at += 1
        if looked_at > steps_max:
            return "undecided"
        candidates, first_end = _candidates(ordered, left)
        if (count := (left & must).bit_count()) < fewest:
            fewest, stuck = count, first_end
        # Those that are certain are tried first: the stack gives back what was put last.
        for number in sorted(candidates, key=lambda n: -ordered[n].ends):
            fits, after = ordered[number].apply(state)
            following = (left & ~(1 << number), after)
            if fits and following not in seen:
                seen.add(following)
                stack.append(following)
    return ordered[stuck].operation


def _candidates(ordered: Sequence[_Step], left: int) -> tuple[list[int], int]:
    """Operations that may be next, and the one that ends first of all that are left."""
    candidates: list[int] = []
    first_end, which = float("inf"), 0
    rest = left
    while rest:
        low = rest & -rest
        number = low.bit_length() - 1
        step = ordered[number]
        # They are ordered by their beginnings: from here on all begin after one has ended.
        if step.begins > first_end:
            break
        candidates.append(number)
        if step.ends < first_end:
            first_end, which = step.ends, number
        rest ^= low
    return [n for n in candidates if ordered[n].begins <= first_end], which


def _step(operation: Operation) -> _Step | None:
    data, outcome, phase = operation.data, operation.outcome, operation.phase
    known = operation.completion is not None and phase != "info"
    ends = operation.completion.at_s if known and operation.completion else float("inf")
    apply: Callable[[State], tuple[bool, State]]
    match data["do"], phase:
        case "read", "ok":
            apply = _reads(outcome["value"])
        case "read", _:
            return None
        case "put", "ok" | "info":
            apply = _becomes(data["value"])
        case "delete", "ok" | "info":
            apply = _becomes(None)
        case "put_new", "ok" | "info":
            apply = _becomes_if_free(data["value"])
        case "put_new", "fail" if outcome.get("code") == "conflict":
            apply = _is_taken(data["value"])
        case _:
            # Refused: it had no effect, and says nothing about the state.
            return None
    return _Step(operation.invoke.at_s, ends, apply, operation)


def _reads(value: Any) -> Callable[[State], tuple[bool, State]]:
    return lambda state: (state == value, state)


def _becomes(value: State) -> Callable[[State], tuple[bool, State]]:
    return lambda _: (True, value)


def _becomes_if_free(value: State) -> Callable[[State], tuple[bool, State]]:
    return lambda state: (state in (None, value), value)


def _is_taken(value: State) -> Callable[[State], tuple[bool, State]]:
    return lambda state: (state not in (None, value), state)


def _evidence(found: Sequence[Operation], stuck: Operation | str) -> tuple[Entry, ...]:
    """The operation that fits nowhere, and those around it."""
    if isinstance(stuck, str):
        return ()
    end_s = stuck.completion.at_s if stuck.completion else stuck.invoke.at_s
    near = [
        operation
        for operation in found
        if operation.invoke.at_s <= end_s
        and (operation.completion is None or operation.completion.at_s >= stuck.invoke.at_s - 1.0)
    ]
    return tuple(
        sorted((e for op in near for e in op.evidence), key=lambda e: (e.at_s, e.operation))
    )
