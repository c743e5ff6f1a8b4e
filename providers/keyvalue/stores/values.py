"""What each operation does to the value of one key, for backends that can't compute themselves.

Pure functions of the value as it is (None for no key), which give the value as it will be and the
operation's answer; None, or an empty list or set, deletes the key. Redis is the reference: its type
rules, its number format, its index arithmetic, and that a list or a set that loses its last item is
gone.
"""

import heapq
import re
from collections.abc import Iterable, Sequence

from lattice import errors
from providers.keyvalue import bounds as sizes
from providers.keyvalue.bounds import I64, Bounds
from providers.keyvalue.stores import Page

Value = bytes | tuple[str, ...] | frozenset[str]
"""Bytes, a list, or a set; never an empty list or set."""

_INTEGER = re.compile(rb"0|-?[1-9][0-9]{0,18}")
"""How Redis writes integers, and the only way it reads them: no sign, zeros or blanks to spare."""


def content(key: str, value: Value | None) -> bytes | None:
    """The value as bytes.

    Raises:
        InvalidRequest: it is a list or a set.
    """
    if value is None or isinstance(value, bytes):
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


def increment(key: str, value: Value | None, amount: int, within: range) -> tuple[bytes, int]:
    """
    Raises:
        InvalidRequest: the value is not a number, or the sum is not ``within``.
    """
    digits = content(key, value)
    if digits is None:
        digits = b"0"
    if not _INTEGER.fullmatch(digits) or int(digits) not in I64:
        raise not_a_number(key)
    total = int(digits) + amount
    if total not in within:
        raise out_of_range(key, within)
    return b"%d" % total, total


def list_add(
    name: str, value: Value | None, item: str, bounds: Bounds
) -> tuple[tuple[str, ...], int]:
    held = items(name, value)
    sizes.check_room(name, len(held), bounds)
    return (*held, item), len(held) + 1


def list_clear(name: str, value: Value | None) -> tuple[tuple[str, ...], bool]:
    return (), bool(items(name, value))


def list_del(name: str, value: Value | None, item: str) -> tuple[tuple[str, ...], bool]:
    held = items(name, value)
    if item not in held:
        return held, False
    at = held.index(item)
    return held[:at] + held[at + 1 :], True


def list_range(name: str, value: Value | None, start: int, stop: int, bounds: Bounds) -> list[str]:
    """Items ``start`` to ``stop``, both included; negative ones count from the end."""
    held = items(name, value)
    first = max(start + len(held), 0) if start < 0 else start
    last = stop + len(held) if stop < 0 else stop
    found = list(held[first : last + 1]) if last >= 0 else []
    sizes.check_reply(map(sizes.text_bytes, found), bounds)
    return found


def set_add(
    name: str, value: Value | None, item: str, bounds: Bounds
) -> tuple[frozenset[str], int]:
    held = members(name, value)
    if item in held:
        return held, 0
    sizes.check_room(name, len(held), bounds)
    return held | {item}, 1


def set_clear(name: str, value: Value | None) -> tuple[frozenset[str], bool]:
    return frozenset(), bool(members(name, value))


def set_del(name: str, value: Value | None, item: str) -> tuple[frozenset[str], int]:
    held = members(name, value)
    return held - {item}, int(item in held)


def union(sets: Sequence[frozenset[str]], bounds: Bounds) -> frozenset[str]:
    found = frozenset[str]().union(*sets)
    sizes.check_reply(map(sizes.text_bytes, found), bounds)
    return found


def intersection(sets: Sequence[frozenset[str]], bounds: Bounds) -> frozenset[str]:
    found = sets[0].intersection(*sets[1:])
    sizes.check_reply(map(sizes.text_bytes, found), bounds)
    return found


def first_keys(keys: Iterable[str], after: str | None, count: int) -> list[str]:
    """The first keys after one, in the order of their UTF-8 bytes, which is that of characters."""
    return heapq.nsmallest(count, (key for key in keys if after is None or key > after))


def page(keys: Iterable[str], after: str | None, bounds: Bounds) -> Page:
    """The page that comes after a cursor, of all keys in any order."""
    found = first_keys(keys, after, bounds.page_keys_max + 1)
    if len(found) <= bounds.page_keys_max:
        return Page(found, None)
    return Page(found[:-1], found[-2])


def wrong_type(key: str) -> errors.InvalidRequest:
    return errors.InvalidRequest(
        f"key {key!r} holds another type than this operation works on", detail={"key": key}
    )


def not_a_number(key: str) -> errors.InvalidRequest:
    return errors.InvalidRequest(
        f"key {key!r} does not hold a decimal integer", detail={"key": key}
    )


def out_of_range(key: str, within: range) -> errors.InvalidRequest:
    return errors.InvalidRequest(
        f"the sum at key {key!r} would not be from {within.start} to {within.stop - 1}; "
        "the number is as it was",
        detail={"key": key},
    )
