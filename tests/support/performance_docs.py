"""What the pages say of performance: written from the bench's results, and from nothing else.

The same results give the same bytes, so that a test can tell whether the pages are theirs.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "tests" / "bench" / "results.json"
README = ROOT / "README.md"
PAGE = ROOT / "docs" / "performance.md"
GOALS_PLOT = ROOT / "docs" / "performance" / "goals.svg"
PEERS_PLOT = ROOT / "docs" / "performance" / "peers.svg"

BEGIN = "<!-- Performance: written by python -m tests.support.reference_docs -->"
END = "<!-- End of performance -->"

METHOD = """\
Each figure is the median of several rounds. What it is held against ran in the same run and on the
same machine, in turn with it, so that a slow moment of the machine hits both."""

HEAD = """\
# Performance

`make bench` measures all of this and writes this page. It installs what it compares with by itself:
workerd from npm, FastAPI, uvicorn and nats-py from PyPI, wrk from Debian; a row whose peer can't be
had says so. `make bench ARGS="calls http"` measures parts, and writes nothing.
"""

PLOTS = """
![Each figure as a share of its goal](performance/goals.svg)

![Figures as multiples of their peers'](performance/peers.svg)
"""

TAIL = """

A goal that was missed is marked so; rows without one are for reading only. To put a load on
something of yours, see `lattice bench` in [cli.md](cli.md).
"""

LANGUAGES = """

## By language

The `http` template of each language (`lattice new http`), asked for `/ada`. A host compiles what it
has never had, and loads what it had before a restart or an eviction. A request is served on a fresh
instance, or on one that is [kept](guests/instances.md), which leaves out what a language does to
start; memory is what an instance holds after a request.

| language | size | compile | load | request, fresh | request, kept | memory |
|---|---|---|---|---|---|---|
"""

GUEST = "guest_"
"""Begins the ids of rows that are a table of their own: ``guest_LANGUAGE_COLUMN``."""

COLUMNS = ("size", "compile", "load", "fresh", "kept", "memory")

TITLES = {
    "cold_call_p50": "call on a fresh instance, p50",
    "cold_call_p99": "call on a fresh instance, p99",
    "cold_call_against_wasmtime": "the same, against bare wasmtime",
    "suspending_call_p50": "call that suspends once, p50",
    "suspended_call_memory": "memory of a suspended call",
    "suspended_loop_lag_p99": "loop lag meanwhile, p99",
    "cpu_linearity": "CPU time, linear in work",
    "cpu_parallel": "two computing guests, gain",
    "cpu_loop_lag_p99": "loop lag meanwhile, p99",
    "cpu_kill_overrun": "end of a guest over its budget",
    "calls_time": "calls, 1,000 to 100,000: time",
    "calls_memory": "calls, 1,000 to 100,000: memory",
    "actors_start_time": "actors, 10 to 200: start",
    "actors_call_time": "actors, 1 to 200: call",
    "actors_memory": "actors, 50 to 200: memory",
    "links_find_time": "links, 1 to 1,000: look-up",
    "links_memory": "links, 10 to 1,000: memory",
    "nats_echo_throughput": "echo over NATS, throughput",
    "nats_echo_p50": "echo over NATS, p50",
    "nats_echo_saturated_p50": "the same with 64 callers, p50",
    "nats_echo_rate": "echo over NATS, rate",
    "http_actor_against_workerd": "HTTP to an actor, against workerd",
    "http_actor_throughput": "HTTP to an actor, against none",
    "http_actor_against_uvicorn": "HTTP to an actor, against uvicorn",
    "http_actor_rate": "HTTP to an actor, rate",
    "http_chain_throughput": "HTTP, NATS, other host, against FastAPI",
    "http_chain_rate": "HTTP, NATS, other host, rate",
}
"""What people read for a row's id; a row without one shows its id."""

HEADLINES = (
    "cold_call_p50",
    "cold_call_p99",
    "cold_call_against_wasmtime",
    "suspending_call_p50",
    "suspended_call_memory",
    "nats_echo_throughput",
    "http_actor_against_workerd",
    "http_chain_throughput",
    "cpu_linearity",
)
"""Rows that the README has, as far as they were measured."""

LABEL_PX, BAR_PX, VALUE_PX, ROW_PX = 260, 360, 190, 22
GOAL_SHARE_MAX = 2.0
"""Where bars of goals are cut off: twice the goal is missed by any measure."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A line of a plot."""

    label: str
    length: float
    text: str
    colour: str
    mark: float | None = None
    """Where a goal is."""
    whisker: tuple[float, float] | None = None
    """Between what the rounds lay."""


GOOD, BAD, NEUTRAL = "#2f9e6e", "#d1495b", "#5b7db1"


def results() -> dict[str, Any]:
    content = json.loads(RESULTS.read_text())
    assert isinstance(content, dict)
    return content


def render_readme() -> str:
    """The page as it is, with its section on performance written anew if it has one."""
    return replaced(README.read_text(), results())


def replaced(page: str, measured: dict[str, Any]) -> str:
    head, begin, rest = page.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not (begin and end):
        return page
    return f"{head}{BEGIN}\n{section(measured)}\n{END}{tail}"


def section(measured: dict[str, Any]) -> str:
    """What the README says: where, when and how, and the figures that matter most."""
    by_id = {row["id"]: row for row in measured["rows"]}
    rows = [by_id[row_id] for row_id in HEADLINES if row_id in by_id]
    text = f"Measured on {measured['machine']}, {measured['date']}, with `make bench`. {METHOD}"
    return "\n".join((text.replace("\n", " "), "", *_table(rows)))


def render_page() -> str:
    measured = results()
    where = f"Machine: {measured['machine']}. Date: {measured['date']}."
    method = METHOD.replace("\n", " ")
    rows = [row for row in measured["rows"] if not row["id"].startswith(GUEST)]
    table = "\n".join(_table(rows))
    return f"{HEAD}\n{where} {method}\n{PLOTS}\n{table}{TAIL}{_languages(measured['rows'])}"


def _languages(rows: Sequence[dict[str, Any]]) -> str:
    """A line for each language that was measured; nothing where none was."""
    values: dict[str, dict[str, str]] = {}
    for row in rows:
        if row["id"].startswith(GUEST):
            language, _, column = row["id"].removeprefix(GUEST).rpartition("_")
            values.setdefault(language, {})[column] = _value(row)
    lines = [
        f"| {language} | {' | '.join(cells.get(column, '-') for column in COLUMNS)} |\n"
        for language, cells in values.items()
    ]
    return "".join((LANGUAGES, *lines)) if lines else ""


def render_goals_plot() -> str:
    bars = []
    for row in results()["rows"]:
        if row["ok"] is None:
            continue
        value, goal = row["value"], row["goal"]
        used, wanted = (value, goal) if row["better"] == "lower" else (goal, value)
        share = min(used / wanted, GOAL_SHARE_MAX) if wanted else GOAL_SHARE_MAX
        colour = GOOD if row["ok"] else BAD
        bars.append(Bar(_title(row), share, f"{_value(row)} ({_goal(row)})", colour, mark=1.0))
    return plot("Share of the goal that was used: left of the line it was reached", bars)


def render_peers_plot() -> str:
    bars = [
        Bar(
            _title(row),
            row["value"],
            _value(row),
            NEUTRAL if row["ok"] is None else GOOD if row["ok"] else BAD,
            mark=row["goal"],
            whisker=tuple(row["spread"]) if row.get("spread") else None,
        )
        for row in results()["rows"]
        if row["unit"] == "x" and row["better"] == "higher" and row["value"] is not None
    ]
    return plot("Multiples of the peer; the line is the goal, more is better", bars)


PAGES = {
    README: render_readme,
    PAGE: render_page,
    GOALS_PLOT: render_goals_plot,
    PEERS_PLOT: render_peers_plot,
}


def write() -> None:
    for page, render in PAGES.items():
        page.parent.mkdir(exist_ok=True)
        page.write_text(render())


def plot(title: str, bars: Sequence[Bar]) -> str:
    """Horizontal bars as SVG, in colours that a light and a dark page bear."""
    longest = max(
        (max(bar.length, bar.mark or 0, *(bar.whisker or ())) for bar in bars), default=1.0
    )
    width, height = LABEL_PX + BAR_PX + VALUE_PX, ROW_PX * (len(bars) + 2)
    lines = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"'
            ' font-family="sans-serif" font-size="12" fill="#808080">'
        ),
        f'<text x="0" y="{ROW_PX - 6}" font-size="13">{escape(title)}</text>',
    ]

    def x(value: float) -> str:
        return f"{LABEL_PX + BAR_PX * value / longest:.1f}"

    for number, bar in enumerate(bars, start=1):
        top, middle = number * ROW_PX + 4, number * ROW_PX + ROW_PX // 2
        span = f"{BAR_PX * bar.length / longest:.1f}"
        label = f'x="{LABEL_PX - 8}" y="{middle + 4}" text-anchor="end"'
        box = f'x="{LABEL_PX}" y="{top}" width="{span}" height="{ROW_PX - 8}"'
        lines.append(f"<text {label}>{escape(bar.label)}</text>")
        lines.append(f'<rect {box} fill="{bar.colour}"/>')
        if bar.whisker:
            low, high = map(x, bar.whisker)
            lines.append(f'<path d="M{low} {middle}H{high}" stroke="#808080" stroke-width="2"/>')
        if bar.mark is not None:
            lines.append(
                f'<path d="M{x(bar.mark)} {top - 2}V{top + ROW_PX - 6}" stroke="#808080"'
                ' stroke-width="2" stroke-dasharray="3 2"/>'
            )
        where = f'x="{LABEL_PX + BAR_PX + 8}" y="{middle + 4}"'
        lines.append(f"<text {where}>{escape(bar.text)}</text>")
    return "\n".join((*lines, "</svg>", ""))


def _table(rows: Sequence[dict[str, Any]]) -> list[str]:
    lines = ["| what | measured | goal | what it is, or is held against |", "|---|---|---|---|"]
    for row in rows:
        missed = " **missed**" if row["ok"] is False else ""
        against = str(row["against"]).replace("|", "\\|")
        lines.append(f"| {_title(row)} | {_value(row)} | {_goal(row)}{missed} | {against} |")
    return lines


def _title(row: dict[str, Any]) -> str:
    return TITLES.get(row["id"], str(row["id"]))


def _value(row: dict[str, Any]) -> str:
    if row["value"] is None:
        return "-"
    return f"{row['value']:,.5g} {_unit(row)}"


def _goal(row: dict[str, Any]) -> str:
    if row["goal"] is None:
        return ""
    sign = "≤" if row["better"] == "lower" else "≥"
    return f"{sign} {row['goal']:g} {_unit(row)}"


def _unit(row: dict[str, Any]) -> str:
    return {"x": "×", "us": "µs"}.get(row["unit"], str(row["unit"]))
