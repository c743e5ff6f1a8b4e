"""What providers and links are told: texts by name, whose letters' case does not matter."""

from collections.abc import Collection, Mapping

import structlog

from lattice import errors

log = structlog.get_logger()


def folded(config: Mapping[str, str]) -> dict[str, str]:
    """A configuration by names in lower case.

    Raises:
        InvalidRequest: two spellings of a name have different values.
    """
    found: dict[str, str] = {}
    for key, value in config.items():
        if found.setdefault(key.lower(), value) != value:
            raise errors.InvalidRequest(f"{key} is given twice, in two spellings and two values")
    return found


def ignored(config: Mapping[str, str], known: Collection[str]) -> list[str]:
    """Keys that mean nothing there: a slip of the pen, or another provider's."""
    return sorted(key for key in config if key.lower() not in known)


def tell_ignored(config: Mapping[str, str], known: Collection[str], **whose: str) -> None:
    """Log the keys that mean nothing in a configuration of ``whose``: it may be meant otherwise."""
    if keys := ignored(config, known):
        log.warning("configuration keys ignored", keys=keys, **whose)


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


def boolean(config: Mapping[str, str], key: str, *, default: bool) -> bool:
    """Whether something is so.

    Raises:
        InvalidRequest: neither true nor false.
    """
    text = config.get(key, str(default)).lower()
    if text not in ("true", "false"):
        raise errors.InvalidRequest(f"{key} is {text[:40]!r}; want true or false")
    return text == "true"
