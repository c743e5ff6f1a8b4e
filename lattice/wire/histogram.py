"""Durations, counted by their size: small, mergeable, and exact to a sixteenth.

A value's bucket is its length in bits and the three bits after the first, so buckets are as wide as
an eighth of what they hold, at any size. Two histograms of the same buckets add up to the one that
would have counted everything.
"""

from collections.abc import Iterable, Sequence
from typing import Self

from lattice import errors

VALUE_MAX = 2**30 - 1
"""Largest value told apart from larger ones: in microseconds, longer than any call may take."""

_QUICK = 4_096
"""Values whose bucket is looked up: the durations of most calls."""


def bucket_of(value: int) -> int:
    """The index of the bucket that counts a value, from 0."""
    value = min(max(value, 0), VALUE_MAX)
    shift = max(value.bit_length() - 4, 0)
    return (shift << 3) + (value >> shift)


def bounds_of(bucket: int) -> tuple[int, int]:
    """The least and the greatest value that a bucket counts."""
    shift = max((bucket >> 3) - 1, 0)
    low = (bucket - (shift << 3)) << shift
    return low, low + (1 << shift) - 1


BUCKETS = bucket_of(VALUE_MAX) + 1

_QUICK_BUCKETS = bytes(map(bucket_of, range(_QUICK)))


class Histogram:
    """Counts of values; grows to the bucket of its largest one and no further."""

    __slots__ = ("_counts",)

    def __init__(self, counts: Iterable[int] = ()) -> None:
        self._counts = list(counts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Histogram) and self.pairs() == other.pairs()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Histogram({self._counts})"

    def add(self, value: int) -> None:
        """Count a value, at least 0. It is on the path of every call: two look-ups for most."""
        try:
            bucket = _QUICK_BUCKETS[value]
        except IndexError:
            bucket = bucket_of(value)
        try:
            self._counts[bucket] += 1
        except IndexError:
            self._counts += [0] * (bucket + 1 - len(self._counts))
            self._counts[bucket] = 1

    @property
    def total(self) -> int:
        return sum(self._counts)

    @property
    def least(self) -> int | None:
        """The smallest value, as far as its bucket tells; None of none."""
        return next((bounds_of(b)[0] for b, count in enumerate(self._counts) if count), None)

    @property
    def greatest(self) -> int | None:
        """The largest value, as far as its bucket tells; None of none."""
        last = max((b for b, count in enumerate(self._counts) if count), default=None)
        return None if last is None else bounds_of(last)[1]

    @property
    def mean(self) -> float | None:
        """The average, give or take a sixteenth and usually much less; None of none.

        From the buckets, as the others: a sum beside them would have to be kept on every call.
        """
        if not (total := self.total):
            return None
        return sum(count * sum(bounds_of(b)) / 2 for b, count in enumerate(self._counts)) / total

    def quantile(self, share: float) -> int | None:
        """The value below which that share of all lies, give or take a sixteenth; None of none."""
        wanted = max(1, round(share * self.total))
        seen = 0
        for bucket, count in enumerate(self._counts):
            seen += count
            if seen >= wanted:
                low, high = bounds_of(bucket)
                return (low + high) // 2
        return None

    def merge(self, other: Self) -> None:
        """Count what the other has counted as well."""
        self._counts += [0] * (len(other._counts) - len(self._counts))
        for bucket, count in enumerate(other._counts):
            self._counts[bucket] += count

    def since(self, earlier: Self) -> "Histogram":
        """What was counted after ``earlier`` was read; all of it when the counting began anew."""
        before = earlier._counts + [0] * (len(self._counts) - len(earlier._counts))
        if len(before) > len(self._counts) or any(
            now < then for now, then in zip(self._counts, before, strict=True)
        ):
            return Histogram(self._counts)
        return Histogram(now - then for now, then in zip(self._counts, before, strict=True))

    def pairs(self) -> list[int]:
        """For the wire: bucket and count, bucket and count, of those that counted anything."""
        return [part for pair in enumerate(self._counts) if pair[1] for part in pair]

    @classmethod
    def from_pairs(cls, pairs: Sequence[object]) -> Self:
        """Undo ``pairs``.

        Raises:
            InvalidRequest: not what ``pairs`` gives.
        """
        histogram = cls()
        last = -1
        for bucket, count in zip(pairs[::2], pairs[1::2], strict=False):
            if type(bucket) is not int or type(count) is not int:
                raise errors.InvalidRequest("histogram: not numbers")
            if not last < bucket < BUCKETS or not 0 < count < 2**63:
                raise errors.InvalidRequest("histogram: not buckets and counts in order")
            histogram._counts += [0] * (bucket - last - 1) + [count]
            last = bucket
        if len(pairs) % 2:
            raise errors.InvalidRequest("histogram: a bucket without a count")
        return histogram
