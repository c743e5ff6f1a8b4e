"""What the fault suite reports of a history."""

import json
from io import StringIO
from pathlib import Path

from rich.console import Console

from tests.faults import report
from tests.faults.checkers import Violation
from tests.faults.history import Entry, History, read
from tests.faults.report import Report


def ticking() -> History:
    moments = iter(range(1000))
    return History(lambda: float(next(moments)))


def call(history: History, name: str, way: str, code: str | None, executed: int = 0) -> None:
    operation = history.invoke("caller", "call", call=name, way=way, timeout_s=1)
    for _ in range(executed):
        history.observe("ledger", "execution", call=name)
    if code is None:
        history.complete(operation, "ok")
    else:
        history.complete(operation, "fail", code=code)


def example() -> History:
    history = ticking()
    fault = history.invoke("nemesis", "fault", fault="storm", total=False, bound_s=5)
    history.complete(fault, "ok", victim="alpha")
    canary = history.invoke("canary", "canary", of="call")
    history.complete(canary, "ok")
    call(history, "a", "door", None, executed=1)
    call(history, "b", "door", "overloaded")
    call(history, "c", "http", "internal")
    call(history, "d", "http", None, executed=2)
    return history


def published(history: History, *violations: Violation) -> Report:
    return Report(
        seed=7,
        servers=1,
        duration_s=12.0,
        schedule=["storm"],
        faults=report.fault_rows(history.entries),
        calls=report.call_rows(history.entries),
        figures={"goodput": 1.0},
        violations=violations,
    )


def test_calls_are_counted_by_way_and_in_all() -> None:
    door, http, every = report.call_rows(example().entries)

    assert (door.way, door.offered, door.answered, door.failed) == ("door", 2, 1, {"overloaded": 1})
    assert (http.lost, http.duplicates) == (1, 1)
    assert (every.way, every.offered, every.lost, every.duplicates) == ("all", 4, 1, 1)


def test_faults_are_shown_with_the_time_they_were_felt() -> None:
    (row,) = report.fault_rows(example().entries)

    assert (row.fault, row.times, row.median_s, row.worst_s) == ("storm", 1, 0.0, 0.0)


def test_a_fault_that_was_never_got_over_has_no_worst_time() -> None:
    history = ticking()
    fault = history.invoke("nemesis", "fault", fault="storm", total=False, bound_s=5)
    history.complete(fault, "ok")
    history.complete(history.invoke("canary", "canary", of="call"), "fail", code="unavailable")
    (row,) = report.fault_rows(history.entries)

    assert (row.median_s, row.worst_s) == (None, None)


def test_the_first_violation_is_shown_with_its_lines() -> None:
    history = example()
    proof = history.entries[-1]
    output = StringIO()
    broken = published(history, Violation("delivery", "d was executed 2 times", (proof,)))
    report.show(broken, Console(file=output, width=200))

    assert "first, delivery: d was executed 2 times" in output.getvalue()
    assert proof.to_line() in output.getvalue()


def test_the_file_says_whether_all_was_well(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    report.write(published(example()), path)

    fields = json.loads(path.read_text())
    assert fields["ok"] is True
    assert fields["calls"][-1]["offered"] == 4


def test_a_history_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    moments = iter(range(10))
    with path.open("w") as file:
        history = History(lambda: float(next(moments)), file)
        operation = history.invoke("caller", "call", call="a")
        history.complete(operation, "ok", answer="b")

    assert read(path) == history.entries
    assert isinstance(history.entries[0], Entry)


def test_only_the_first_completion_counts() -> None:
    history = ticking()
    operation = history.invoke("caller", "call")
    history.complete(operation, "ok")
    history.complete(operation, "fail")

    assert [entry.phase for entry in history.entries] == ["invoke", "ok"]
