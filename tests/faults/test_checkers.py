"""The checkers of the fault suite: each is shown good histories, and bad ones it must refuse."""

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.faults.checkers import Checker, Violation, check_all
from tests.faults.checkers.bounds import BoundChecker, ExpectationChecker, LeakChecker
from tests.faults.checkers.delivery import DeliveryChecker
from tests.faults.checkers.recovery import ConvergenceChecker, LivenessChecker, recoveries
from tests.faults.checkers.register import RegisterChecker
from tests.faults.checkers.sets import SetChecker
from tests.faults.checkers.watch import WatchChecker
from tests.faults.history import History


class Clock:
    """Time that goes on by a second with every look at it, unless it is set."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        self.now_s += 1
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def history(clock: Clock) -> History:
    return History(clock)


def texts(checker: Checker, history: History) -> list[str]:
    return [violation.text for violation in checker.check(history.entries)]


def call(history: History, outcome: str | None, *executions: str, name: str = "a") -> None:
    """One call: how it ended (``ok`` or a code; None for not at all), and what was executed."""
    operation = history.invoke("caller", "call", call=name, way="door", timeout_s=10.0)
    for executed in executions:
        history.observe("ledger", "execution", call=executed)
    if outcome == "ok":
        history.complete(operation, "ok")
    elif outcome is not None:
        history.complete(operation, "fail", code=outcome)


@pytest.mark.parametrize(
    ("outcome", "executions"),
    [
        ("ok", ["a"]),
        ("overloaded", []),
        ("not_running", []),
        ("no_link", []),
        ("deadline_exceeded", []),
        ("deadline_exceeded", ["a"]),
        ("unavailable", ["a"]),
        ("actor_error", []),
        ("actor_error", ["a"]),
    ],
)
def test_a_call_whose_code_tells_the_truth_is_fine(
    history: History, outcome: str, executions: list[str]
) -> None:
    call(history, outcome, *executions)

    assert texts(DeliveryChecker(), history) == []


@pytest.mark.parametrize(
    ("outcome", "executions", "text"),
    [
        ("ok", ["a", "a"], "a was executed 2 times"),
        ("unavailable", ["a", "a"], "a was executed 2 times"),
        ("ok", [], "a was answered, and never executed"),
        (
            "overloaded",
            ["a"],
            "a failed with overloaded, which says not executed, and was executed",
        ),
        ("draining", ["a"], "a failed with draining, which says not executed, and was executed"),
        ("internal", [], "a was lost to internal: "),
        ("cancelled", [], "a was lost to cancelled: "),
        (None, [], "a was never answered"),
        ("oops", [], "a failed with 'oops', which is not on the list of codes"),
        ("overloaded", ["b"], "b was executed, and nobody called it"),
    ],
)
def test_a_broken_delivery_is_found(
    history: History, outcome: str | None, executions: list[str], text: str
) -> None:
    call(history, outcome, *executions)

    assert texts(DeliveryChecker(), history) == [text]


def test_a_call_repeated_by_its_key_has_its_effect_once(history: History) -> None:
    call(history, "deadline_exceeded", "a")
    call(history, "overloaded")
    call(history, "ok")

    assert texts(DeliveryChecker(), history) == []


def test_a_call_repeated_by_its_key_whose_effect_is_there_twice_is_found(history: History) -> None:
    call(history, "deadline_exceeded", "a")
    call(history, "ok", "a")

    assert texts(DeliveryChecker(), history) == ["a was executed 2 times"]


def test_a_call_that_outlives_its_deadline_is_found(history: History, clock: Clock) -> None:
    operation = history.invoke("caller", "call", call="a", way="door", timeout_s=2.0)
    clock.now_s += 9
    history.complete(operation, "fail", code="deadline_exceeded")

    assert texts(DeliveryChecker(late_s=2.0), history) == ["a ended after 10.0 s, over its 2 s"]


def test_a_violation_shows_the_lines_that_prove_it(history: History) -> None:
    call(history, "ok", "a", "a")
    (violation,) = DeliveryChecker().check(history.entries)

    assert [(entry.kind, entry.phase) for entry in violation.evidence] == [
        ("call", "invoke"),
        ("call", "ok"),
        ("execution", "info"),
        ("execution", "info"),
    ]


def element(history: History, kind: str, phase: str | None, name: str = "x") -> None:
    operation = history.invoke("writer", kind, set="links", element=name)
    if phase is not None:
        history.complete(operation, phase)  # type: ignore[arg-type]


def final(history: History, *members: str) -> None:
    history.observe("reader", "final", set="links", members=list(members))


@pytest.mark.parametrize(
    ("added", "removed", "is_there"),
    [
        ("ok", None, True),
        ("ok", "ok", False),
        ("ok", "info", True),
        ("ok", "info", False),
        ("info", None, True),
        ("info", None, False),
        (None, None, True),
        ("fail", None, False),
        ("ok", "fail", True),
    ],
)
def test_a_set_that_keeps_what_was_acknowledged_is_fine(
    history: History, added: str | None, removed: str | None, is_there: bool
) -> None:
    element(history, "add", added)
    if removed is not None:
        element(history, "remove", removed)
    final(history, *(["x"] if is_there else []))

    assert texts(SetChecker("links"), history) == []


@pytest.mark.parametrize(
    ("added", "removed", "is_there", "text"),
    [
        ("ok", None, False, "links: x was acknowledged, and is gone"),
        ("ok", "ok", True, "links: x came back after it was deleted"),
        ("fail", None, True, "links: x was refused, and is there"),
        ("ok", "fail", False, "links: x is gone, though its deletion was refused"),
    ],
)
def test_a_set_that_loses_or_revives_an_element_is_found(
    history: History, added: str, removed: str | None, is_there: bool, text: str
) -> None:
    element(history, "add", added)
    if removed is not None:
        element(history, "remove", removed)
    final(history, *(["x"] if is_there else []))
    final(history, *(["x"] if is_there else []))

    assert texts(SetChecker("links"), history) == [text]


def test_one_reader_of_a_set_who_is_behind_is_enough(history: History) -> None:
    element(history, "add", "ok")
    final(history, "x")
    final(history)

    assert texts(SetChecker("links"), history) == ["links: x was acknowledged, and is gone"]


def test_an_element_that_nobody_added_is_found(history: History) -> None:
    final(history, "stranger")

    assert texts(SetChecker("links"), history) == ["links: stranger is there, and nobody added it"]


def test_a_set_that_was_never_read_is_no_proof(history: History) -> None:
    element(history, "add", "ok")

    assert texts(SetChecker("links"), history) == ["nobody read links in the end"]


def write(history: History, do: str, value: str | None, phase: str | None = "ok") -> None:
    operation = history.invoke("writer", "register", key="k", do=do, value=value)
    if phase == "conflict":
        history.complete(operation, "fail", code="conflict")
    elif phase is not None:
        history.complete(operation, phase)  # type: ignore[arg-type]


def read(history: History, value: str | None, **data: object) -> None:
    operation = history.invoke("reader", "register", key="k", do="read", **data)
    history.complete(operation, "ok", value=value, key="k")


Step = Callable[[History], None]


def wrote(do: str, value: str | None = None, phase: str | None = "ok") -> Step:
    return lambda history: write(history, do, value, phase)


def was_read(value: str | None) -> Step:
    return lambda history: read(history, value)


def two_at_once(history: History) -> None:
    """Two writes that overlap."""
    numbers = [
        history.invoke("writer", "register", key="k", do="put", value=value) for value in ("1", "2")
    ]
    for number in numbers:
        history.complete(number, "ok")


GOOD: dict[str, list[Step]] = {
    "a value is read back": [wrote("put", "1"), was_read("1")],
    "a deleted value is gone": [wrote("put", "1"), wrote("delete"), was_read(None)],
    "of two writes at once the first may be last": [two_at_once, was_read("1")],
    "of two writes at once the second may be last": [two_at_once, was_read("2")],
    "an unknown write may have happened": [wrote("put", "1", "info"), was_read("1")],
    "an unknown write may never happen": [wrote("put", "1", "info"), was_read(None)],
    "an unanswered write may happen later": [
        wrote("put", "1", None),
        wrote("put", "2"),
        was_read("2"),
        was_read("1"),
    ],
    "a refused write leaves no trace": [wrote("put", "1", "fail"), was_read(None)],
    "a second link conflicts": [
        wrote("put_new", "1"),
        wrote("put_new", "2", "conflict"),
        was_read("1"),
    ],
    "the same link again does not": [wrote("put_new", "1"), wrote("put_new", "1")],
}

BAD: dict[str, list[Step]] = {
    "a lost write": [wrote("put", "1"), was_read(None)],
    "a stale read": [wrote("put", "1"), wrote("put", "2"), was_read("1")],
    "a value that comes back": [wrote("put", "1"), wrote("delete"), was_read("1")],
    "a value that flickers": [two_at_once, was_read("1"), was_read("2")],
    "a value from nowhere": [was_read("1")],
    "a refused write that happened": [wrote("put", "1", "fail"), was_read("1")],
    "two links under one name": [wrote("put_new", "1"), wrote("put_new", "2")],
    "a conflict with nothing": [wrote("put_new", "1", "conflict")],
    "a read before the write": [was_read("1"), wrote("put", "1", "info")],
}


@pytest.mark.parametrize("steps", GOOD.values(), ids=GOOD.keys())
def test_a_register_that_behaves_like_one_copy_is_fine(history: History, steps: list[Step]) -> None:
    for step in steps:
        step(history)

    assert texts(RegisterChecker(), history) == []


@pytest.mark.parametrize("steps", BAD.values(), ids=BAD.keys())
def test_a_register_that_does_not_is_found(history: History, steps: list[Step]) -> None:
    for step in steps:
        step(history)

    assert texts(RegisterChecker(), history) == [
        "k: no order of its operations explains what was seen"
    ]


def test_the_operation_that_fits_nowhere_is_among_the_proof(history: History) -> None:
    write(history, "put", "1")
    write(history, "put", "2")
    read(history, "1")
    (violation,) = RegisterChecker().check(history.entries)

    assert violation.evidence[-1].data["value"] == "1"
    assert violation.evidence[-1].process == "reader"


def test_a_register_too_hard_to_decide_is_said_to_be(history: History) -> None:
    for number in range(12):
        write(history, "put", str(number), None)
    read(history, "nobody wrote this")

    assert texts(RegisterChecker(steps_max=100), history) == ["k: undecided after 100 steps"]


@given(st.lists(st.tuples(st.sampled_from(["put", "put_new", "delete", "read"]), st.booleans())))
def test_whatever_one_copy_does_is_accepted(steps: Sequence[tuple[str, bool]]) -> None:
    """A model executes each operation at one moment of its time; some are never answered."""
    history = History(Clock())
    state: str | None = None
    unanswered: list[tuple[int, str, dict[str, object]]] = []
    for number, (do, is_slow) in enumerate(steps):
        value = None if do in ("delete", "read") else str(number)
        operation = history.invoke("p", "register", key="k", do=do, value=value)
        phase, outcome = "ok", dict[str, object]()
        match do:
            case "put" | "delete":
                state = value
            case "put_new" if state in (None, value):
                state = value
            case "put_new":
                phase, outcome = "fail", {"code": "conflict"}
            case _:
                outcome = {"value": state}
        unanswered.append((operation, phase, outcome))
        if not is_slow:
            for number_, phase_, outcome_ in unanswered:
                history.complete(number_, phase_, **outcome_)  # type: ignore[arg-type]
            unanswered.clear()

    assert texts(RegisterChecker(), history) == []


def see(history: History, watcher: str, value: str | None) -> None:
    history.observe(watcher, "seen", key="k", value=value)


def test_watchers_that_follow_to_the_end_are_fine(history: History) -> None:
    for value in ("1", "2", "3"):
        write(history, "put", value)
    see(history, "one", "1")
    see(history, "one", "3")
    see(history, "other", "2")
    see(history, "other", "3")
    read(history, "3", final=True)

    assert texts(WatchChecker(), history) == []


def test_a_watcher_that_stops_short_is_found(history: History) -> None:
    write(history, "put", "1")
    see(history, "one", "1")
    write(history, "put", "2")
    read(history, "2", final=True)

    assert texts(WatchChecker(), history) == ["one ends at an old value of k: 1, not 2"]


def test_a_value_that_nobody_wrote_is_found(history: History) -> None:
    see(history, "one", "1")

    assert texts(WatchChecker(), history) == ["one saw k = 1: nobody wrote it"]


def test_watchers_that_disagree_about_the_order_are_found(history: History) -> None:
    for value in ("1", "2"):
        write(history, "put", value)
    for watcher, values in (("one", ("1", "2")), ("other", ("2", "1"))):
        for value in values:
            see(history, watcher, value)

    assert texts(WatchChecker(), history) == ["one and other saw k change in different orders"]


def fault(
    history: History, canaries: Sequence[tuple[str, str]], *, total: bool = False, bound_s: int = 9
) -> None:
    """A fault, and canaries by whether they were sent ``during`` or ``after`` it, and fared."""
    number = history.invoke("nemesis", "fault", fault="storm", total=total, bound_s=bound_s)
    for when in ("during", "after"):
        if when == "after":
            history.complete(number, "ok")
        for sent, phase in canaries:
            if sent == when:
                canary = history.invoke("canary", "canary", of="call")
                history.complete(canary, phase, code="unavailable")  # type: ignore[arg-type]


def test_a_run_without_faults_is_fine(history: History) -> None:
    assert texts(LivenessChecker(), history) == []


def test_a_fault_that_nobody_feels_is_fine(history: History) -> None:
    fault(history, [("during", "ok"), ("after", "ok")])

    assert texts(LivenessChecker(), history) == []
    assert [each.recovered_s for each in recoveries(history.entries)] == [0.0]


def test_a_fault_counts_from_its_injection_where_others_can_serve(history: History) -> None:
    fault(history, [("during", "fail"), ("during", "fail"), ("after", "ok")], bound_s=5)

    assert texts(LivenessChecker(), history) == ["storm was felt for 7.0 s, over its bound of 5 s"]


def test_a_total_fault_counts_from_its_end(history: History) -> None:
    canaries = [("during", "fail"), ("during", "fail"), ("after", "fail"), ("after", "ok")]
    fault(history, canaries, total=True, bound_s=5)

    assert texts(LivenessChecker(), history) == []
    assert [each.recovered_s for each in recoveries(history.entries)] == [4.0]


def test_a_lattice_that_stays_dead_is_found(history: History) -> None:
    fault(history, [("during", "ok"), ("after", "fail")])

    assert texts(LivenessChecker(), history) == ["after storm no canary ever succeeded"]


def test_each_fault_is_judged_by_its_own_canaries(history: History) -> None:
    fault(history, [("during", "ok"), ("after", "ok")])
    fault(history, [("during", "fail"), ("after", "fail")])

    assert texts(LivenessChecker(), history) == ["after storm no canary ever succeeded"]


@pytest.mark.parametrize(
    ("kinds", "found"),
    [
        (["converged", "healed", "converged"], []),
        ([], ["the faults were never ended"]),
        (["converged", "healed", "not converged"], ["it never got well"]),
        (
            ["healed", "not converged", "not converged", "converged"],
            ["it took 3.0 s, over the bound of 2 s"],
        ),
    ],
    ids=["soon", "not healed", "never", "late"],
)
def test_convergence_counts_from_the_end_of_all_faults(
    history: History, kinds: list[str], found: list[str]
) -> None:
    for kind in kinds:
        history.observe("suite", kind)

    assert texts(ConvergenceChecker(bound_s=2), history) == found


def test_figures_within_their_bounds_are_fine(history: History) -> None:
    history.observe("h", "figure", figure="calls waiting", value=3, most=3)
    history.observe("h", "figure", figure="goodput", value=0.8, least=0.8)

    assert texts(BoundChecker(), history) == []


def test_a_figure_beyond_its_bound_is_found(history: History) -> None:
    history.observe("h", "figure", figure="calls waiting", value=4, most=3)
    history.observe("h", "figure", figure="goodput", value=0.7, least=0.8)

    assert texts(BoundChecker(), history) == [
        "calls waiting of h is 4, over its bound of 3",
        "goodput of h is 0.7, below 0.8",
    ]


def resources(history: History, when: str, value: int) -> None:
    history.observe("h", "resources", when=when, resource="threads", value=value)


def test_resources_that_return_to_the_baseline_are_fine(history: History) -> None:
    for when, value in (("before", 5), ("after", 6)):
        resources(history, when, value)

    assert texts(LeakChecker(allowed={"threads": 1}), history) == []


def test_a_leak_is_found(history: History) -> None:
    for when, value in (("before", 5), ("after", 7)):
        resources(history, when, value)

    assert texts(LeakChecker(allowed={"threads": 1}), history) == ["h has 7 threads, and had 5"]


def test_resources_that_were_never_counted_again_are_no_proof(history: History) -> None:
    resources(history, "before", 5)

    assert texts(LeakChecker(), history) == ["threads of h were not counted in the end"]


def test_what_a_fault_expects_is_judged(history: History) -> None:
    history.observe("flood", "expectation", met=True, text="some were refused")
    history.observe("flood", "expectation", met=False, text="some were taken")

    assert texts(ExpectationChecker(), history) == ["some were taken"]


def test_all_checkers_are_asked(history: History) -> None:
    history.observe("flood", "expectation", met=False, text="some were taken")
    element(history, "add", "ok")

    found = check_all((ExpectationChecker(), SetChecker("links")), history.entries)
    assert [violation.checker for violation in found] == ["expectation", "set"]
    assert isinstance(found[0], Violation)
