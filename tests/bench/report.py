"""Rows of figures: as a table on the terminal, and as ``results.json`` for whoever compares."""

import json
import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.table import Table

from tests.support import performance_docs
from tests.support.performance_docs import RESULTS


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One figure and what it is held against."""

    id: str
    value: float | None
    """None when it could not be measured here; ``against`` says why."""
    unit: str
    goal: float | None = None
    """None for a figure that is reported, not judged."""
    better: Literal["lower", "higher"]
    against: str
    """The peer of a ratio, or what a plain figure means."""
    spread: tuple[float, float] | None = None
    """Smallest and largest of the runs whose median the value is."""

    @property
    def ok(self) -> bool | None:
        if self.goal is None or self.value is None:
            return None
        return self.value <= self.goal if self.better == "lower" else self.value >= self.goal


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which ``share`` of them lie."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, int(len(ranked) * share))]


def median_row(values: Sequence[float], **fields: object) -> Row:
    """A row of several runs: their median, and between what they lay."""
    return Row(
        value=round(statistics.median(values), 3),
        spread=(round(min(values), 3), round(max(values), 3)),
        **fields,  # type: ignore[arg-type]
    )


def unmeasured(reason: str, **fields: object) -> Row:
    """A row that this machine can't have, so that it is missed."""
    return Row(value=None, against=f"not measured: {reason}", **fields)  # type: ignore[arg-type]


def steepness(costs: Sequence[float]) -> float:
    """How far costs per unit are from flat: the largest as a multiple of the smallest."""
    return max(costs) / max(min(costs), 1e-12)


def machine() -> str:
    """What it was measured on, as the system describes itself."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    return f"{os.cpu_count()} x {model}, {platform.system()}, Python {platform.python_version()}"


def publish(rows: Sequence[Row], *, complete: bool) -> bool:
    """Print the table; True when every goal was reached.

    Only a complete run becomes the file and the pages: their rows are of one machine on one day.
    """
    table = Table(title=machine(), title_justify="left")
    for column in ("id", "value", "unit", "goal", "ok", "spread"):
        table.add_column(
            column, justify="right" if column in {"value", "goal"} else "left", no_wrap=True
        )
    for row in rows:
        sign = "≤" if row.better == "lower" else "≥"
        goal = "" if row.goal is None else f"{sign} {row.goal:g}"
        verdict = {None: "", True: "yes", False: "NO"}[row.ok]
        spread = f"{row.spread[0]:g} … {row.spread[1]:g}" if row.spread else ""
        table.add_row(
            row.id, "-" if row.value is None else f"{row.value:g}", row.unit, goal, verdict, spread
        )
    console = Console(width=max(100, Console().width))
    console.print(table)
    for row in rows:
        console.print(f"[bold]{row.id}[/bold]  {row.against}", highlight=False)
    if not complete:
        return all(row.ok is not False for row in rows)
    results = {
        "machine": machine(),
        "date": datetime.now(UTC).date().isoformat(),
        "rows": [asdict(row) | {"ok": row.ok} for row in rows],
    }
    RESULTS.write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n")
    performance_docs.write()
    return all(row.ok is not False for row in rows)
