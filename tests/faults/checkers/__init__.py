"""Checkers of recorded histories: pure, so that each can be shown histories it must refuse."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from tests.faults.history import Entry


@dataclass(frozen=True, slots=True)
class Violation:
    """A promise that was not kept, and the lines of the history that prove it."""

    checker: str
    text: str
    evidence: tuple[Entry, ...] = ()


class Checker(Protocol):
    """Judges one promise."""

    def check(self, history: Sequence[Entry]) -> list[Violation]:
        """Every violation, the earliest first."""
        ...


def check_all(checkers: Sequence[Checker], history: Sequence[Entry]) -> list[Violation]:
    """What all of them have to say."""
    return [violation for checker in checkers for violation in checker.check(history)]
