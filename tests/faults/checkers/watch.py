"""Whoever follows the state sees what was written, in one order, and ends at the final value."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from tests.faults.checkers import Violation
from tests.faults.history import Entry, observations, operations


@dataclass(frozen=True, slots=True)
class WatchChecker:
    """Of ``seen`` values per watcher and key; ``register`` says what was written, and the end."""

    def check(self, history: Sequence[Entry]) -> list[Violation]:
        written: defaultdict[str, set[str | None]] = defaultdict(lambda: {None})
        final: dict[str, Entry] = {}
        for operation in operations(history, "register"):
            if operation.data["do"] != "read":
                written[operation.data["key"]].add(operation.data.get("value"))
            elif operation.data.get("final") and operation.completion is not None:
                final[operation.data["key"]] = operation.completion
        seen: defaultdict[tuple[str, str], list[Entry]] = defaultdict(list)
        for entry in observations(history, "seen"):
            seen[entry.data["key"], entry.process].append(entry)
        violations = []
        for (key, watcher), entries in sorted(seen.items()):
            violations += [
                Violation(
                    "watch",
                    f"{watcher} saw {key} = {entry.data['value']}: nobody wrote it",
                    (entry,),
                )
                for entry in entries
                if entry.data["value"] not in written[key]
            ]
            last = entries[-1]
            if key in final and last.data["value"] != final[key].data["value"]:
                text = (
                    f"{watcher} ends at an old value of {key}: {last.data['value']},"
                    f" not {final[key].data['value']}"
                )
                violations.append(Violation("watch", text, (last, final[key])))
        return violations + _disagreements(seen)


def _disagreements(seen: dict[tuple[str, str], list[Entry]]) -> list[Violation]:
    """Values of one key that two watchers saw in different orders; each is written once."""
    by_key: defaultdict[str, dict[str, list[Entry]]] = defaultdict(dict)
    for (key, watcher), entries in seen.items():
        by_key[key][watcher] = [e for e in entries if e.data["value"] is not None]
    violations = []
    for key, watchers in sorted(by_key.items()):
        position: dict[str, dict[str, int]] = {
            name: {entry.data["value"]: n for n, entry in enumerate(entries)}
            for name, entries in watchers.items()
        }
        names = sorted(watchers)
        for one, other in pairwise(names):
            shared = [e for e in watchers[one] if e.data["value"] in position[other]]
            for before, after in pairwise(shared):
                at = position[other]
                if at[before.data["value"]] > at[after.data["value"]]:
                    violations.append(
                        Violation(
                            "watch",
                            f"{one} and {other} saw {key} change in different orders",
                            (
                                before,
                                after,
                                watchers[other][at[after.data["value"]]],
                                watchers[other][at[before.data["value"]]],
                            ),
                        )
                    )
                    break
    return violations
