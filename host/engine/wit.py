"""WIT's types, and the plain values that stand for theirs on our side and on the wire.

A value that left a component is what msgpack packs and what it gives back, so that a value needs
no second form to cross hosts:

========================= ===============================================================
``bool``, integers        the same
``f32``, ``f64``          float; an integer is taken for one
``char``, ``string``      str
``list<u8>``              bytes
``list``, ``tuple``       list
``record``                dict of its fields
``variant``               dict of one: the case to its payload, ``None`` where it has none
``result``                dict of one: ``ok`` or ``err``
``enum``                  str
``flags``                 list of str
``option``                ``None``, or the value; of an option of an option, a list of one
========================= ===============================================================

Arguments of a function are a list. Handles of resources have no such form: they don't leave
their component. ``check`` holds a value against its type before anything is written into a
component's memory, where half a value would be read as a whole one.
"""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

from lattice import errors, limits

DEPTH_MAX = 100
"""Types within types: wasmtime accepts as many."""


class Type:
    """A WIT type; written as WIT by ``str``."""

    __slots__ = ()

    def parts(self) -> Iterator["Type"]:
        """The types it is made of, one level down."""
        return iter(())


@dataclass(frozen=True, slots=True)
class Primitive(Type):
    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class List(Type):
    element: Type

    def __str__(self) -> str:
        return f"list<{self.element}>"

    def parts(self) -> Iterator[Type]:
        yield self.element


@dataclass(frozen=True, slots=True)
class Record(Type):
    fields: tuple[tuple[str, Type], ...]

    def __str__(self) -> str:
        return f"record {{ {', '.join(f'{name}: {kind}' for name, kind in self.fields)} }}"

    def parts(self) -> Iterator[Type]:
        return (kind for _, kind in self.fields)


@dataclass(frozen=True, slots=True)
class Tuple(Type):
    elements: tuple[Type, ...]

    def __str__(self) -> str:
        return f"tuple<{', '.join(map(str, self.elements))}>"

    def parts(self) -> Iterator[Type]:
        return iter(self.elements)


@dataclass(frozen=True, slots=True)
class Variant(Type):
    cases: tuple[tuple[str, Type | None], ...]

    def __str__(self) -> str:
        cases = (name if kind is None else f"{name}({kind})" for name, kind in self.cases)
        return f"variant {{ {', '.join(cases)} }}"

    def parts(self) -> Iterator[Type]:
        return (kind for _, kind in self.cases if kind is not None)


@dataclass(frozen=True, slots=True)
class Enum(Type):
    names: tuple[str, ...]

    def __str__(self) -> str:
        return f"enum {{ {', '.join(self.names)} }}"


@dataclass(frozen=True, slots=True)
class Option(Type):
    payload: Type

    def __str__(self) -> str:
        return f"option<{self.payload}>"

    def parts(self) -> Iterator[Type]:
        yield self.payload


@dataclass(frozen=True, slots=True)
class Result(Type):
    ok: Type | None
    err: Type | None

    def __str__(self) -> str:
        if self.err is None:
            return "result" if self.ok is None else f"result<{self.ok}>"
        return f"result<{'_' if self.ok is None else self.ok}, {self.err}>"

    def parts(self) -> Iterator[Type]:
        return (kind for kind in (self.ok, self.err) if kind is not None)


@dataclass(frozen=True, slots=True)
class Flags(Type):
    names: tuple[str, ...]

    def __str__(self) -> str:
        return f"flags {{ {', '.join(self.names)} }}"


@dataclass(frozen=True, slots=True)
class Handle(Type):
    """A resource that is handed over (``own``) or lent (``borrow``)."""

    owned: bool

    def __str__(self) -> str:
        return "own<resource>" if self.owned else "borrow<resource>"


@dataclass(frozen=True, slots=True)
class Function:
    """A function's type."""

    parameters: tuple[tuple[str, Type], ...]
    result: Type | None

    def __str__(self) -> str:
        parameters = ", ".join(f"{name}: {kind}" for name, kind in self.parameters)
        return f"func({parameters})" + ("" if self.result is None else f" -> {self.result}")

    @property
    def has_handles(self) -> bool:
        """Whether it takes or gives resources, somewhere."""
        kinds = [kind for _, kind in self.parameters]
        kinds += [self.result] if self.result is not None else []
        return any(_has_handle(kind) for kind in kinds)


def _has_handle(kind: Type) -> bool:
    return isinstance(kind, Handle) or any(_has_handle(part) for part in kind.parts())


@dataclass(frozen=True, slots=True)
class Interface:
    """What a component imports or exports under one name."""

    name: str
    """``namespace:package/name@version``, or the bare name of what belongs to the world itself."""
    functions: dict[str, Function]
    resources: dict[str, str]
    """Its types of resources, and the name under which each was first imported or exported."""

    @property
    def plain_name(self) -> str:
        """The name without its version."""
        return self.name.split("@")[0]


@dataclass(frozen=True, slots=True)
class World:
    """Everything a component imports and exports; what belongs to no interface is under ``""``."""

    imports: dict[str, Interface]
    exports: dict[str, Interface]


@dataclass(frozen=True, slots=True)
class Own:
    """A resource of the host on its way to a guest: its number there, and that of its type."""

    number: int
    kind: int


VALUE_COST = 16
"""What a value that is converted on its own costs, in bytes of a ``list<u8>``: it takes as long."""


class Budget:
    """How much may still cross in one direction of one call of a function."""

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = limits.WIT_CROSSING_MAX

    def spend(self, size: int) -> None:
        """Take so many bytes of a ``list<u8>``.

        Raises:
            PayloadTooLarge: there are not so many left.
        """
        if size > self.left:
            spent = limits.WIT_CROSSING_MAX - self.left
            raise errors.PayloadTooLarge(
                "what crosses a component's boundary (bytes of a list<u8> as one each, other"
                f" values as {VALUE_COST})",
                spent + size,
                limits.WIT_CROSSING_MAX,
            )
        self.left -= size

    def spend_values(self, count: int) -> None:
        """Take so many values.

        Raises:
            PayloadTooLarge: there are not so many left.
        """
        self.spend(VALUE_COST * count)


Check = Callable[[Any, str, Budget], None]
"""Takes a value, what it is called in errors, and the budget it is charged to."""

_INTEGERS = {
    f"{sign}{bits}": (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if sign == "s" else (0, 2**bits - 1)
    for sign in "su"
    for bits in (8, 16, 32, 64)
}


def checker(kind: Type) -> Check:
    """Build what holds values against a type: it raises ``InvalidRequest``, naming the place."""
    match kind:
        case Primitive(name):
            return _check_primitive(name)
        case List(Primitive("u8")):
            return _check_bytes
        case List(element):
            return _check_list(kind, checker(element))
        case Tuple(elements):
            return _check_tuple(kind, [checker(each) for each in elements])
        case Record(fields):
            return _check_record(kind, {name: checker(each) for name, each in fields})
        case Variant(cases):
            return _check_variant(
                kind, {name: None if each is None else checker(each) for name, each in cases}
            )
        case Result(ok, err):
            cases_ = (("ok", ok), ("err", err))
            return _check_variant(
                kind, {name: None if each is None else checker(each) for name, each in cases_}
            )
        case Option(payload):
            return _check_option(kind, checker(payload), is_nested=isinstance(payload, Option))
        case Enum(names):
            return _check_enum(kind, frozenset(names))
        case Flags(names):
            return _check_flags(kind, frozenset(names))
        case Handle():
            return _check_handle
        case _:
            raise AssertionError(kind)


def _refuse(wanted: object, value: object, where: str) -> NoReturn:
    text = str(wanted)
    text = text if len(text) <= 200 else f"{text[:200]}..."
    raise errors.InvalidRequest(f"{where}: want {text}, got {_shown(value)}")


def _shown(value: object) -> str:
    if isinstance(value, int | float | bool | None):
        return repr(value)[:100]
    if isinstance(value, str):
        return repr(value[:50])
    return f"{type(value).__name__} of {len(value)}" if hasattr(value, "__len__") else "a value"


def _check_primitive(name: str) -> Check:
    if name in _INTEGERS:
        least, most = _INTEGERS[name]

        def check_integer(value: Any, where: str, _budget: Budget) -> None:
            if type(value) is not int or not least <= value <= most:
                _refuse(name, value, where)

        return check_integer
    return {
        "bool": _check_bool,
        "f32": _check_f32,
        "f64": _check_f64,
        "char": _check_char,
        "string": _check_string,
    }[name]


def _check_bool(value: Any, where: str, _budget: Budget) -> None:
    if type(value) is not bool:
        _refuse("bool", value, where)


def _check_f32(value: Any, where: str, _budget: Budget) -> None:
    _check_float("f32", "<f", value, where)


def _check_f64(value: Any, where: str, _budget: Budget) -> None:
    _check_float("f64", "<d", value, where)


def _check_float(name: str, form: str, value: Any, where: str) -> None:
    if type(value) not in {int, float}:
        _refuse(name, value, where)
    try:
        struct.pack(form, value)
    except (OverflowError, struct.error):
        _refuse(name, value, where)


def _check_char(value: Any, where: str, _budget: Budget) -> None:
    if not isinstance(value, str) or len(value) != 1 or "\ud800" <= value <= "\udfff":
        _refuse("char", value, where)


def _check_string(value: Any, where: str, budget: Budget) -> None:
    if not isinstance(value, str):
        _refuse("string", value, where)
    # Only so much that it is charged at all: a string crosses in one piece.
    budget.spend(1 + len(value) // 32)
    try:
        value.encode()
    except UnicodeEncodeError:
        _refuse("string", value, where)


def _check_bytes(value: Any, where: str, budget: Budget) -> None:
    if not isinstance(value, bytes):
        _refuse("list<u8>", value, where)
    budget.spend(len(value))


def _check_list(kind: Type, check: Check) -> Check:
    def check_list(value: Any, where: str, budget: Budget) -> None:
        if not isinstance(value, list | tuple):
            _refuse(kind, value, where)
        budget.spend_values(len(value))
        for index, each in enumerate(value):
            check(each, f"{where}[{index}]", budget)

    return check_list


def _check_tuple(kind: Type, checks: list[Check]) -> Check:
    def check_tuple(value: Any, where: str, budget: Budget) -> None:
        if not isinstance(value, list | tuple) or len(value) != len(checks):
            _refuse(kind, value, where)
        budget.spend_values(len(checks))
        for index, (check, each) in enumerate(zip(checks, value, strict=True)):
            check(each, f"{where}[{index}]", budget)

    return check_tuple


def _check_record(kind: Type, checks: dict[str, Check]) -> Check:
    def check_record(value: Any, where: str, budget: Budget) -> None:
        if not isinstance(value, dict) or value.keys() != checks.keys():
            _refuse(kind, value, where)
        budget.spend_values(len(checks))
        for name, check in checks.items():
            check(value[name], f"{where}.{name}", budget)

    return check_record


def _check_variant(kind: Type, checks: dict[str, Check | None]) -> Check:
    def check_variant(value: Any, where: str, budget: Budget) -> None:
        if not isinstance(value, dict) or len(value) != 1:
            _refuse(kind, value, where)
        ((name, payload),) = value.items()
        if name not in checks:
            _refuse(kind, name, where)
        budget.spend_values(1)
        check = checks[name]
        if check is not None:
            check(payload, f"{where}.{name}", budget)
        elif payload is not None:
            _refuse(f"no payload for {name}", payload, where)

    return check_variant


def _check_option(kind: Type, check: Check, *, is_nested: bool) -> Check:
    def check_option(value: Any, where: str, budget: Budget) -> None:
        budget.spend_values(1)
        if value is None:
            return
        if is_nested:
            if not isinstance(value, list | tuple) or len(value) != 1:
                _refuse(kind, value, where)
            value = value[0]
        check(value, where, budget)

    return check_option


def _check_enum(kind: Type, names: frozenset[str]) -> Check:
    def check_enum(value: Any, where: str, _budget: Budget) -> None:
        if not isinstance(value, str) or value not in names:
            _refuse(kind, value, where)

    return check_enum


def _check_flags(kind: Type, names: frozenset[str]) -> Check:
    def check_flags(value: Any, where: str, budget: Budget) -> None:
        if not isinstance(value, list | tuple) or len(value) > len(names):
            _refuse(kind, value, where)
        budget.spend_values(len(value))
        for each in value:
            if not isinstance(each, str) or each not in names:
                _refuse(kind, each, where)

    return check_flags


def _check_handle(value: Any, where: str, _budget: Budget) -> None:
    if not isinstance(value, Own):
        _refuse("a resource", value, where)
