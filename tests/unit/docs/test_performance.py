"""The pages on performance say what was measured, and the same each time."""

from typing import Any
from xml.etree import ElementTree as ET

from tests.support import performance_docs
from tests.support.performance_docs import BEGIN, END, Bar

ROW: dict[str, Any] = {
    "id": "cold_call_p50",
    "value": 12.5,
    "unit": "us",
    "goal": 25,
    "better": "lower",
    "against": "calls",
    "spread": [12, 13],
    "ok": True,
}
MEASURED = {"machine": "2 x Abacus", "date": "2026-01-02", "rows": [ROW]}


def test_the_readme_gets_its_section_between_the_marks() -> None:
    page = f"before\n{BEGIN}\nold\n{END}\nafter\n"

    written = performance_docs.replaced(page, MEASURED)

    assert written.startswith(f"before\n{BEGIN}\nMeasured on 2 x Abacus, 2026-01-02")
    assert "12.5 µs | ≤ 25 µs | calls" in written
    assert written.endswith(f"{END}\nafter\n")
    assert "old" not in written
    assert performance_docs.replaced(written, MEASURED) == written


def test_a_readme_without_marks_stays_as_it_is() -> None:
    assert performance_docs.replaced("nothing here\n", MEASURED) == "nothing here\n"


def test_a_goal_that_was_missed_is_called_so() -> None:
    missed = MEASURED | {"rows": [ROW | {"value": 30, "ok": False}]}

    assert "**missed**" in performance_docs.section(missed)
    assert "missed" not in performance_docs.section(MEASURED)


def test_a_row_that_was_not_measured_says_why() -> None:
    reason = "not measured: no npm"
    row = ROW | {"value": None, "ok": None, "against": reason}

    assert f"| - | ≤ 25 µs | {reason} |" in performance_docs.section(MEASURED | {"rows": [row]})


def test_a_plot_is_a_picture_with_a_bar_for_each_row() -> None:
    bars = [
        Bar("a < b", 2.0, "2 ×", "#123456", mark=1.5, whisker=(1.0, 3.0)),
        Bar("c", 0.0, "0 ×", "#123456"),
    ]

    picture = ET.fromstring(performance_docs.plot("title", bars))

    bars_drawn = picture.findall("{http://www.w3.org/2000/svg}rect")
    assert [bar.attrib["width"] for bar in bars_drawn] == ["240.0", "0.0"]


def test_a_plot_of_nothing_is_a_picture_too() -> None:
    ET.fromstring(performance_docs.plot("title", []))
