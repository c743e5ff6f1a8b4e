"""When an actor that keeps trapping is left alone, for how long, and how it comes back."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from host.actors.throttle import Throttle, ThrottlePolicy

POLICY = ThrottlePolicy(traps=3, pause_s=1.0, pause_s_max=8.0)


def longest(_: float, most: float) -> float:
    return most


def trapped(throttle: Throttle, times: int, *, now: float = 0.0) -> list[bool]:
    return [throttle.failed(now, longest, "unreachable", probe=False) for _ in range(times)]


def test_only_so_many_traps_in_a_row_throttle() -> None:
    throttle = Throttle(POLICY)
    assert trapped(throttle, 2) == [False, False]
    assert not throttle.succeeded()
    assert trapped(throttle, 3) == [False, False, True]
    assert (throttle.is_on, throttle.left_s(0.25)) == (True, 0.75)


def test_one_call_is_let_through_when_the_time_is_up() -> None:
    throttle = Throttle(POLICY)
    trapped(throttle, 3)
    assert not throttle.admit(0.999)
    assert throttle.admit(1.0)
    assert not throttle.admit(1.0), "one probe at a time"


def test_a_probe_that_succeeds_ends_it() -> None:
    throttle = Throttle(POLICY)
    trapped(throttle, 3)
    throttle.admit(1.0)
    assert throttle.succeeded()
    assert not throttle.is_on
    assert throttle.admit(1.0)
    assert trapped(throttle, 2) == [False, False], "it counts from the beginning"


def test_a_probe_that_fails_doubles_the_pause_up_to_its_bound() -> None:
    throttle = Throttle(POLICY)
    trapped(throttle, 3)
    now, pauses = 0.0, []
    for _ in range(6):
        pauses.append(throttle.left_s(now))
        now += throttle.left_s(now)
        assert throttle.admit(now)
        assert not throttle.failed(now, longest, "again", probe=True), "it had begun before"
    assert pauses == [1, 2, 4, 8, 8, 8]


def test_a_pause_is_drawn_from_nothing_to_its_bound() -> None:
    drawn: list[tuple[float, float]] = []

    def draw(least: float, most: float) -> float:
        drawn.append((least, most))
        return 0.5

    throttle = Throttle(POLICY)
    for _ in range(3):
        throttle.failed(0.0, draw, "unreachable", probe=False)
    assert (drawn, throttle.left_s(0.0)) == ([(0, 1.0)], 0.5)


def test_calls_that_were_running_already_do_not_lengthen_the_pause() -> None:
    throttle = Throttle(POLICY)
    trapped(throttle, 3)
    assert trapped(throttle, 50) == [False] * 50
    assert (throttle.left_s(0.0), throttle.traps) == (1.0, 53)


def test_a_probe_that_says_nothing_makes_room_for_another() -> None:
    throttle = Throttle(POLICY)
    trapped(throttle, 3)
    throttle.admit(1.0)
    throttle.lost()
    assert throttle.admit(1.0)


def test_it_can_be_switched_off() -> None:
    throttle = Throttle(ThrottlePolicy(traps=0))
    assert trapped(throttle, 1_000) == [False] * 1_000
    assert throttle.admit(0.0)


class ThrottleMachine(RuleBasedStateMachine):
    """Calls that begin and end in any order, at any time, in every way."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.throttle = Throttle(POLICY)
        self.running = 0
        self.probe = False
        self.in_a_row = 0
        self.begun = self.ended = 0

    @rule(seconds=st.floats(0, 20))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def call(self) -> None:
        was_on, left_s = self.throttle.is_on, self.throttle.left_s(self.now)
        admitted = self.throttle.admit(self.now)
        assert admitted == (not was_on or (left_s == 0 and not self.probe))
        if admitted and was_on:
            self.probe = True
        elif admitted:
            self.running += 1

    @precondition(lambda self: self.running or self.probe)
    @rule(
        end=st.sampled_from(["success", "force", "nothing"]), share=st.floats(0, 1), data=st.data()
    )
    def end(self, end: str, share: float, data: st.DataObject) -> None:
        probe = self.probe and (not self.running or data.draw(st.booleans()))
        if not probe:
            self.running -= 1
        match end:
            case "success":
                self.ended += self.throttle.succeeded()
                self.in_a_row = 0
                # One that was out as a probe is a call like any other from here on.
                self.running += self.probe and not probe
                self.probe = False
            case "force":
                self.in_a_row += 1
                began = self.throttle.failed(
                    self.now, lambda low, high: low + share * (high - low), "it", probe=probe
                )
                self.begun += began
                if probe or began:
                    self.probe = False
            case _ if probe:
                self.throttle.lost()
                self.probe = False

    @invariant()
    def it_is_on_exactly_after_so_many_in_a_row(self) -> None:
        assert self.throttle.traps == self.in_a_row
        assert self.throttle.is_on == (self.in_a_row >= POLICY.traps)

    @invariant()
    def a_pause_is_bounded(self) -> None:
        assert 0 <= self.throttle.left_s(self.now) <= POLICY.pause_s_max

    @invariant()
    def what_begins_ends_once(self) -> None:
        assert self.begun - self.ended == self.throttle.is_on

    def teardown(self) -> None:
        """Whatever happened, a call is let through within the longest pause."""
        if self.probe:
            self.throttle.lost()
        assert self.throttle.admit(self.now + POLICY.pause_s_max)


ThrottleMachine.TestCase.settings = settings(
    max_examples=100, stateful_step_count=40, deadline=None, derandomize=True
)
TestThrottleAgainstAModel = ThrottleMachine.TestCase
