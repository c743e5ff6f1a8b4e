"""What each operation does to the value of one key, for backends that can't compute themselves.

Pure functions of the value as it is (None for no key) to the value as it will be. Redis is the
reference: its type rules, its number format, its index arithmetic, and that a list or a set that
loses its last item is gone.
"""

import re
from collections.abc import Sequence

from lattice import errors
from providers.keyvalue import bounds as sizes
from providers.keyvalue.bounds import Bounds

Value = str | tuple[str, ...] | frozenset[str]
"""Text, a list, or a set; never an empty list or set."""

I32_MIN, I32_MAX = -(2**31), 2**31 - 1
_I64_MIN, _I64_MAX = -(2**63), 2**63 - 1

_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,18}")
"""How Redis writes integers, and the only way it reads them: no sign, zeros or blanks to spare."""


def text(key: str, value: Value | None) -> str | None:
    """The value as text.

    Raises:
        InvalidRequest: it is a list or a set.
    """
    if value is None or isinstance(value, str):
        return value
    raise wrong_type(key)


def items(name: str, value: Value | None) -> tuple[str, ...]:
    """The value as a list; no key is an empty one.

    Raises:
        InvalidRequest: it is something else.
    """
    if value is None or isinstance(value, tuple):
        return value or ()
    raise wrong_type(name)


def members(name: str, value: Value | None) -> frozenset[str]:
    """The value as a set; no key is an empty one.

    Raises:
        InvalidRequest: it is something else.
    """
    if value is None or isinstance(value, frozenset):
        return value or frozenset()
    raise wrong_type(name)


def increment(key: str, value: Value | None, amount: int) -> int:
    """The number after adding ``amount``.

    Raises:
        InvalidRequest: the value is not a number, or the sum leaves the 32-bit range.
    """
    digits = text(key, value)
    if digits is None:
        digits = "0"
    if not _INTEGER.fullmatch(digits) or not _I64_MIN <= int(digits) <= _I64_MAX:
        raise not_a_number(key)
    total = int(digits) + amount
    if not I32_MIN <= total <= I32_MAX:
        raise out_of_range(key)
    return total


def list_add(name: str, value: Value | None, item: str, bounds: Bounds) -> tuple[str, ...]:
    held = items(name, value)
    sizes.check_room(name, len(held), bounds)
    return (*held, item)


def list_del(name: str, value: Value | None, item: str) -> tuple[str, ...]:
    """The list without the first occurrence of ``item``."""
    held = items(name, value)
    if item not in held:
        return held
    at = held.index(item)
    return held[:at] + held[at + 1 :]


def list_range(name: str, value: Value | None, start: int, stop: int, bounds: Bounds) -> list[str]:
    """Items ``start`` to ``stop``, both included; negative ones count from the end."""
    held = items(name, value)
    first = max(start + len(held), 0) if start < 0 else start
    last = stop + len(held) if stop < 0 else stop
    found = list(held[first : last + 1]) if last >= 0 else []
    sizes.check_reply(found, bounds)
    return found


def set_add(name: str, value: Value | None, item: str, bounds: Bounds) -> frozenset[str]:
    held = members(name, value)
    if item in held:
        return held
    sizes.check_room(name, len(held), bounds)
    return held | {item}


def set_del(name: str, value: Value | None, item: str) -> frozenset[str]:
    return members(name, value) - {item}


def union(sets: Sequence[frozenset[str]], bounds: Bounds) -> frozenset[str]:
    found = frozenset[str]().union(*sets)
    sizes.check_reply(found, bounds)
    return found


def intersection(sets: Sequence[frozenset[str]], bounds: Bounds) -> frozenset[str]:
    found = sets[0].intersection(*sets[1:])
    sizes.check_reply(found, bounds)
    return found


def wrong_type(key: str) -> errors.InvalidRequest:
    return errors.InvalidRequest(
        f"key {key!r} holds another type than this operation works on", detail={"key": key}
    )


def not_a_number(key: str) -> errors.InvalidRequest:
    return errors.InvalidRequest(
        f"key {key!r} does not hold a decimal integer", detail={"key": key}
    )


def out_of_range(key: str) -> errors.InvalidRequest:
    return errors.InvalidRequest(
        f"the sum at key {key!r} would leave the range of a 32-bit integer; it is as it was",
        detail={"key": key},
    )
