"""No figure ever rises above its bound, and none is left higher than it was."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tests.faults.checkers import Violation
from tests.faults.history import Entry, observations


@dataclass(frozen=True, slots=True)
class BoundChecker:
    """Of every ``figure`` that names a bound: ``most`` or ``least``."""

    def check(self, history: Sequence[Entry]) -> list[Violation]:
        violations = []
        for entry in observations(history, "figure"):
            data = entry.data
            name, value = data["figure"], data["value"]
            if "most" in data and value > data["most"]:
                text = f"{name} of {entry.process} is {value:g}, over its bound of {data['most']:g}"
            elif "least" in data and value < data["least"]:
                text = f"{name} of {entry.process} is {value:g}, below {data['least']:g}"
            else:
                continue
            violations.append(Violation("bound", text, (entry,)))
        return violations


@dataclass(frozen=True, slots=True, kw_only=True)
class LeakChecker:
    """Of ``resources`` counted ``before`` and ``after``: they return to where they were."""

    allowed: Mapping[str, int] = field(default_factory=dict)
    """How much more of each may be left, by name; nothing unless it stands here."""

    def check(self, history: Sequence[Entry]) -> list[Violation]:
        before: dict[tuple[str, str], Entry] = {}
        violations = []
        for entry in observations(history, "resources"):
            key = (entry.process, entry.data["resource"])
            if entry.data["when"] == "before":
                before[key] = entry
                continue
            if (was := before.pop(key, None)) is None:
                continue
            grown = entry.data["value"] - was.data["value"]
            if grown > self.allowed.get(key[1], 0):
                text = f"{key[0]} has {entry.data['value']} {key[1]}, and had {was.data['value']}"
                violations.append(Violation("leak", text, (was, entry)))
        for (process, resource), was in before.items():
            text = f"{resource} of {process} were not counted in the end"
            violations.append(Violation("leak", text, (was,)))
        return violations


@dataclass(frozen=True, slots=True)
class ExpectationChecker:
    """Of what a fault itself expects of those it torments, kind ``expectation``."""

    def check(self, history: Sequence[Entry]) -> list[Violation]:
        return [
            Violation("expectation", entry.data["text"], (entry,))
            for entry in observations(history, "expectation")
            if not entry.data["met"]
        ]
