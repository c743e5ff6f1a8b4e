"""Messages that a subscription had no room for: nats-py drops them, and only says so in passing."""

from collections import Counter
from typing import Any
from weakref import WeakKeyDictionary

SUBJECTS_MAX = 50
"""Subjects that are counted by name; a connection that drops on more has one cause for all."""

OTHERS = "(others)"

INBOXES = "_INBOX."


class Drops:
    """One connection's, counted since it was made."""

    def __init__(self) -> None:
        self.total = 0
        self.by_subject: Counter[str] = Counter()
        """By the subject that was subscribed to."""
        self._by_subscription: WeakKeyDictionary[Any, int] = WeakKeyDictionary()

    def note(self, subject: str, subscription: Any) -> None:
        # Each inbox has a name of its own.
        subject = f"{INBOXES}>" if subject.startswith(INBOXES) else subject
        if subject not in self.by_subject and len(self.by_subject) >= SUBJECTS_MAX:
            subject = OTHERS
        self.total += 1
        self.by_subject[subject] += 1
        self._by_subscription[subscription] = self.of(subscription) + 1

    def of(self, subscription: Any) -> int:
        """How many one subscription of the client's has lost."""
        return self._by_subscription.get(subscription, 0)
