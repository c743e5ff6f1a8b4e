"""Who is alive, from what was heard."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lattice.reconcile import liveness
from lattice.reconcile.liveness import Signs, judge

TIMES = st.floats(0, 1_000)


@pytest.mark.parametrize(
    ("silence_s", "state"),
    [(0.0, "alive"), (3.0, "alive"), (3.6, "suspect"), (7.9, "suspect"), (8.1, "dead")],
)
def test_a_host_that_beats_is_suspect_after_three_missed_beats_and_then_dead(
    silence_s: float, state: str
) -> None:
    assert judge(Signs(beat=100.0, heard=50.0), 100.0 + silence_s) == state


@pytest.mark.parametrize(
    ("silence_s", "state"), [(35.0, "alive"), (45.0, "suspect"), (69.0, "suspect"), (71.0, "dead")]
)
def test_a_host_without_beats_is_judged_by_its_heartbeat(silence_s: float, state: str) -> None:
    assert judge(Signs(heard=100.0), 100.0 + silence_s) == state


def test_a_host_that_nobody_listens_for_is_dead_at_once() -> None:
    assert judge(Signs(beat=100.0, heard=100.0, absent=100.1), 100.2) == "dead"


def test_a_host_that_said_it_stops_is_dead_at_once() -> None:
    assert judge(Signs(beat=100.0, heard=100.0, stopped=100.1), 100.2) == "dead"


def test_a_host_that_is_heard_of_again_lives_again() -> None:
    assert judge(Signs(beat=100.0, heard=101.0, absent=100.5), 101.0) == "alive"


def test_an_answer_stands_in_for_beats_that_are_lost() -> None:
    assert judge(Signs(beat=100.0, heard=109.0), 110.0) == "alive"


@given(beat=st.none() | TIMES, heard=TIMES, absent=st.none() | TIMES, now=TIMES)
def test_the_judgement_only_gets_worse_while_nothing_is_heard(
    beat: float | None, heard: float, absent: float | None, now: float
) -> None:
    signs = Signs(beat=beat, heard=heard, absent=absent)
    order = ["alive", "suspect", "dead"]
    moments = sorted({now, max(now, signs.suspect_at), max(now, signs.dead_at)})
    judged = [order.index(judge(signs, moment)) for moment in moments]
    assert judged == sorted(judged)
    assert judge(signs, max(now, signs.dead_at)) == "dead"


def test_a_dead_host_is_found_in_less_than_ten_seconds() -> None:
    assert liveness.DEAD_AFTER_S < 10
