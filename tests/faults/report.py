"""What a run came to: pure figures from its history, a table for people, a file for programs."""

import json
import statistics
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.faults.checkers import Violation
from tests.faults.checkers.recovery import recoveries
from tests.faults.history import Entry, Operation, observations, operations

EVIDENCE_LINES_MAX = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultRow:
    """One kind of fault: how often it struck, and for how long it was felt."""

    fault: str
    times: int
    median_s: float | None
    worst_s: float | None
    """None where it was never got over."""
    bound_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRow:
    """One way to call."""

    way: str
    offered: int
    answered: int
    failed: Mapping[str, int]
    """By code."""
    lost: int
    duplicates: int
    median_ms: float
    worst_ms: float
    """Of those that were answered."""


def fault_rows(history: Sequence[Entry]) -> list[FaultRow]:
    """What is known of each kind of fault, by name."""
    by_fault = defaultdict(list)
    for recovery in recoveries(history):
        by_fault[recovery.fault].append(recovery)
    rows = []
    for fault, found in sorted(by_fault.items()):
        felt_s = [each.recovered_s for each in found if each.recovered_s is not None]
        over = len(felt_s) == len(found)
        rows.append(
            FaultRow(
                fault=fault,
                times=len(found),
                median_s=round(statistics.median(felt_s), 2) if felt_s else None,
                worst_s=round(max(felt_s), 2) if felt_s and over else None,
                bound_s=found[0].bound_s,
            )
        )
    return rows


def call_rows(history: Sequence[Entry]) -> list[CallRow]:
    """What became of the calls, by the way they went, and of all together."""
    executed = Counter(entry.data["call"] for entry in observations(history, "execution"))
    by_way: defaultdict[str, list[Operation]] = defaultdict(list)
    for call in operations(history, "call"):
        by_way[call.data["way"]].append(call)
        by_way["all"].append(call)
    return [_call_row(way, calls, executed) for way, calls in sorted(by_way.items(), key=_last)]


def _last(item: tuple[str, list[Operation]]) -> tuple[bool, str]:
    return item[0] == "all", item[0]


def _call_row(way: str, calls: Sequence[Operation], executed: Mapping[str, int]) -> CallRow:
    took_ms = sorted(
        (call.completion.at_s - call.invoke.at_s) * 1000
        for call in calls
        if call.phase == "ok" and call.completion is not None
    )
    failed = Counter(call.outcome["code"] for call in calls if call.phase == "fail")
    return CallRow(
        way=way,
        offered=len(calls),
        answered=len(took_ms),
        failed=dict(sorted(failed.items())),
        lost=sum(
            1
            for call in calls
            if call.completion is None
            or (call.phase == "fail" and call.outcome["code"] in {"cancelled", "internal"})
        ),
        duplicates=sum(executed.get(call.data["call"], 0) > 1 for call in calls),
        median_ms=round(statistics.median(took_ms), 1) if took_ms else 0.0,
        worst_ms=round(took_ms[-1], 1) if took_ms else 0.0,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A run, as it is published."""

    seed: int
    servers: int
    duration_s: float
    schedule: Sequence[str]
    faults: Sequence[FaultRow]
    calls: Sequence[CallRow]
    figures: Mapping[str, Any]
    violations: Sequence[Violation]

    @property
    def ok(self) -> bool:
        return not self.violations


def write(report: Report, path: Path) -> None:
    fields = asdict(report)
    fields["violations"] = [
        {
            "checker": violation.checker,
            "text": violation.text,
            "evidence": [asdict(entry) for entry in violation.evidence[:EVIDENCE_LINES_MAX]],
        }
        for violation in report.violations
    ]
    path.write_text(json.dumps(fields | {"ok": report.ok}, indent=2, ensure_ascii=False) + "\n")


def show(report: Report, console: Console) -> None:
    """Print the tables, and of the violations the first with its proof."""
    console.print(_fault_table(report))
    console.print(_call_table(report))
    for name, value in report.figures.items():
        console.print(f"[bold]{name}[/bold]  {value}", highlight=False)
    if report.ok:
        console.print("every checker is content")
        return
    counts = Counter(violation.checker for violation in report.violations)
    console.print(f"[bold red]violations: {dict(counts)}[/bold red]", highlight=False)
    for violation in report.violations[1:10]:
        console.print(f"also, {violation.checker}: {violation.text}", highlight=False, markup=False)
    first = report.violations[0]
    console.print(f"first, {first.checker}: {first.text}", highlight=False, markup=False)
    for entry in first.evidence[:EVIDENCE_LINES_MAX]:
        console.print(entry.to_line(), highlight=False, markup=False, soft_wrap=True)


def _fault_table(report: Report) -> Table:
    title = f"seed {report.seed}, {report.duration_s:.0f} s, nats-servers: {report.servers}"
    table = Table(title=title, title_justify="left")
    for column in ("fault", "times", "felt for, median s", "worst s", "bound s"):
        table.add_column(column, justify="left" if column == "fault" else "right", no_wrap=True)
    for row in report.faults:
        table.add_row(
            row.fault,
            str(row.times),
            "-" if row.median_s is None else f"{row.median_s:.2f}",
            "never" if row.worst_s is None else f"{row.worst_s:.2f}",
            f"{row.bound_s:g}",
        )
    return table


def _call_table(report: Report) -> Table:
    table = Table()
    columns = ("calls", "offered", "answered", "lost", "twice", "median ms", "worst ms", "failed")
    for column in columns:
        table.add_column(column, justify="left" if column in {"calls", "failed"} else "right")
    for row in report.calls:
        table.add_row(
            row.way,
            str(row.offered),
            str(row.answered),
            str(row.lost),
            str(row.duplicates),
            f"{row.median_ms:g}",
            f"{row.worst_ms:g}",
            ", ".join(f"{code} {count}" for code, count in row.failed.items()),
        )
    return table
