"""Calls are delivered at most once, and their codes say truly whether they were executed."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from lattice import errors
from tests.faults.checkers import Violation
from tests.faults.history import Entry, Operation, observations, operations

UNKNOWN = frozenset({"deadline_exceeded", "unavailable"})
"""The codes that may stand for a call whose outcome nobody knows; any other is a lost call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryChecker:
    """Compares what callers heard (kind ``call``) with what callees did (kind ``execution``).

    Calls of one id are one call that its caller repeated by its idempotency key.
    """

    late_s: float = 2.0
    """How long after its deadline a call may end: the suite shares the machine it torments."""
    unknown: frozenset[str] = field(default=UNKNOWN)

    def check(self, history: Sequence[Entry]) -> list[Violation]:
        executions: defaultdict[str, list[Entry]] = defaultdict(list)
        for entry in observations(history, "execution"):
            executions[entry.data["call"]].append(entry)
        tries: defaultdict[str, list[Operation]] = defaultdict(list)
        for call in operations(history, "call"):
            tries[call.data["call"]].append(call)
        violations = []
        for call_id, calls in tries.items():
            done = executions.pop(call_id, [])
            for call in calls:
                text = self._fault(call, len(done), is_only=len(calls) == 1)
                if text is not None:
                    evidence = (*(entry for each in calls for entry in each.evidence), *done)
                    violations.append(Violation("delivery", text, evidence))
                    break
        for call_id, done in executions.items():
            violations.append(
                Violation("delivery", f"{call_id} was executed, and nobody called it", tuple(done))
            )
        return violations

    def _fault(self, call: Operation, executed: int, *, is_only: bool) -> str | None:
        """What is wrong with a call; ``is_only`` unless its caller repeated it, by its key."""
        name = call.data["call"]
        if executed > 1:
            return f"{name} was executed {executed} times"
        if call.completion is None:
            return f"{name} was never answered"
        took_s = call.completion.at_s - call.invoke.at_s
        if took_s > call.data["timeout_s"] + self.late_s:
            return f"{name} ended after {took_s:.1f} s, over its {call.data['timeout_s']:g} s"
        if call.phase == "ok":
            return None if executed else f"{name} was answered, and never executed"
        code = call.outcome["code"]
        error = errors.BY_CODE.get(code)
        if error is None:
            return f"{name} failed with {code!r}, which is not on the list of codes"
        if error.executed == "no" and executed and is_only:
            return f"{name} failed with {code}, which says not executed, and was executed"
        if error.executed == "unknown" and code not in self.unknown:
            return f"{name} was lost to {code}: {call.outcome.get('text', '')}"
        return None
