import itertools
import random

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
