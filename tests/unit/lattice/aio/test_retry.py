import itertools
import random

from hypothesis import given
from hypothesis import strategies as st

from lattice.aio import retry


def test_pauses_grow_to_their_bound_and_keep_half_as_a_floor() -> None:
    pauses = list(itertools.islice(retry.backoff(1, max_s=10, rng=random.Random(1)), 50))

    for pause, bound in zip(pauses, [1, 2, 4, 8, *itertools.repeat(10, 46)], strict=True):
        assert bound / 2 <= pause <= bound


def test_the_same_random_numbers_give_the_same_pauses() -> None:
    def pauses() -> list[float]:
        return list(itertools.islice(retry.backoff(0.1, rng=random.Random(7)), 20))

    assert pauses() == pauses()


def test_full_jitter_stays_below_a_bound_that_doubles() -> None:
    rng = random.Random(1)

    for attempt in range(10):
        drawn = [retry.full_jitter(0.02, attempt, rng=rng) for _ in range(200)]
        assert 0 <= min(drawn) < 0.02 * 2**attempt / 10
        assert 0.02 * 2**attempt * 0.9 < max(drawn) <= 0.02 * 2**attempt


def budget() -> retry.RetryBudget:
    return retry.RetryBudget(share=0.1, per_s=10, saved_max=100, now=0.0)


def test_a_budget_allows_a_few_repetitions_without_any_calls() -> None:
    spending = budget()
    assert [spending.spend(0.0) for _ in range(12)].count(True) == 10
    assert [spending.spend(0.5) for _ in range(12)].count(True) == 5
    assert (spending.spent, spending.refused) == (15, 9)


def test_a_budget_allows_a_share_of_the_calls_beyond_that() -> None:
    spending = budget()
    spending.calls += 300
    assert [spending.spend(0.0) for _ in range(100)].count(True) == 10 + 30


def test_a_budget_saves_no_more_than_its_bound() -> None:
    spending = budget()
    spending.calls += 1_000_000
    assert [spending.spend(3600.0) for _ in range(1_000)].count(True) == 100


@given(
    steps=st.lists(st.tuples(st.integers(0, 50), st.floats(0, 1), st.integers(0, 30)), max_size=50)
)
def test_repetitions_stay_within_the_budget_whatever_the_load(
    steps: list[tuple[int, float, int]],
) -> None:
    spending, now = budget(), 0.0
    for calls, pause_s, wanted in steps:
        spending.calls += calls
        now += pause_s
        for _ in range(wanted):
            spending.spend(now)
    assert spending.spent <= 10 + spending.calls * 0.1 + now * 10 + 1e-6
    assert spending.spent + spending.refused == sum(wanted for _, _, wanted in steps)
