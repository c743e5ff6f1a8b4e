"""When a provider is started again, and when it is given up."""

import random

import hypothesis.strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from host.supervise.restarts import Phase, RestartPolicy, Restarts

POLICY = RestartPolicy(restarts_max=3, window_s=100, pause_s=1, pause_s_max=8, steady_s=60)


def longest(_low: float, high: float) -> float:
    return high


def crash(restarts: Restarts, now: float) -> float:
    """Have it end; the pause."""
    restarts.crashed(now, longest, "it fell over")
    return restarts.left_s(now)


def test_pauses_double_up_to_their_bound() -> None:
    restarts = Restarts(RestartPolicy(restarts_max=9, pause_s=1, pause_s_max=8), 0)
    assert [crash(restarts, now) for now in range(6)] == [1, 2, 4, 8, 8, 8]


def test_a_pause_is_drawn_from_its_upper_half() -> None:
    drawn: list[tuple[float, float]] = []

    def uniform(low: float, high: float) -> float:
        drawn.append((low, high))
        return low

    restarts = Restarts(POLICY, 0)
    restarts.crashed(0, uniform, "")
    assert drawn == [(0.5, 1)]


def test_a_copy_that_was_well_for_long_enough_starts_the_pauses_over() -> None:
    restarts = Restarts(POLICY, 0)
    crash(restarts, 0)
    crash(restarts, 1)
    restarts.started(2)
    restarts.was_well(2 + POLICY.steady_s)
    assert crash(restarts, 70) == 1


def test_a_copy_that_ran_long_without_an_answer_does_not() -> None:
    """As one that hangs does until it is found out."""
    restarts = Restarts(POLICY, 0)
    crash(restarts, 0)
    restarts.started(1)
    restarts.was_well(2)
    assert crash(restarts, 90) == 2


def test_one_crash_too_many_within_the_window_is_the_last() -> None:
    restarts = Restarts(POLICY, 0)
    for now in (0, 10, 20):
        crash(restarts, now)
        assert restarts.phase is Phase.RESTARTING
        restarts.started(now + 8)
    crash(restarts, 30)
    assert restarts.phase is Phase.GIVEN_UP
    assert (restarts.crashes(30), restarts.left_s(30)) == (4, 0)


def test_crashes_before_the_window_do_not_count() -> None:
    restarts = Restarts(POLICY, 0)
    for now in range(0, 1000, 50):
        crash(restarts, now)
        restarts.started(now + 8)
        assert restarts.phase is Phase.RUNNING
        assert restarts.crashes(now) <= 3


def test_what_could_not_be_tried_is_no_crash() -> None:
    restarts = Restarts(POLICY, 0)
    crash(restarts, 0)
    for now in range(1, 50):
        restarts.postponed(now, longest)
        assert restarts.phase is Phase.RESTARTING
        assert restarts.left_s(now) <= POLICY.pause_s_max
    assert restarts.crashes(50) == 1


def test_with_no_restarts_allowed_the_first_crash_is_the_last() -> None:
    restarts = Restarts(RestartPolicy(restarts_max=0), 0)
    crash(restarts, 0)
    assert restarts.phase is Phase.GIVEN_UP


class RestartsMachine(RuleBasedStateMachine):
    """Against a list of all crashes that ever were."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.rng = random.Random(0)
        self.restarts = Restarts(POLICY, self.now)
        self.crashed: list[float] = []
        self.bound_s = POLICY.pause_s
        self.since = 0.0

    @rule(seconds=st.floats(min_value=0, max_value=120))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    def _pause(self) -> None:
        left_s = self.restarts.left_s(self.now)
        assert self.bound_s / 2 <= left_s + 1e-6
        assert left_s <= self.bound_s + 1e-6
        self.bound_s = min(self.bound_s * 2, POLICY.pause_s_max)

    @precondition(lambda self: self.restarts.phase is not Phase.GIVEN_UP)
    @rule()
    def crash(self) -> None:
        self.restarts.crashed(self.now, self.rng.uniform, "why")
        self.crashed.append(self.now)
        if self.within() > POLICY.restarts_max:
            assert self.restarts.phase is Phase.GIVEN_UP
        else:
            self._pause()

    @precondition(lambda self: self.restarts.phase is Phase.RESTARTING)
    @rule()
    def postpone(self) -> None:
        self.restarts.postponed(self.now, self.rng.uniform)
        self._pause()

    @precondition(lambda self: self.restarts.phase is Phase.RESTARTING)
    @rule()
    def start(self) -> None:
        self.restarts.started(self.now)
        self.since = self.now

    @precondition(lambda self: self.restarts.phase is Phase.RUNNING)
    @rule()
    def answer(self) -> None:
        self.restarts.was_well(self.now)
        if self.now - self.since >= POLICY.steady_s:
            self.bound_s = POLICY.pause_s

    def within(self) -> int:
        return sum(self.now - crash <= POLICY.window_s for crash in self.crashed)

    @invariant()
    def never_more_crashes_than_allowed_without_being_given_up(self) -> None:
        assert self.restarts.crashes(self.now) == self.within()
        if self.restarts.phase is not Phase.GIVEN_UP:
            assert self.within() <= POLICY.restarts_max
            assert self.restarts.left_s(self.now) <= POLICY.pause_s_max
        else:
            assert self.restarts.left_s(self.now) == 0

    @invariant()
    def what_is_kept_is_bounded(self) -> None:
        assert len(self.restarts._crashes) <= POLICY.restarts_max + 1


TestRestartsAgainstAModel = RestartsMachine.TestCase
