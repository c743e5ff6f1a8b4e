"""The half of wasmtime's C API that is about components: its symbols, its structs, its types.

What ``ffi`` says of ownership holds here, and three things more:

* a value is 32 bytes: a kind in the first, and from the ninth on what it is or where it stands;
* the arguments of a host function die when it returns, and each resource among them must have
  been turned into a number of ours by then, or the guest traps for a borrow that remains;
* an asynchronous host function can fail only before it has suspended its guest: afterwards
  ``error`` points into a stack that is gone. What fails later ends the call.
"""

import ctypes
from collections.abc import Callable, Sequence
from ctypes import c_bool, c_char_p, c_size_t, c_uint32, c_void_p
from typing import Any, Self

from wasmtime import _ffi
from wasmtime import component as wasmtime_component

from host.engine import wit
from host.engine.ffi import (
    Address,
    Compiler,
    Continuation,
    LibraryError,
    _bind,
    _brief,
    _check,
    _lengthy,
)
from lattice import errors, limits

VALUE_BYTES = 32
"""``wasmtime_component_val_t``."""
FIELD_BYTES = 48
"""``wasmtime_component_valrecord_entry_t``: a name of 16 bytes, then a value."""
NAME_BYTES = 16
"""``wasm_byte_vec_t``."""

BOOL, S8, U8, S16, U16, S32, U32, S64, U64, F32, F64, CHAR, STRING = range(13)
LIST, RECORD, TUPLE, VARIANT, ENUM, OPTION, RESULT, FLAGS, RESOURCE = range(13, 22)
"""``wasmtime_component_valkind_t``."""

Callback = ctypes.CFUNCTYPE(
    c_void_p, c_void_p, c_void_p, c_void_p, c_void_p, c_size_t, c_void_p, c_size_t
)
"""``wasmtime_component_func_callback_t``: environment, context, type, arguments and their count,
results and their count. Returns an error or 0."""

AsyncCallback = ctypes.CFUNCTYPE(
    None,
    c_void_p,
    c_void_p,
    c_void_p,
    c_void_p,
    c_size_t,
    c_void_p,
    c_size_t,
    ctypes.POINTER(c_void_p),
    ctypes.POINTER(Continuation),
)
"""``wasmtime_component_func_async_callback_t``."""

Destructor = ctypes.CFUNCTYPE(c_void_p, c_void_p, c_void_p, c_uint32)
"""``wasmtime_component_resource_destructor_t``: environment, context, the resource's number."""

# Running.
instantiate_async: Callable[[Address, Address, Address, Address, Address], Address] = _bind(
    _brief, "wasmtime_component_linker_instantiate_async", c_void_p, *[c_void_p] * 5
)
get_function: Callable[[Address, Address, Address, Address], bool] = _bind(
    _brief, "wasmtime_component_instance_get_func", c_bool, *[c_void_p] * 4
)
call_async: Callable[[Address, Address, Address, int, Address, int, Address], Address] = _bind(
    _brief,
    "wasmtime_component_func_call_async",
    c_void_p,
    c_void_p,
    c_void_p,
    c_void_p,
    c_size_t,
    c_void_p,
    c_size_t,
    c_void_p,
)
error_new: Callable[[bytes], Address] = _bind(_brief, "wasmtime_error_new", c_void_p, c_char_p)

# Values.
_set_bytes = _bind(_brief, "wasm_byte_vec_new", None, c_void_p, c_size_t, c_char_p)
new_list: Callable[[Address, int], None] = _bind(
    _brief, "wasmtime_component_vallist_new_uninit", None, c_void_p, c_size_t
)
new_tuple: Callable[[Address, int], None] = _bind(
    _brief, "wasmtime_component_valtuple_new_uninit", None, c_void_p, c_size_t
)
new_record: Callable[[Address, int], None] = _bind(
    _brief, "wasmtime_component_valrecord_new_uninit", None, c_void_p, c_size_t
)
new_flags: Callable[[Address, int], None] = _bind(
    _brief, "wasmtime_component_valflags_new_uninit", None, c_void_p, c_size_t
)
new_value: Callable[[Address], Address] = _bind(
    _brief, "wasmtime_component_val_new", c_void_p, c_void_p
)
value_delete: Callable[[Address], None] = _bind(
    _brief, "wasmtime_component_val_delete", None, c_void_p
)


def put_bytes(address: Address, content: bytes) -> None:
    """Write a name or a string as the library keeps them: a copy of its own."""
    _set_bytes(address, len(content), content)


# Resources.
_host_new = _bind(
    _brief, "wasmtime_component_resource_host_new", c_void_p, c_bool, c_uint32, c_uint32
)
_host_to_any = _bind(_brief, "wasmtime_component_resource_host_to_any", c_void_p, *[c_void_p] * 3)
_any_to_host = _bind(_brief, "wasmtime_component_resource_any_to_host", c_void_p, *[c_void_p] * 3)
_host_number = _bind(_brief, "wasmtime_component_resource_host_rep", c_uint32, c_void_p)
_host_delete = _bind(_brief, "wasmtime_component_resource_host_delete", None, c_void_p)
_resource_type_new = _bind(_brief, "wasmtime_component_resource_type_new_host", c_void_p, c_uint32)
_resource_type_delete = _bind(_brief, "wasmtime_component_resource_type_delete", None, c_void_p)


def resource_new(context: Address, number: int, kind: int) -> Address:
    """Make a handle, to be owned by the guest it goes to.

    Raises:
        LibraryError: the store has no room for another one.
    """
    handle = _host_new(True, number, kind)
    out = c_void_p()
    error = _host_to_any(context, handle, ctypes.byref(out))
    _host_delete(handle)
    _check(error)
    return out.value or 0


def resource_take(context: Address, handle: Address) -> int:
    """Give the number behind a handle a guest passed, and end what it lent or take what it gave.

    Raises:
        LibraryError: it is no resource of the host.
    """
    out = c_void_p()
    _check(_any_to_host(context, handle, ctypes.byref(out)))
    number: int = _host_number(out.value)
    _host_delete(out.value)
    return number


# Components and linkers.
_component_new = _bind(
    _lengthy, "wasmtime_component_new", c_void_p, c_void_p, c_char_p, c_size_t, c_void_p
)
_component_serialize = _bind(_lengthy, "wasmtime_component_serialize", c_void_p, c_void_p, c_void_p)
_component_deserialize = _bind(
    _lengthy, "wasmtime_component_deserialize", c_void_p, c_void_p, c_char_p, c_size_t, c_void_p
)
component_clone: Callable[[Address], Address] = _bind(
    _brief, "wasmtime_component_clone", c_void_p, c_void_p
)
component_delete: Callable[[Address], None] = _bind(
    _brief, "wasmtime_component_delete", None, c_void_p
)
_export_index = _bind(
    _brief,
    "wasmtime_component_get_export_index",
    c_void_p,
    c_void_p,
    c_void_p,
    c_char_p,
    c_size_t,
)
export_index_delete: Callable[[Address], None] = _bind(
    _brief, "wasmtime_component_export_index_delete", None, c_void_p
)
linker_new: Callable[[Address], Address] = _bind(
    _brief, "wasmtime_component_linker_new", c_void_p, c_void_p
)
linker_delete: Callable[[Address], None] = _bind(
    _brief, "wasmtime_component_linker_delete", None, c_void_p
)
_linker_root = _bind(_brief, "wasmtime_component_linker_root", c_void_p, c_void_p)
_instance_delete = _bind(_brief, "wasmtime_component_linker_instance_delete", None, c_void_p)
_add_instance = _bind(
    _brief,
    "wasmtime_component_linker_instance_add_instance",
    c_void_p,
    c_void_p,
    c_char_p,
    c_size_t,
    c_void_p,
)
_define = [c_void_p, c_char_p, c_size_t, c_void_p, c_void_p, c_void_p]
_add_function = _bind(_brief, "wasmtime_component_linker_instance_add_func", c_void_p, *_define)
_add_async_function = _bind(
    _brief, "wasmtime_component_linker_instance_add_func_async", c_void_p, *_define
)
_add_resource = _bind(
    _brief,
    "wasmtime_component_linker_instance_add_resource",
    c_void_p,
    c_void_p,
    c_char_p,
    c_size_t,
    *[c_void_p] * 4,
)


COMPONENTS = Compiler(
    _component_new, _component_serialize, _component_deserialize, component_delete
)


def export_index(component: Address, interface: str, function: str) -> Address:
    """Where an exported function is found in every instance; ``interface`` is "" for the world's.

    Raises:
        LibraryError: there is none.
    """
    home: Address | None = None
    if interface:
        name = interface.encode()
        home = _export_index(component, None, name, len(name))
    name = function.encode()
    found: Address | None = _export_index(component, home, name, len(name))
    if home:
        export_index_delete(home)
    if not found:
        raise LibraryError(f"no export {interface} {function}")
    return found


def export_index_or_none(component: Address, function: str) -> Address | None:
    """Where a function of the world's is found in every instance, if there is one."""
    name = function.encode()
    found: Address | None = _export_index(component, None, name, len(name))
    return found


def _code(callback: Any) -> Address:
    """The code of a callback. ``cast`` would have it refer to itself, for the collector to find."""
    return c_void_p.from_buffer(callback).value or 0


class Linking:
    """The instance of a linker that a component's imports of one interface resolve to."""

    def __init__(self, linker: Address, interface: str) -> None:
        self._root: Address = _linker_root(linker)
        self._home = self._root
        self._name = interface

    def __enter__(self) -> Self:
        if self._name:
            out, name = c_void_p(), self._name.encode()
            _check(_add_instance(self._root, name, len(name), ctypes.byref(out)))
            self._home = out.value or 0
        return self

    def __exit__(self, *_reason: object) -> None:
        if self._home != self._root:
            _instance_delete(self._home)
        _instance_delete(self._root)

    def add_function(self, name: str, callback: Any) -> None:
        """Put a host function behind an import; it must outlive the linker's instances."""
        suspends = isinstance(callback, AsyncCallback)
        define = _add_async_function if suspends else _add_function
        content = name.encode()
        _check(define(self._home, content, len(content), _code(callback), None, None))

    def add_resource(self, name: str, kind: int, destructor: Any) -> None:
        """Put a type of the host's resources, known by its number, behind an import."""
        content = name.encode()
        resource = _resource_type_new(kind)
        try:
            _check(
                _add_resource(
                    self._home,
                    content,
                    len(content),
                    resource,
                    _code(destructor),
                    None,
                    None,
                )
            )
        finally:
            _resource_type_delete(resource)


class _Engine:
    """As much of ``wasmtime.Engine`` as reading types asks for."""

    def __init__(self, engine: Address) -> None:
        self._pointer = ctypes.cast(engine, ctypes.POINTER(_ffi.wasm_engine_t))

    def ptr(self) -> Any:
        return self._pointer


def component_world(engine: Address, component: Address) -> wit.World:
    """Read what a component imports and exports.

    Raises:
        InvalidRequest: it has a type that can't cross to the host; says which, and why.
    """
    clone = ctypes.cast(
        component_clone(component),
        ctypes.POINTER(_ffi.wasmtime_component_t),
    )
    # Its wrappers walk every type, which is slow, and done once here.
    kind = wasmtime_component.Component._from_ptr(clone).type  # noqa: SLF001
    reader = _TypeReader(_Engine(engine))
    return wit.World(
        imports=reader.interfaces(kind.imports(reader.engine), "import"),
        exports=reader.interfaces(kind.exports(reader.engine), "export"),
    )


class _TypeReader:
    def __init__(self, engine: Any) -> None:
        self.engine = engine
        self._left = limits.WIT_TYPES_MAX
        self._where = ""
        self._resources: list[tuple[Any, str]] = []
        """Types of resources that were seen, and their names."""

    def interfaces(self, items: dict[str, Any], side: str) -> dict[str, wit.Interface]:
        found: dict[str, wit.Interface] = {}
        own: dict[str, wit.Function] = {}
        used: dict[str, str] = {}
        for name, item in items.items():
            kind = item.ty
            self._where = f"{side} {name}"
            if isinstance(kind, wasmtime_component.ComponentInstanceType):
                found[name] = self._interface(name, kind, side)
            elif isinstance(kind, wasmtime_component.FuncType):
                own[name] = self._function(kind)
            elif isinstance(kind, wasmtime_component.ResourceType):
                if side == "import":
                    used[name] = self._used(kind)
            elif isinstance(kind, wasmtime_component.ComponentType | wasmtime_component.ModuleType):
                if side == "import":
                    raise errors.InvalidRequest(
                        f"the component can't run here: the {self._where} is a module or a"
                        " component; compose them before"
                    )
            else:
                # A type that it names for others.
                self._type(kind, 0)
        if own or used:
            found[""] = wit.Interface("", own, used)
        return found

    def _interface(self, name: str, kind: Any, side: str) -> wit.Interface:
        functions: dict[str, wit.Function] = {}
        resources: dict[str, str] = {}
        for member, item in kind.exports(self.engine).items():
            what = item.ty
            self._where = f"{side} {name}#{member}"
            if isinstance(what, wasmtime_component.FuncType):
                functions[member] = self._function(what)
            elif isinstance(what, wasmtime_component.ResourceType):
                resources[member] = self._first_name(what, member)
            elif isinstance(what, wasmtime_component.ValType):
                self._type(what, 0)
            else:
                raise errors.InvalidRequest(
                    f"the component can't run here: the {self._where} is neither a function nor a"
                    " type"
                )
        return wit.Interface(name, functions, resources)

    def _first_name(self, resource: Any, name: str) -> str:
        """What a type was called first: interfaces use resources of others by new names."""
        if (first := self._seen(resource)) is not None:
            return first
        self._resources.append((resource, name))
        return name

    def _used(self, resource: Any) -> str:
        """What a type was called first that a world uses of an interface it imports."""
        if (first := self._seen(resource)) is None:
            raise errors.InvalidRequest(
                f"the component can't run here: the {self._where} is a resource outside of an"
                " interface"
            )
        return first

    def _seen(self, resource: Any) -> str | None:
        return next((first for seen, first in self._resources if seen == resource), None)

    def _function(self, kind: Any) -> wit.Function:
        if _is_async(ctypes.cast(kind.ptr(), c_void_p)):
            raise self._refusal("is an async function", "async functions are WASI 0.3's")
        parameters = tuple((name, self._type(each, 0)) for name, each in kind.params)
        result = kind.result
        return wit.Function(parameters, None if result is None else self._type(result, 0))

    def _refusal(self, what: str, why: str) -> errors.InvalidRequest:
        return errors.InvalidRequest(
            f"the component can't run here: the {self._where} {what}; {why}, and only WASI 0.2 is"
            " supported, until wasmtime's C API gains more"
        )

    def _type(self, kind: Any, depth: int) -> wit.Type:
        self._left -= 1
        if self._left < 0:
            raise errors.InvalidRequest(
                f"the component has more than {limits.WIT_TYPES_MAX} types within types"
            )
        if depth > wit.DEPTH_MAX:
            raise errors.InvalidRequest(
                f"the component can't run here: the {self._where} has types more than"
                f" {wit.DEPTH_MAX} deep"
            )
        deeper = depth + 1
        match type(kind).__name__:
            case "Bool" | "S8" | "U8" | "S16" | "U16" | "S32" | "U32" | "S64" | "U64" as name:
                return wit.Primitive(name.lower())
            case "F32" | "F64" | "Char" | "String" as name:
                return wit.Primitive(name.lower())
            case "ListType":
                return wit.List(self._type(kind.element, deeper))
            case "RecordType":
                return wit.Record(self._named(kind.fields, deeper))
            case "TupleType":
                return wit.Tuple(tuple(self._type(each, deeper) for each in kind.elements))
            case "VariantType":
                return wit.Variant(
                    tuple((name, self._optional(each, deeper)) for name, each in kind.cases)
                )
            case "EnumType":
                return wit.Enum(tuple(kind.names))
            case "OptionType":
                return wit.Option(self._type(kind.payload, deeper))
            case "ResultType":
                return wit.Result(self._optional(kind.ok, deeper), self._optional(kind.err, deeper))
            case "FlagsType":
                return wit.Flags(tuple(kind.names))
            case "OwnType":
                return wit.Handle(owned=True)
            case "BorrowType":
                return wit.Handle(owned=False)
            case "StreamType":
                raise self._refusal("mentions a stream", "streams are WASI 0.3's")
            case "FutureType":
                raise self._refusal("mentions a future", "futures are WASI 0.3's")
            case "ErrorContext":
                raise self._refusal("mentions an error-context", "error contexts are WASI 0.3's")
            case other:
                raise errors.InvalidRequest(
                    f"the component can't run here: the {self._where} has a type of the unknown"
                    f" kind {other}"
                )

    def _optional(self, kind: Any, depth: int) -> wit.Type | None:
        return None if kind is None else self._type(kind, depth)

    def _named(self, fields: Sequence[Any], depth: int) -> tuple[tuple[str, wit.Type], ...]:
        return tuple((name, self._type(each, depth)) for name, each in fields)


_is_async = _bind(_brief, "wasmtime_component_func_type_async", c_bool, c_void_p)
