"""Values on their way into a component and out: ``wasmtime_component_val_t`` to ours and back.

Per type one function is built, once for a component, that reads or writes the value where it
stands in memory. Reading copies: what the library lends is gone when a host function returns.
Writing trusts its value: it was held against its type before (``wit.checker``), for memory that
was promised to the library and then not written would be read as whatever lies there. So nothing
here fails half-way, but for want of memory.
"""

import ctypes
import struct
from collections.abc import Callable
from typing import Any

from host.engine import component_ffi as ffi
from host.engine import wit
from host.engine.ffi import Address
from lattice import errors, limits

Lift = Callable[[Address, wit.Budget, bytes, int], Any]
"""Takes the store's context, the budget to charge, and the bytes with the place of the value."""

Lower = Callable[[Address, Address, Any], None]
"""Takes the store's context, where to write, and the value."""

_PRIMITIVES = {
    "bool": (ffi.BOOL, "?"),
    "s8": (ffi.S8, "b"),
    "u8": (ffi.U8, "B"),
    "s16": (ffi.S16, "h"),
    "u16": (ffi.U16, "H"),
    "s32": (ffi.S32, "i"),
    "u32": (ffi.U32, "I"),
    "s64": (ffi.S64, "q"),
    "u64": (ffi.U64, "Q"),
    "f32": (ffi.F32, "f"),
    "f64": (ffi.F64, "d"),
    "char": (ffi.CHAR, "I"),
}
_VALUE = ffi.VALUE_BYTES
_FIELD = ffi.FIELD_BYTES
_NAME = ffi.NAME_BYTES

_word = struct.Struct("<Q").unpack_from
_two_words = struct.Struct("<QQ").unpack_from


def lifter(kind: wit.Type) -> Lift:
    """Build what reads values of a type."""
    match kind:
        case wit.Primitive("string"):
            return _lift_string
        case wit.Primitive("char"):
            return _lift_char
        case wit.Primitive(name):
            return _lift_number(_PRIMITIVES[name][1])
        case wit.List(wit.Primitive("u8")):
            return _lift_bytes
        case wit.List(element):
            return _lift_list(lifter(element))
        case wit.Tuple(elements):
            return _lift_tuple([lifter(each) for each in elements])
        case wit.Record(fields):
            return _lift_record([(name, lifter(each)) for name, each in fields])
        case wit.Variant(cases):
            return _lift_variant({name.encode(): (name, _optional(each)) for name, each in cases})
        case wit.Result(ok, err):
            return _lift_result(_optional(ok), _optional(err))
        case wit.Option(payload):
            return _lift_option(lifter(payload), is_nested=isinstance(payload, wit.Option))
        case wit.Enum():
            return _lift_string
        case wit.Flags():
            return _lift_flags
        case wit.Handle():
            return _lift_handle
        case _:
            raise AssertionError(kind)


def _optional(kind: wit.Type | None) -> Lift | None:
    return None if kind is None else lifter(kind)


def _lift_number(form: str) -> Lift:
    unpack = struct.Struct(f"<{form}").unpack_from

    def lift_number(_context: Address, _budget: wit.Budget, data: bytes, at: int) -> Any:
        return unpack(data, at + 8)[0]

    return lift_number


_unpack_char = struct.Struct("<I").unpack_from


def _lift_char(_context: Address, _budget: wit.Budget, data: bytes, at: int) -> str:
    return chr(_unpack_char(data, at + 8)[0])


def _lift_string(_context: Address, budget: wit.Budget, data: bytes, at: int) -> str:
    size, place = _two_words(data, at + 8)
    budget.spend(1 + size // 32)
    return ctypes.string_at(place, size).decode() if size else ""


def _lift_bytes(_context: Address, budget: wit.Budget, data: bytes, at: int) -> bytes:
    size, place = _two_words(data, at + 8)
    budget.spend(size)
    return ctypes.string_at(place, _VALUE * size)[8::_VALUE] if size else b""


def _lift_list(lift: Lift) -> Lift:
    def lift_list(context: Address, budget: wit.Budget, data: bytes, at: int) -> list[Any]:
        size, place = _two_words(data, at + 8)
        budget.spend_values(size)
        if not size:
            return []
        content = ctypes.string_at(place, _VALUE * size)
        values = []
        for each in range(0, _VALUE * size, _VALUE):
            values.append(lift(context, budget, content, each))  # noqa: PERF401 - stays off the C stack
        return values

    return lift_list


def _lift_tuple(lifts: list[Lift]) -> Lift:
    def lift_tuple(context: Address, budget: wit.Budget, data: bytes, at: int) -> list[Any]:
        budget.spend_values(len(lifts))
        _, place = _two_words(data, at + 8)
        content = ctypes.string_at(place, _VALUE * len(lifts))
        values = []
        for index, lift in enumerate(lifts):
            values.append(lift(context, budget, content, _VALUE * index))
        return values

    return lift_tuple


def _lift_record(lifts: list[tuple[str, Lift]]) -> Lift:
    def lift_record(context: Address, budget: wit.Budget, data: bytes, at: int) -> dict[str, Any]:
        budget.spend_values(len(lifts))
        _, place = _two_words(data, at + 8)
        content = ctypes.string_at(place, _FIELD * len(lifts))
        values = {}
        for index, (name, lift) in enumerate(lifts):
            values[name] = lift(context, budget, content, _FIELD * index + _NAME)
        return values

    return lift_record


def _lift_variant(cases: dict[bytes, tuple[str, Lift | None]]) -> Lift:
    def lift_variant(context: Address, budget: wit.Budget, data: bytes, at: int) -> dict[str, Any]:
        budget.spend_values(1)
        size, place = _two_words(data, at + 8)
        name, lift = cases[ctypes.string_at(place, size)]
        if lift is None:
            return {name: None}
        (payload,) = _word(data, at + 24)
        return {name: lift(context, budget, ctypes.string_at(payload, _VALUE), 0)}

    return lift_variant


def _lift_result(ok: Lift | None, err: Lift | None) -> Lift:
    def lift_result(context: Address, budget: wit.Budget, data: bytes, at: int) -> dict[str, Any]:
        budget.spend_values(1)
        name, lift = ("ok", ok) if data[at + 8] else ("err", err)
        if lift is None:
            return {name: None}
        (payload,) = _word(data, at + 16)
        return {name: lift(context, budget, ctypes.string_at(payload, _VALUE), 0)}

    return lift_result


def _lift_option(lift: Lift, *, is_nested: bool) -> Lift:
    def lift_option(context: Address, budget: wit.Budget, data: bytes, at: int) -> Any:
        budget.spend_values(1)
        (payload,) = _word(data, at + 8)
        if not payload:
            return None
        value = lift(context, budget, ctypes.string_at(payload, _VALUE), 0)
        return [value] if is_nested else value

    return lift_option


def _lift_flags(_context: Address, budget: wit.Budget, data: bytes, at: int) -> list[str]:
    size, place = _two_words(data, at + 8)
    budget.spend_values(size)
    if not size:
        return []
    content = ctypes.string_at(place, _NAME * size)
    names = []
    for each in range(0, _NAME * size, _NAME):
        length, start = _two_words(content, each)
        names.append(ctypes.string_at(start, length).decode())
    return names


def _lift_handle(context: Address, budget: wit.Budget, data: bytes, at: int) -> int:
    budget.spend_values(1)
    (handle,) = _word(data, at + 8)
    return ffi.resource_take(context, handle)


def lowerer(kind: wit.Type) -> Lower:
    """Build what writes values of a type."""
    match kind:
        case wit.Primitive("string"):
            return _lower_name(ffi.STRING)
        case wit.Primitive("char"):
            return _lower_char
        case wit.Primitive(name):
            return _lower_number(*_PRIMITIVES[name])
        case wit.List(wit.Primitive("u8")):
            return _lower_bytes
        case wit.List(element):
            return _lower_list(lowerer(element))
        case wit.Tuple(elements):
            return _lower_tuple([lowerer(each) for each in elements])
        case wit.Record(fields):
            return _lower_record([(name, name.encode(), lowerer(each)) for name, each in fields])
        case wit.Variant(cases):
            return _lower_variant(
                {
                    name: (name.encode(), None if each is None else lowerer(each))
                    for name, each in cases
                }
            )
        case wit.Result(ok, err):
            return _lower_result(
                None if ok is None else lowerer(ok), None if err is None else lowerer(err)
            )
        case wit.Option(payload):
            return _lower_option(lowerer(payload), is_nested=isinstance(payload, wit.Option))
        case wit.Enum():
            return _lower_name(ffi.ENUM)
        case wit.Flags():
            return _lower_flags
        case wit.Handle():
            return _lower_handle
        case _:
            raise AssertionError(kind)


def _begin(address: Address, kind: int) -> None:
    ctypes.memmove(address, bytes((kind, 0, 0, 0, 0, 0, 0, 0)), 8)


def _place(address: Address) -> Address:
    """Where the values of what was just made at this address go."""
    return ctypes.c_void_p.from_address(address + 16).value or 0


def _lower_number(kind: int, form: str) -> Lower:
    pack = struct.Struct(f"<B7x{form}").pack
    size = struct.calcsize(f"<B7x{form}")

    def lower_number(_context: Address, address: Address, value: Any) -> None:
        ctypes.memmove(address, pack(kind, value), size)

    return lower_number


_pack_char = struct.Struct("<B7xI").pack


def _lower_char(_context: Address, address: Address, value: str) -> None:
    ctypes.memmove(address, _pack_char(ffi.CHAR, ord(value)), 12)


def _lower_name(kind: int) -> Lower:
    def lower_name(_context: Address, address: Address, value: str) -> None:
        _begin(address, kind)
        ffi.put_bytes(address + 8, value.encode())

    return lower_name


def _lower_bytes(_context: Address, address: Address, value: bytes) -> None:
    size = len(value)
    _begin(address, ffi.LIST)
    ffi.new_list(address + 8, size)
    if not size:
        return
    # A value for each byte: its kind, seven bytes of nothing, the byte, 23 bytes of nothing.
    content = bytearray(_VALUE * size)
    content[0::_VALUE] = bytes((ffi.U8,)) * size
    content[8::_VALUE] = value
    ctypes.memmove(_place(address), bytes(content), _VALUE * size)


def _lower_list(lower: Lower) -> Lower:
    def lower_list(context: Address, address: Address, value: Any) -> None:
        _begin(address, ffi.LIST)
        ffi.new_list(address + 8, len(value))
        place = _place(address)
        for index, each in enumerate(value):
            lower(context, place + _VALUE * index, each)

    return lower_list


def _lower_tuple(lowers: list[Lower]) -> Lower:
    def lower_tuple(context: Address, address: Address, value: Any) -> None:
        _begin(address, ffi.TUPLE)
        ffi.new_tuple(address + 8, len(lowers))
        place = _place(address)
        for index, lower in enumerate(lowers):
            lower(context, place + _VALUE * index, value[index])

    return lower_tuple


def _lower_record(lowers: list[tuple[str, bytes, Lower]]) -> Lower:
    def lower_record(context: Address, address: Address, value: dict[str, Any]) -> None:
        _begin(address, ffi.RECORD)
        ffi.new_record(address + 8, len(lowers))
        place = _place(address)
        for index, (name, encoded, lower) in enumerate(lowers):
            ffi.put_bytes(place + _FIELD * index, encoded)
            lower(context, place + _FIELD * index + _NAME, value[name])

    return lower_record


def _boxed(lower: Lower | None, context: Address, value: Any) -> bytes:
    """Write a value into memory of its own, and give its address as the library keeps it."""
    if lower is None:
        return bytes(8)
    room = (ctypes.c_char * _VALUE)()
    address = ctypes.addressof(room)
    lower(context, address, value)
    return ffi.new_value(address).to_bytes(8, "little")


def _lower_variant(cases: dict[str, tuple[bytes, Lower | None]]) -> Lower:
    def lower_variant(context: Address, address: Address, value: dict[str, Any]) -> None:
        ((name, payload),) = value.items()
        encoded, lower = cases[name]
        boxed = _boxed(lower, context, payload)
        _begin(address, ffi.VARIANT)
        ffi.put_bytes(address + 8, encoded)
        ctypes.memmove(address + 24, boxed, 8)

    return lower_variant


def _lower_result(ok: Lower | None, err: Lower | None) -> Lower:
    def lower_result(context: Address, address: Address, value: dict[str, Any]) -> None:
        ((name, payload),) = value.items()
        is_ok = name == "ok"
        boxed = _boxed(ok if is_ok else err, context, payload)
        _begin(address, ffi.RESULT)
        ctypes.memmove(address + 8, bytes((is_ok, 0, 0, 0, 0, 0, 0, 0)) + boxed, 16)

    return lower_result


def _lower_option(lower: Lower, *, is_nested: bool) -> Lower:
    def lower_option(context: Address, address: Address, value: Any) -> None:
        if value is None:
            boxed = bytes(8)
        else:
            boxed = _boxed(lower, context, value[0] if is_nested else value)
        _begin(address, ffi.OPTION)
        ctypes.memmove(address + 8, boxed, 8)

    return lower_option


def _lower_flags(_context: Address, address: Address, value: Any) -> None:
    _begin(address, ffi.FLAGS)
    ffi.new_flags(address + 8, len(value))
    place = _place(address)
    for index, name in enumerate(value):
        ffi.put_bytes(place + _NAME * index, name.encode())


def _lower_handle(context: Address, address: Address, value: wit.Own) -> None:
    handle = ffi.resource_new(context, value.number, value.kind)
    _begin(address, ffi.RESOURCE)
    ctypes.memmove(address + 8, handle.to_bytes(8, "little"), 8)


class Signature:
    """A function's type with everything that reads and writes its values."""

    __slots__ = (
        "_check_result",
        "checks",
        "function",
        "lift_result",
        "lifts",
        "lower_result",
        "lowers",
    )

    def __init__(self, function: wit.Function) -> None:
        self.function = function
        kinds = [kind for _, kind in function.parameters]
        self.checks = [(name, wit.checker(kind)) for name, kind in function.parameters]
        self.lifts = [lifter(kind) for kind in kinds]
        self.lowers = [lowerer(kind) for kind in kinds]
        result = function.result
        self._check_result = None if result is None else wit.checker(result)
        self.lift_result = None if result is None else lifter(result)
        self.lower_result = None if result is None else lowerer(result)

    def lift_arguments(self, context: Address, budget: wit.Budget, address: Address) -> list[Any]:
        """Read the arguments of a host function."""
        if not self.lifts:
            return []
        data = ctypes.string_at(address, _VALUE * len(self.lifts))
        values = []
        for index, lift in enumerate(self.lifts):
            values.append(lift(context, budget, data, _VALUE * index))
        return values

    def check_arguments(self, values: Any, budget: wit.Budget) -> None:
        """Hold a call's arguments against the types of the function.

        Raises:
            InvalidRequest: they are not a list of as many, or one is of another type.
            PayloadTooLarge: they are more values than a call may bring.
        """
        if not isinstance(values, list) or len(values) != len(self.checks):
            raise errors.InvalidRequest(
                f"the arguments must be a list of {len(self.checks)}: {self.function}"[
                    : limits.ERROR_TEXT_CHARS
                ]
            )
        for value, (name, check) in zip(values, self.checks, strict=True):
            check(value, name, budget)

    def give_result(
        self, context: Address, budget: wit.Budget, address: Address, value: Any
    ) -> None:
        """Write the result of a host function.

        Raises:
            InvalidRequest: it is not of the function's type; nothing was written.
            PayloadTooLarge: it is more values than a call may bring.
        """
        if self._check_result is None or self.lower_result is None:
            return
        self._check_result(value, "result", budget)
        self.lower_result(context, address, value)
