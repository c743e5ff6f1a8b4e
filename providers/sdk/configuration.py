"""What providers and links are told: texts by name, whose letters' case does not matter."""

from collections.abc import Collection, Mapping, Sequence
from typing import TypeVar

import structlog

from lattice import errors

log = structlog.get_logger()

Bounds = TypeVar("Bounds")
Word = TypeVar("Word", bound=str)


def folded(config: Mapping[str, str]) -> dict[str, str]:
    """A configuration by names in lower case, without blanks around its values.

    Raises:
        InvalidRequest: two spellings of a name have different values.
    """
    found: dict[str, str] = {}
    for key, value in config.items():
        if found.setdefault(key.lower(), value.strip()) != value.strip():
            raise errors.InvalidRequest(f"{key} is given twice, in two spellings and two values")
    return found


def ignored(config: Mapping[str, str], known: Collection[str]) -> list[str]:
    """Keys that mean nothing there: a slip of the pen, or another provider's."""
    return sorted(key for key in config if key.lower() not in known)


def tell_ignored(config: Mapping[str, str], known: Collection[str], **whose: str) -> None:
    """Log the keys that mean nothing in a configuration of ``whose``: it may be meant otherwise."""
    if keys := ignored(config, known):
        log.warning("configuration keys ignored", keys=keys, **whose)


def bounds(kind: type[Bounds], config: Mapping[str, str], ceilings: Mapping[str, int]) -> Bounds:
    """Bounds of a provider, each set by the key of its name, from one to its ceiling.

    Raises:
        InvalidRequest: one is no number, or out of range.
    """
    said, default = folded(config), kind()
    return kind(
        **{
            name: number(said, name, getattr(default, name), 1, ceiling)
            for name, ceiling in ceilings.items()
        }
    )


def number(config: Mapping[str, str], key: str, default: int, least: int, most: int) -> int:
    """A whole number.

    Raises:
        InvalidRequest: it is none, or out of range.
    """
    text = config.get(key, str(default))
    if not (text.isascii() and text.isdecimal() and len(text) < 20 and least <= int(text) <= most):
        raise errors.InvalidRequest(
            f"{key} is {text[:40]!r}; want a whole number from {least} to {most}"
        )
    return int(text)


def seconds(
    config: Mapping[str, str], key: str, default_ms: int, most_ms: int, *, least_ms: int = 1
) -> float:
    """A time that is written in milliseconds.

    Raises:
        InvalidRequest: not a number, or out of range.
    """
    return number(config, key, default_ms, least_ms, most_ms) / 1_000


def choice(config: Mapping[str, str], key: str, choices: Sequence[Word]) -> Word:
    """One of some words, in any case; the first where nothing is said.

    Raises:
        InvalidRequest: another word.
    """
    text = config.get(key, choices[0]).lower()
    for word in choices:
        if text == word:
            return word
    wanted = f"{', '.join(choices[:-1])} or {choices[-1]}"
    raise errors.InvalidRequest(f"{key} is {text[:40]!r}; want {wanted}")


def boolean(config: Mapping[str, str], key: str, *, default: bool) -> bool:
    """Whether something is so.

    Raises:
        InvalidRequest: neither true nor false.
    """
    text = config.get(key, str(default)).lower()
    if text not in ("true", "false"):
        raise errors.InvalidRequest(f"{key} is {text[:40]!r}; want true or false")
    return text == "true"
