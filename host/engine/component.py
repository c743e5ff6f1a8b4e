"""A component that was compiled, found acceptable, and had its imports resolved.

An import is one of three things. What the host has itself (``wasip2``) is behind its functions.
What else is WASI's is there too, and traps when it is called: components import far more than they
use. Everything else is a *link*: calling it is a call along the link by that interface, with the
arguments as a msgpack array by WIT type; but a function with resources traps, as these don't leave
an actor. What a component exports is called in the same way, as ``interface.function``, so that
components reach each other across hosts.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from host.engine import component_ffi, component_guest, ffi, gauge, wit
from host.engine.code import Code, NativeCode
from host.engine.component_guest import ComponentGuest, HostFunction, Later, told
from host.engine.footprint import Footprint
from host.engine.guest import HostCalls
from host.engine.values import Signature
from lattice import errors, limits, names
from lattice.wire import codec

if TYPE_CHECKING:
    from host.engine.engine import Engine

WASI = frozenset({"cli", "clocks", "filesystem", "http", "io", "random", "sockets"})
"""Packages of ``wasi`` that are the host's own, never links."""


class Entry:
    """An exported function that can be called from outside."""

    operation: ClassVar[str | None] = None
    """The operation that calls it, where that is not its own name."""

    def __init__(self, interface: str, function: str, signature: Signature) -> None:
        self.interface = interface
        """With its version; empty for the world itself."""
        self.function = function
        self.name = self.full_name
        """The operation that calls it."""
        self.signature = signature

    @property
    def own_name(self) -> str:
        """Interface without its package, and function."""
        short = self.interface.partition("@")[0].partition("/")[2]
        return f"{short}.{self.function}" if short else self.function

    @property
    def is_command(self) -> bool:
        """Whether it is a program's start, which may return or exit to say the same."""
        return self.full_name == "wasi:cli/run.run"

    @property
    def full_name(self) -> str:
        """Interface with its package and without its version, and function."""
        return f"{self.interface.partition('@')[0]}.{self.function}"

    def arguments(self, guest: ComponentGuest, payload: bytes) -> list[Any]:
        """Decode a call's payload.

        Raises:
            InvalidRequest: it is not what the function takes.
            PayloadTooLarge: it is more values than a call may bring.
        """
        if guest.source is not None:
            raise errors.InvalidRequest(f"{self.name} takes no payload in pieces")
        return codec.unpack(payload) if payload else []

    def early_response(self, _guest: ComponentGuest) -> bytes | None:
        """Encode what the function has given before it returns, once it has."""
        return None

    def response(self, _guest: ComponentGuest, result: Any) -> bytes | Later:
        """Encode what the function gave, or say what has to be waited for before it is asked again.

        Raises:
            ActorError: it is no answer.
        """
        return codec.pack(result)

    def full_response(self, _guest: ComponentGuest) -> bytes | None:
        """Encode what the function has given in full, be it that it never returned."""
        return None


class NativeComponent(NamedTuple):
    """A ``NativeCode``: a component, and a linker with something behind each of its imports."""

    pointer: ffi.Address
    linker: ffi.Address
    indexes: dict[str, ffi.Address]
    """Where the function of each operation is found in an instance."""
    callbacks: list[Any]
    """What the linker refers to."""
    size: int
    gauge: ffi.Address | None
    """Where the function is found that tells the size of its memories, if it has that."""

    def delete(self) -> None:
        """Give it back to the library."""
        for index in (*self.indexes.values(), self.gauge):
            if index is not None:
                component_ffi.export_index_delete(index)
        component_ffi.linker_delete(self.linker)
        component_ffi.component_delete(self.pointer)
        # Only now: the linker refers to them.
        self.callbacks.clear()


class Facts(NamedTuple):
    """What is known of a component once and for all."""

    world: wit.World
    footprint: Footprint
    entries: Mapping[str, Entry]
    """What can be called, by operation."""
    is_gauged: bool
    """Whether its binary was given the export that tells its memory."""


class Component(Code):
    """A component of the component model."""

    __slots__ = ("_native", "facts")

    def __init__(self, engine: "Engine", *, digest: str, size: int, facts: Facts) -> None:
        super().__init__(
            engine,
            digest=digest,
            size=size,
            imports=tuple(filter(None, facts.world.imports)),
            exports=tuple(facts.world.exports),
            abi="component",
            memory_bytes_min=facts.footprint.memory_bytes,
        )
        self.facts = facts
        self._native: NativeComponent | None = None

    @property
    def native(self) -> NativeComponent:
        """Its native code, which must not be evicted."""
        assert self._native is not None, "it has its code"
        return self._native

    def attach(self, native: NativeCode) -> None:
        """Take over its native code."""
        assert isinstance(native, NativeComponent), "a component's is a component's"
        self._native = native
        super().attach(native)

    def detach(self) -> None:
        """Give up its native code; no execution may have begun that has not ended."""
        self._native = None
        super().detach()

    def entry(self, operation: str, interface: str = "") -> Entry:
        """Find what an operation calls, by itself or over a link for an interface.

        What the interface's own package has goes first. Who has the operation of another package
        alone is called all the same: callers may know an interface by a name of their own.

        Raises:
            InvalidRequest: nothing; says what there is.
        """
        entries = self.facts.entries
        package = interface.partition("/")[0]
        for name in (f"{package}/{operation}", operation) if package else (operation,):
            for key in (name, name.rpartition("/")[2]):
                entry = entries.get(key)
                if entry is not None and name in (entry.name, entry.full_name):
                    return entry
        there = ", ".join(sorted(entries))[: limits.ERROR_TEXT_CHARS - 200]
        raise errors.InvalidRequest(
            f"the component has no operation {operation[:100]!r}; it has: {there or 'none'}"
        )


_NEWER = ("component model async", "component model error-context", "async")


def refused_by_compiler(text: str) -> errors.InvalidRequest:
    """Put into our words what the compiler said of a component."""
    said = " ".join(text.split())[: limits.ERROR_TEXT_CHARS]
    if "requires the component model" in said and any(each in said for each in _NEWER):
        return errors.InvalidRequest(
            "the component can't run here: it has streams, futures, error contexts or async"
            " functions, which are WASI 0.3's, and only WASI 0.2 is supported, until wasmtime's C"
            f" API gains more ({said})"
        )
    return errors.InvalidRequest(f"the component does not compile: {said}")


Functions = Mapping[str, Mapping[str, HostFunction]]
"""Interface without version, function, and what is behind it."""


def _link(linker: int, world: wit.World, functions: Functions, callbacks: list[Any]) -> None:
    """Put something behind each of a component's imports; ``callbacks`` must outlive the linker.

    Raises:
        InvalidRequest: an import can be neither the host's nor a link; says which and why.
    """
    kinds = dict(component_guest.RESOURCES)
    for interface in world.imports.values():
        _check_import(interface, functions)
        own = functions.get(interface.plain_name, {})
        with component_ffi.Linking(linker, interface.name) as linking:
            for name, first in interface.resources.items():
                kind = kinds.setdefault(first, len(kinds) + 1)
                linking.add_resource(name, kind, component_guest.DROP)
            for name, function in interface.functions.items():
                there = own.get(name)
                full_name = f"{interface.name}#{name}"
                if there is None and _is_hosts(interface, functions):
                    made = component_guest.absent(f"{full_name}, which this host does not have")
                elif there is None and function.has_handles:
                    made = component_guest.absent(
                        f"{full_name}, which takes or gives resources, and resources don't leave"
                        " an actor"
                    )
                else:
                    signature = Signature(function)
                    made = component_guest.callback(
                        full_name, there or linked(interface, name, function), signature
                    )
                linking.add_function(name, made)
                callbacks.append(made)


def _is_hosts(interface: wit.Interface, functions: Functions) -> bool:
    """Whether an interface is the host's own, be it that not all of it is there."""
    name = interface.plain_name
    namespace, _, rest = name.partition(":")
    return name in functions or (namespace == "wasi" and rest.partition("/")[0] in WASI)


def _check_import(interface: wit.Interface, functions: Functions) -> None:
    name, version = interface.plain_name, interface.name.partition("@")[2]
    package = name.partition("/")[0]
    if package.removeprefix("wasi:") in WASI and package.startswith("wasi:"):
        if version and not version.startswith("0.2."):
            raise errors.InvalidRequest(
                f"the component can't run here: it imports {interface.name}, and of WASI only 0.2"
                " is supported"
            )
        return
    if name in functions:
        return
    if not interface.name:
        if not interface.functions:
            # Types of other interfaces, which are looked at there.
            return
        raise errors.InvalidRequest(
            f"the component can't run here: it imports the function"
            f" {next(iter(interface.functions))} of no interface, so no link can be found for it"
        )
    names.parse_interface(interface.name)


def linked(interface: wit.Interface, name: str, function: wit.Function) -> HostFunction:
    """Make a function that is a call along a link."""
    namespace = interface.plain_name
    operation = f"{namespace.partition('/')[2]}.{name}"
    # Whoever says with a text why it failed can say so of a call that did not reach it.
    is_told = isinstance(function.result, wit.Result) and function.result.err == wit.Primitive(
        "string"
    )

    def body(guest: ComponentGuest, *values: Any) -> Later:
        def begin(host: HostCalls) -> Any:
            payload = codec.pack(list(values))
            size, limit = len(payload), guest.limits.request_bytes
            if size > limit:
                raise errors.PayloadTooLarge("the arguments", size, limit)
            return host.call(guest.link_name(namespace), namespace, operation, payload)

        def tell(error: errors.LatticeError) -> Any:
            return {"err": told(error)}

        return Later(begin, codec.unpack, tell if is_told else None, is_host_call=True)

    return HostFunction(body, suspends=True)


Special = Mapping[tuple[str, str], Sequence[type[Entry]]]
"""Exports with ways of their own of being called: interface without version, function."""


def _entries(world: wit.World, special: Special) -> dict[str, Entry]:
    """What of a component's exports can be called, by operation.

    Where two packages have the same interface and function, their full names say which; but one
    that is called by that name itself goes before one that is only called like it.

    Raises:
        InvalidRequest: nothing can.
    """
    wanted: dict[str, dict[str, Entry]] = {}
    for interface in world.exports.values():
        for name, function in interface.functions.items():
            ways = special.get((interface.plain_name, name), ())
            if not ways and function.has_handles:
                continue
            for way in ways or (Entry,):
                entry = way(interface.name, name, Signature(function))
                # Of several versions of an interface the last is called.
                wanted.setdefault(way.operation or entry.own_name, {})[entry.full_name] = entry
    found: dict[str, Entry] = {}
    for operation, rivals in wanted.items():
        own = [each for each in rivals.values() if each.own_name == operation]
        for entry in rivals.values():
            if len(rivals) == 1 or own == [entry]:
                entry.name = operation
            elif entry.operation is not None:
                continue
            found[entry.name] = entry
    if not found:
        raise errors.InvalidRequest(
            "the component exports no function that can be called from outside"
        )
    return found


def read_facts(
    engine: int, pointer: int, footprint: Footprint, special: Special, *, is_gauged: bool
) -> Facts:
    """Find out what a component is, from its types.

    Raises:
        InvalidRequest: it can't run here; says why.
    """
    world = component_ffi.component_world(engine, pointer)
    if is_gauged:
        # Of a component within, whose exports may be exported as they are, too.
        for interface in world.exports.values():
            interface.functions.pop(gauge.NAME, None)
    return Facts(world, footprint, _entries(world, special), is_gauged)


def resolve(
    engine: int, pointer: int, facts: Facts, functions: Functions, *, size: int
) -> NativeComponent:
    """Put something behind a component's imports, and find its exports.

    Raises:
        InvalidRequest: an import can be neither the host's nor a link; says which and why.
        LibraryError: it can't be linked.
    """
    native = NativeComponent(
        component_ffi.component_clone(pointer),
        component_ffi.linker_new(engine),
        {},
        [],
        size,
        component_ffi.export_index_or_none(pointer, gauge.NAME) if facts.is_gauged else None,
    )
    try:
        for name, entry in facts.entries.items():
            native.indexes[name] = component_ffi.export_index(
                native.pointer, entry.interface, entry.function
            )
        _link(native.linker, facts.world, functions, native.callbacks)
    except BaseException:
        native.delete()
        raise
    return native
