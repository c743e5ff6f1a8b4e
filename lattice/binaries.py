"""What a WebAssembly binary says of itself: imports, exports, custom sections, which ABI it speaks.

Only what stands in its own sections is read, nothing is compiled; so it works where no engine is,
and of a binary that no engine would run.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from lattice import errors
from lattice.identity import sections

NAMES_MAX = 100_000
"""Imports or exports of a binary: what an engine would take, and far more than compilers write."""

HOST_PACKAGES = frozenset(
    {
        "wasi:cli",
        "wasi:clocks",
        "wasi:config",
        "wasi:filesystem",
        "wasi:io",
        "wasi:logging",
        "wasi:random",
        "wasi:sockets",
        "wasmcloud:bus",
        "wasmcloud:secrets",
    }
)
"""Packages that a host of wasmCloud 1.x answers itself: they need no link."""

SAME_AS = {
    "fermyon:spin/key-value": "wasi:keyvalue/store",
    "fermyon:spin/variables": "wasi:config/store",
    "wasmcloud:messaging/incoming-handler": "wasmcloud:messaging/handler",
    "wasmcloud:messaging/producer": "wasmcloud:messaging/consumer",
    "wasmcloud:messaging/request-reply": "wasmcloud:messaging/consumer",
}
"""Interfaces that a host has by another name: it is that one that a link is put for."""

HOST_CONTRACTS = "wasmcloud:builtin"

CALLING_CONTRACTS = frozenset({"wasmcloud:httpserver"})
"""Contracts whose provider calls the actor, and never the other way round."""

TYPES_ONLY = "types"
"""An interface of this name has only types, which come with those that use them."""

_CONTRACT = re.compile(rb"\b(?:wasmcloud|wasi|wrpc):[a-z][a-z0-9-]{1,60}(?::[a-z][a-z0-9-]{1,60})?")
_VERSION = re.compile(r"@[0-9][0-9A-Za-z.+-]*$")

_KINDS = ("func", "table", "memory", "global", "tag")
"""What a module imports and exports, by the format's numbers."""

_SORTS = ("core", "func", "value", "type", "component", "instance")
"""The same of a component."""


class Abi(StrEnum):
    """How a binary and its host speak to each other."""

    COMPONENT = "component"
    """A component of the component model: WIT interfaces."""
    WAPC = "waPC"
    """A core module with wasmbus's or waPC's calls: operations of contracts."""
    WASI = "WASI preview 1"
    """A core module that is a program, not an actor."""
    MODULE = "module"
    """A core module with calls of its own, if any."""


@dataclass(frozen=True, slots=True)
class Name:
    """One import or export."""

    name: str
    """``module.field`` of a module's import, an interface of a component's."""
    kind: str


@dataclass(frozen=True, slots=True)
class Needed:
    """A package that a link has to be put for, as far as can be known."""

    namespace: str
    package: str
    interfaces: tuple[str, ...]
    """Empty for all of the package, and where it is not known which."""
    is_target: bool = False
    """Whether the link leads to it, from whoever calls what it serves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Binary:
    """What a binary says of itself."""

    abi: Abi
    imports: tuple[Name, ...]
    exports: tuple[Name, ...]
    custom: tuple[tuple[str, int], ...]
    """Custom sections, by name and size in bytes."""
    needs: tuple[Needed, ...]
    """Of a component what it imports and exports; of a waPC module which contracts its data
    mentions."""


def read(wasm: bytes) -> Binary:
    """Look into a module or a component.

    Raises:
        InvalidRequest: it is neither; or it is one that can't be read, and why.
    """
    if wasm.startswith(sections.COMPONENT):
        return _component(wasm)
    return _module(wasm)


def component_needs(imports: Iterable[Name], exports: Iterable[Name]) -> tuple[Needed, ...]:
    """The links that a component's imports ask for, and those by which it is called, by package."""
    return (*_by_package(imports, is_target=False), *_by_package(exports, is_target=True))


def _by_package(names: Iterable[Name], *, is_target: bool) -> Iterator[Needed]:
    wanted: dict[tuple[str, str], set[str]] = {}
    for each in names:
        plain_name = _VERSION.sub("", each.name)
        package, _, interface = SAME_AS.get(plain_name, plain_name).partition("/")
        namespace, colon, name = package.partition(":")
        if each.kind != "instance" or not colon or package in HOST_PACKAGES:
            continue
        if interface != TYPES_ONLY:
            wanted.setdefault((namespace, name), set()).add(interface)
    for (namespace, name), interfaces in sorted(wanted.items()):
        yield Needed(namespace, name, tuple(sorted(interfaces)), is_target=is_target)


def contract_needs(contracts: Iterable[str]) -> tuple[Needed, ...]:
    """The links that contracts like ``wasmcloud:keyvalue`` ask for."""
    found = []
    for contract in sorted({contract.partition("/")[0] for contract in contracts}):
        namespace, _, package = contract.partition(":")
        if not contract.startswith(HOST_CONTRACTS) and package:
            is_target = contract in CALLING_CONTRACTS
            found.append(Needed(namespace, package, (), is_target=is_target))
    return tuple(found)


def _module(wasm: bytes) -> Binary:
    imports: list[Name] = []
    exports: list[Name] = []
    mentioned: set[str] = set()
    for number, content in sections.outermost(wasm):
        match number:
            case 2:
                imports += _Reader(content).names(_Reader.module_import)
            case 7:
                exports += _Reader(content).names(_Reader.module_export)
            case 11:
                mentioned |= {match.decode() for match in _CONTRACT.findall(bytes(content))}
    abi = _module_abi(imports, exports)
    return Binary(
        abi=abi,
        imports=tuple(imports),
        exports=tuple(exports),
        custom=_custom(wasm),
        needs=contract_needs(mentioned) if abi is Abi.WAPC else (),
    )


def _module_abi(imports: Iterable[Name], exports: Iterable[Name]) -> Abi:
    modules = {imported.name.partition(".")[0] for imported in imports}
    exported = {export.name for export in exports}
    if modules & {"wapc", "wasmbus"} or "__guest_call" in exported:
        return Abi.WAPC
    if "wasi_snapshot_preview1" in modules or "_start" in exported:
        return Abi.WASI
    return Abi.MODULE


def _component(wasm: bytes) -> Binary:
    imports: list[Name] = []
    exports: list[Name] = []
    for number, content in sections.outermost(wasm):
        match number:
            case 10:
                imports += _Reader(content).names(_Reader.component_import)
            case 11:
                exports += _Reader(content).names(_Reader.component_export)
    return Binary(
        abi=Abi.COMPONENT,
        imports=tuple(imports),
        exports=tuple(exports),
        custom=_custom(wasm),
        needs=component_needs(imports, exports),
    )


def _custom(wasm: bytes) -> tuple[tuple[str, int], ...]:
    return tuple((name, len(content)) for name, content in sections.custom(wasm))


class _Reader:
    """Reads one section from its beginning to its end."""

    def __init__(self, content: memoryview) -> None:
        self._content = content
        self._at = 0

    def names(self, one: Callable[["_Reader"], Name]) -> Iterator[Name]:
        """A vector of imports or exports."""
        count = self._number()
        if count > NAMES_MAX:
            raise _broken(f"{count} imports or exports")
        for _ in range(count):
            yield one(self)

    def module_import(self) -> Name:
        module, field = self._text(), self._text()
        kind = self._one_of(_KINDS)
        match kind:
            case "func":
                self._number()
            case "table":
                self._reference_type()
                self._bounds()
            case "memory":
                self._bounds()
            case "global":
                self._value_type()
                self._byte()
            case "tag":
                self._byte()
                self._number()
        return Name(f"{module}.{field}", kind)

    def module_export(self) -> Name:
        name, kind = self._text(), self._one_of(_KINDS)
        self._number()
        return Name(name, kind)

    def component_import(self) -> Name:
        return Name(self._extern_name(), self._extern())

    def component_export(self) -> Name:
        name, sort = self._extern_name(), self._one_of(_SORTS)
        if sort == "core":
            self._byte()
            sort = "module"
        self._number()
        if self._byte():
            self._extern()
        return Name(name, sort)

    def _extern_name(self) -> str:
        form, name = self._byte(), self._text()
        if form == 2:
            # A version that stands beside the name.
            self._text()
        elif form > 2:
            raise _broken("a name of a form that is not known")
        return name

    def _extern(self) -> str:
        sort = self._one_of(_SORTS)
        if sort == "core":
            self._byte()
            sort = "module"
        elif sort in {"value", "type"}:
            if self._byte() == 0:
                self._number()
            elif sort == "value":
                self._value_type()
            return sort
        self._number()
        return sort

    def _bounds(self) -> None:
        flags = self._byte()
        self._number()
        if flags & 1:
            self._number()
        if flags & 8:
            # The size of a page, where it is not the usual one.
            self._number()

    def _reference_type(self) -> None:
        form = self._byte()
        if form == 0x40:
            # A table with a value to begin with, which no import has.
            raise _broken("a table that can't be imported")
        if form in {0x63, 0x64}:
            self._number()

    def _value_type(self) -> None:
        self._reference_type()

    def _text(self) -> str:
        end = self._number() + self._at
        if end > len(self._content):
            raise _broken("a name goes beyond its end")
        text = bytes(self._content[self._at : end]).decode(errors="replace")
        self._at = end
        return text

    def _one_of(self, kinds: tuple[str, ...]) -> str:
        if (number := self._byte()) >= len(kinds):
            raise _broken(f"kind {number} of import or export is not known")
        return kinds[number]

    def _number(self) -> int:
        """A number in groups of seven bits; a negative one's groups are as good to skip it."""
        value = 0
        for index in range(10):
            byte = self._byte()
            value |= (byte & 0x7F) << 7 * index
            if byte < 0x80:
                return value
        raise _broken("a number without an end")

    def _byte(self) -> int:
        if self._at >= len(self._content):
            raise _broken("a section ends too early")
        self._at += 1
        return self._content[self._at - 1]


def _broken(why: str) -> errors.InvalidRequest:
    return errors.InvalidRequest(f"this WebAssembly binary can't be read: {why}")
