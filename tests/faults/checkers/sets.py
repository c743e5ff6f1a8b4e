"""What was acknowledged is there in the end; what was deleted does not come back."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from tests.faults.checkers import Violation
from tests.faults.history import Entry, Operation, observations, operations


@dataclass(frozen=True, slots=True)
class SetChecker:
    """Of one set: ``add`` and ``remove`` of elements, each at most once, and ``final`` reads."""

    name: str

    def check(self, history: Sequence[Entry]) -> list[Violation]:
        added: dict[str, Operation] = {}
        removed: dict[str, Operation] = {}
        for operation in operations(history, "add", "remove"):
            if operation.data["set"] == self.name:
                where = added if operation.invoke.kind == "add" else removed
                where[operation.data["element"]] = operation
        reads = [e for e in observations(history, "final") if e.data["set"] == self.name]
        if not reads and added:
            return [Violation("set", f"nobody read {self.name} in the end")]
        faults: defaultdict[str, list[Violation]] = defaultdict(list)
        for read in reads:
            members = set(read.data["members"])
            for element in sorted({*added, *members}):
                text = self._fault(added.get(element), removed.get(element), element in members)
                if text is not None:
                    evidence = (
                        *(added[element].evidence if element in added else ()),
                        *(removed[element].evidence if element in removed else ()),
                        _without_members(read),
                    )
                    faults[element].append(
                        Violation("set", f"{self.name}: {element} {text}", evidence)
                    )
        # One for each element: every later read shows the same.
        return [found[0] for found in faults.values()]

    def _fault(
        self, added: Operation | None, removed: Operation | None, is_there: bool
    ) -> str | None:
        if added is None:
            return "is there, and nobody added it" if is_there else None
        if added.phase == "fail":
            return "was refused, and is there" if is_there else None
        if added.phase == "ok" and removed is None and not is_there:
            return "was acknowledged, and is gone"
        if added.phase == "ok" and removed is not None:
            if removed.phase == "ok" and is_there:
                return "came back after it was deleted"
            if removed.phase == "fail" and not is_there:
                return "is gone, though its deletion was refused"
        return None


def _without_members(read: Entry) -> Entry:
    """The line that proves it, without the hundreds of elements that do not matter."""
    return Entry(
        at_s=read.at_s,
        process=read.process,
        kind=read.kind,
        phase=read.phase,
        operation=read.operation,
        data={"set": read.data["set"], "members": f"{len(read.data['members'])} elements"},
    )
