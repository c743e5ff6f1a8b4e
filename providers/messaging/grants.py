"""What links may touch: subjects, patterns of them, and what is out of bounds for every link.

A provider inside a host has the host's own connection, which may do anything. So what the lattice,
JetStream and the servers say to each other is *reserved*: no wildcard takes it in, and no link may
name it, unless the provider's own configuration says so.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from lattice import errors

SUBJECT_BYTES_MAX = 1_024
"""Longest subject: two of them fit a line of NATS's protocol, 4 KiB."""

TOKENS_RESERVED = ("wasmbus", "lattice", "wadm")
"""First tokens of what the lattice says to itself."""

PREFIXES_RESERVED = ("$", "_")
"""First characters of what NATS says to itself: ``$SYS``, ``$JS``, ``$KV``, ``_INBOX``."""

INBOX = "_INBOX."
"""Where answers go; whoever knows one was asked a question with it."""


def parse_subject(text: str) -> str:
    """A subject to send to: no wildcards, and nothing that could end a line of the protocol.

    Raises:
        InvalidRequest: saying what is wrong.
    """
    tokens = _tokens(text, "subject")
    if "*" in tokens or ">" in tokens:
        raise errors.InvalidRequest(f"subject {text[:100]!r} has wildcards; a message goes to one")
    return text


def parse_pattern(text: str) -> str:
    """A subject that may have wildcards: ``*`` for one token, ``>`` at the end for the rest.

    Raises:
        InvalidRequest: saying what is wrong.
    """
    if ">" in _tokens(text, "pattern")[:-1]:
        raise errors.InvalidRequest(f"pattern {text[:100]!r} has its > before the end")
    return text


def covers(pattern: str, other: str) -> bool:
    """Whether a pattern takes in a subject, or all that another pattern does."""
    wanted, found = pattern.split("."), other.split(".")
    for index, part in enumerate(wanted):
        if part == ">":
            return len(found) > index
        if index >= len(found) or found[index] == ">" or part not in ("*", found[index]):
            return False
    return len(wanted) == len(found)


def overlaps(pattern: str, other: str) -> bool:
    """Whether there is a subject that two patterns both take in."""
    ours, theirs = pattern.split("."), other.split(".")
    for one, two in zip(ours, theirs, strict=False):
        if ">" in (one, two):
            return True
        if "*" not in (one, two) and one != two:
            return False
    return len(ours) == len(theirs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Territory:
    """What is reserved for this provider's links."""

    reserved: tuple[str, ...] = ()
    """Patterns beside those that always are."""
    unreserved: tuple[str, ...] = ()
    """Patterns of what links may name nevertheless."""

    def is_reserved(self, pattern: str) -> bool:
        """Whether a subject is, or a pattern takes in anything that is."""
        if any(covers(free, pattern) for free in self.unreserved):
            return False
        first = pattern.partition(".")[0]
        return (
            first in ("*", ">", *TOKENS_RESERVED)
            or first.startswith(PREFIXES_RESERVED)
            or any(overlaps(each, pattern) for each in self.reserved)
        )

    def check_read(self, patterns: Iterable[str]) -> None:
        """Refuse to read what is reserved.

        Raises:
            Denied: a pattern takes in something that is.
        """
        for pattern in patterns:
            if self.is_reserved(pattern):
                raise errors.Denied(
                    f"a link may not read {pattern}: it takes in what the lattice or NATS itself"
                    " uses; name its first token, or have the provider's own configuration allow it"
                    " with: unreserved"
                )

    def check_send(
        self, subject: str, *, allowed: tuple[str, ...] | None, is_answering: bool
    ) -> None:
        """Refuse to send where a link may not.

        ``allowed`` are its patterns, None for all that is not reserved; inboxes are apart from
        that, for links that are ``is_answering``.

        Raises:
            InvalidRequest: it is no subject.
            Denied: the link does not allow it.
        """
        parse_subject(subject)
        if subject.startswith(INBOX) and is_answering:
            return
        if self.is_reserved(subject):
            raise errors.Denied(f"{subject} is for the lattice's or NATS's own use")
        if allowed is not None and not any(covers(pattern, subject) for pattern in allowed):
            raise errors.Denied(
                f"the link does not allow {subject}; add it to the link's configuration: publish"
            )


def _tokens(text: str, what: str) -> list[str]:
    size_bytes = len(text.encode(errors="replace"))
    if size_bytes > SUBJECT_BYTES_MAX:
        raise errors.InvalidRequest(
            f"a {what} is {size_bytes} bytes, over the limit of {SUBJECT_BYTES_MAX}",
            detail={"size": size_bytes, "limit": SUBJECT_BYTES_MAX},
        )
    tokens = text.split(".")
    if not all(tokens):
        raise errors.InvalidRequest(f"{what} {text[:100]!r} has an empty token")
    # Neither a space nor a line end; also none that only looks like something else.
    if not text.isprintable() or any(char.isspace() for char in text):
        raise errors.InvalidRequest(f"{what} {text[:100]!r} has characters that can't be sent")
    return tokens
