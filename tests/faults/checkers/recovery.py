"""After every fault the lattice is well again within its bound, and after the last one for good."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from math import inf

from tests.faults.checkers import Violation
from tests.faults.history import Entry, Operation, observations, operations


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """How one fault was got over."""

    fault: str
    recovered_s: float | None
    """Until canaries failed no more; None when none succeeded after it at all."""
    bound_s: float
    evidence: tuple[Entry, ...]


def recoveries(history: Sequence[Entry]) -> list[Recovery]:
    """How long each fault was felt.

    Counted from its injection where the rest of the lattice could have served, and from its end
    where it left nothing that could.
    """
    windows = operations(history, "fault")
    by_name: defaultdict[str, list[Operation]] = defaultdict(list)
    for canary in operations(history, "canary"):
        by_name[canary.data["of"]].append(canary)
    return [
        _recovery(window, following.invoke.at_s if following else inf, list(by_name.values()))
        for window, following in zip_longest(windows, windows[1:])
    ]


def _recovery(window: Operation, ends_s: float, canaries: Sequence[list[Operation]]) -> Recovery:
    begins_s = window.invoke.at_s
    healed_s = window.completion.at_s if window.completion else begins_s
    from_s = healed_s if window.data["total"] else begins_s
    recovered_s: float | None = 0.0
    evidence = list(window.evidence)
    for same in canaries:
        # What is still under way when the next fault strikes says nothing about this one.
        mine = [
            (canary, canary.completion.at_s)
            for canary in same
            if canary.completion is not None
            and begins_s <= canary.invoke.at_s
            and canary.completion.at_s < ends_s
        ]
        bad = [canary for canary, _ in mine if canary.phase != "ok"]
        last_bad_s = bad[-1].invoke.at_s if bad else from_s
        good = [
            at_s
            for canary, at_s in mine
            if canary.phase == "ok" and canary.invoke.at_s >= max(last_bad_s, from_s)
        ]
        if bad:
            evidence += bad[-1].evidence
        if not good:
            recovered_s = None
        elif bad and recovered_s is not None:
            recovered_s = max(recovered_s, good[0] - from_s)
    return Recovery(
        fault=window.data["fault"],
        recovered_s=recovered_s,
        bound_s=window.data["bound_s"],
        evidence=tuple(evidence),
    )


@dataclass(frozen=True, slots=True)
class LivenessChecker:
    """Every ``fault`` is followed by successful ``canary`` calls and writes within its bound."""

    def check(self, history: Sequence[Entry]) -> list[Violation]:
        violations = []
        for recovery in recoveries(history):
            if recovery.recovered_s is None:
                text = f"after {recovery.fault} no canary ever succeeded"
            elif recovery.recovered_s > recovery.bound_s:
                text = (
                    f"{recovery.fault} was felt for {recovery.recovered_s:.1f} s,"
                    f" over its bound of {recovery.bound_s:g} s"
                )
            else:
                continue
            violations.append(Violation("liveness", text, recovery.evidence))
        return violations


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvergenceChecker:
    """From ``healed`` until everything is ``converged``: as declared, and working."""

    bound_s: float

    def check(self, history: Sequence[Entry]) -> list[Violation]:
        healed = next(observations(history, "healed"), None)
        if healed is None:
            return [Violation("convergence", "the faults were never ended")]
        later = [entry for entry in history if entry.operation > healed.operation]
        converged = next(observations(later, "converged"), None)
        last = next(reversed(list(observations(later, "not converged"))), healed)
        if converged is None:
            return [Violation("convergence", "it never got well", (healed, last))]
        if (took_s := converged.at_s - healed.at_s) > self.bound_s:
            text = f"it took {took_s:.1f} s, over the bound of {self.bound_s:g} s"
            return [Violation("convergence", text, (healed, last, converged))]
        return []
