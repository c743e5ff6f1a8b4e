"""What a component is made of, read from its binary.

A component is read as it would be run: definitions get numbers as they come, so what is made an
instance of is found where it was defined, be that further out. What can't be followed, such as a
module that is handed over, stands as None; a form that is newer than this ends the reading of the
component that has it, which says so.

Source: https://github.com/WebAssembly/component-model/blob/main/design/mvp/Binary.md.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

from lattice import errors
from lattice.identity import sections

CUSTOM, MODULE, CORE_INSTANCES, CORE_TYPES, COMPONENT, INSTANCES = range(6)
ALIASES, TYPES, CANONICAL, IMPORTS, EXPORTS = 6, 7, 8, 10, 11
"""Sections of a component."""

FUNCTION_SORT, VALUE_SORT, TYPE_SORT, COMPONENT_SORT, INSTANCE_SORT = range(1, 6)
CORE_FUNCTION_SORT, MEMORY_SORT, CORE_TYPE_SORT = 0x100, 0x102, 0x110
MODULE_SORT, CORE_INSTANCE_SORT = 0x111, 0x112
"""What a number is of; 0x100 is added to what is of core modules."""

MODULE_IMPORTS, MODULE_TABLES, MODULE_MEMORIES, MODULE_EXPORTS = 2, 4, 5, 7
"""Sections of a core module."""

PAGE_BYTES = 64 * 1024

ENTRIES_MAX = 250_000
"""Entries of all the lists that are read of one binary, half a second of work: toolchains write a
thousand or two for a component of 300 KB."""


class UnfamiliarError(Exception):
    """A form that is not read here."""


class Entries:
    """How many more entries of lists may be read, so that no binary takes for ever."""

    def __init__(self) -> None:
        self._left = ENTRIES_MAX

    def take(self, count: int) -> range:
        """Raises:
        InvalidRequest: these are too many.
        """
        if count > self._left:
            raise errors.InvalidRequest(
                f"the component has lists of more than {ENTRIES_MAX} entries in all"
            )
        self._left -= count
        return range(count)


@dataclass(frozen=True, slots=True, eq=False)
class ModuleBinary:
    """A core module."""

    content: memoryview
    memories: tuple[int, ...] = ()
    """Bytes that each of its own begins with."""
    tables: tuple[int, ...] = ()
    """Elements that each of its own begins with."""
    imported_memories: int | None = 0
    """Those that come before its own; None if that can't be told."""
    is_known: bool = True
    """Whether all of it was read."""


class Made(NamedTuple):
    """An instance that a component makes."""

    sort: int
    number: int
    """Among those of its sort."""
    of: "Definition | None"
    """None for what is handed over."""


@dataclass(slots=True, eq=False)
class ComponentBinary:
    """A component."""

    sections: list[tuple[int, "memoryview | Definition"]] = field(default_factory=list)
    """Kinds and contents, in order."""
    made: list[Made] = field(default_factory=list)
    exports: set[bytes] = field(default_factory=set)
    counts: Counter[int] = field(default_factory=Counter)
    """How much there is, by sort: what comes next gets this number."""
    defined: dict[int, list["Definition | None"]] = field(
        default_factory=lambda: {MODULE_SORT: [], COMPONENT_SORT: []}
    )
    """Modules and components, by number; None for those that come from elsewhere."""
    is_known: bool = True
    """Whether all of it was read."""

    def add(self, sort: int, what: "Definition | None" = None, *, count: int = 1) -> None:
        self.counts[sort] += count
        if (known := self.defined.get(sort)) is not None:
            known.append(what)

    def find(self, sort: int, number: int) -> "Definition | None":
        known = self.defined.get(sort, ())
        return known[number] if number < len(known) else None


Definition = ModuleBinary | ComponentBinary


def read(wasm: bytes) -> ComponentBinary:
    """Read a component, and all that is within.

    Raises:
        InvalidRequest: it is broken, nested too deep, or has too many parts.
    """
    return _component(memoryview(wasm), (), Entries())


def _component(
    wasm: memoryview, outer: tuple[ComponentBinary, ...], entries: Entries
) -> ComponentBinary:
    if len(outer) > sections.DEPTH_MAX:
        raise errors.InvalidRequest("components within components, too deep")
    own = ComponentBinary()
    scopes = (*outer, own)
    try:
        for kind, content in sections.outermost(wasm):
            if kind == MODULE:
                module = _module(content, entries)
                own.sections.append((kind, module))
                own.add(MODULE_SORT, module)
            elif kind == COMPONENT:
                component = _component(content, scopes, entries)
                own.sections.append((kind, component))
                own.add(COMPONENT_SORT, component)
            else:
                own.sections.append((kind, content))
                _read(kind, Reader(content, entries), scopes)
    except UnfamiliarError:
        own.is_known = False
    return own


def _read(kind: int, reader: "Reader", scopes: tuple[ComponentBinary, ...]) -> None:
    if (sort := _ONLY_COUNTED.get(kind)) is not None:
        scopes[-1].add(sort, count=reader.number())
    elif (read_entry := _ENTRY.get(kind)) is not None:
        for _ in reader.entries():
            read_entry(reader, scopes)
    elif kind != CUSTOM:
        raise UnfamiliarError


def _core_instance(reader: "Reader", scopes: tuple[ComponentBinary, ...]) -> None:
    own = scopes[-1]
    if (form := reader.byte()) == 0:
        module = own.find(MODULE_SORT, reader.number())
        own.made.append(Made(CORE_INSTANCE_SORT, own.counts[CORE_INSTANCE_SORT], module))
    elif form != 1:
        raise UnfamiliarError
    for _ in reader.entries():
        reader.name()
        reader.byte()
        reader.number()
    own.add(CORE_INSTANCE_SORT)


def _instance(reader: "Reader", scopes: tuple[ComponentBinary, ...]) -> None:
    own = scopes[-1]
    if (form := reader.byte()) == 0:
        component = own.find(COMPONENT_SORT, reader.number())
        own.made.append(Made(INSTANCE_SORT, own.counts[INSTANCE_SORT], component))
    elif form != 1:
        raise UnfamiliarError
    name = reader.name if form == 0 else reader.marked_name
    for _ in reader.entries():
        name()
        reader.sort()
        reader.number()
    own.add(INSTANCE_SORT)


def _alias(reader: "Reader", scopes: tuple[ComponentBinary, ...]) -> None:
    sort, target = reader.sort(), reader.byte()
    aliased = None
    if target in (0, 1):
        reader.number()
        reader.name()
    elif target == 2:
        up, number = reader.number(), reader.number()
        if up < len(scopes):
            aliased = scopes[-1 - up].find(sort, number)
    else:
        raise UnfamiliarError
    scopes[-1].add(sort, aliased)


def _canonical(reader: "Reader", scopes: tuple[ComponentBinary, ...]) -> None:
    sort = CORE_FUNCTION_SORT
    match reader.byte():
        case 0:
            if reader.byte():
                raise UnfamiliarError
            reader.number()
            _skip_options(reader)
            reader.number()
            sort = FUNCTION_SORT
        case 1:
            if reader.byte():
                raise UnfamiliarError
            reader.number()
            _skip_options(reader)
        case 2 | 3 | 4:
            reader.number()
        case _:
            raise UnfamiliarError
    scopes[-1].add(sort)


def _skip_options(reader: "Reader") -> None:
    for _ in reader.entries():
        option = reader.byte()
        if option in (3, 4, 5):
            reader.number()
        elif option > 5:
            raise UnfamiliarError


def _import(reader: "Reader", scopes: tuple[ComponentBinary, ...]) -> None:
    reader.marked_name()
    scopes[-1].add(reader.described())


def _export(reader: "Reader", scopes: tuple[ComponentBinary, ...]) -> None:
    own = scopes[-1]
    own.exports.add(reader.marked_name())
    sort, number = reader.sort(), reader.number()
    if reader.byte():
        reader.described()
    # What is exported gets a number once more.
    own.add(sort, own.find(sort, number))


_ENTRY = {
    CORE_INSTANCES: _core_instance,
    INSTANCES: _instance,
    ALIASES: _alias,
    CANONICAL: _canonical,
    IMPORTS: _import,
    EXPORTS: _export,
}

_ONLY_COUNTED = {CORE_TYPES: CORE_TYPE_SORT, TYPES: TYPE_SORT}


def _module(content: memoryview, entries: Entries) -> ModuleBinary:
    memories: list[int] = []
    tables: list[int] = []
    imported: int | None = 0
    is_known = True
    for kind, each in sections.outermost(content):
        reader = Reader(each, entries)
        try:
            if kind == MODULE_IMPORTS:
                imported = _imported_memories(reader)
            elif kind == MODULE_TABLES:
                tables += [reader.table() for _ in reader.entries()]
            elif kind == MODULE_MEMORIES:
                memories += [reader.limits() * PAGE_BYTES for _ in reader.entries()]
        except UnfamiliarError:
            if kind == MODULE_IMPORTS:
                imported = None
            else:
                is_known = False
    return ModuleBinary(
        content,
        memories=tuple(memories),
        tables=tuple(tables),
        imported_memories=imported,
        is_known=is_known,
    )


def _imported_memories(reader: "Reader") -> int:
    found = 0
    for _ in reader.entries():
        reader.name()
        reader.name()
        match reader.byte():
            case 0:
                reader.number()
            case 1:
                reader.table()
            case 2:
                reader.limits()
                found += 1
            case 3:
                if reader.byte() < _ONE_BYTE_TYPES_MIN:
                    raise UnfamiliarError
                reader.byte()
            case 4:
                reader.byte()
                reader.number()
            case _:
                raise UnfamiliarError
    return found


_ONE_BYTE_TYPES_MIN = 0x69
"""Types of values from here on are one byte."""


class Reader:
    """Reads a section from its beginning.

    Raises:
        UnfamiliarError: there is something else than what is asked for.
    """

    def __init__(self, content: memoryview, entries: Entries) -> None:
        self._content = content
        self._entries = entries
        self._at = 0

    def byte(self) -> int:
        if self._at >= len(self._content):
            raise UnfamiliarError
        self._at += 1
        return self._content[self._at - 1]

    def number(self) -> int:
        """A number in groups of seven bits."""
        value = 0
        for shift in range(0, 70, 7):
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise UnfamiliarError

    def entries(self) -> range:
        """As many as a list has, whose length comes first.

        Raises:
            InvalidRequest: they are too many.
        """
        return self._entries.take(self.number())

    def rest(self) -> memoryview:
        """What was not read."""
        return self._content[self._at :]

    def name(self) -> bytes:
        length = self.number()
        start = self._at
        self._at += length
        return bytes(self._content[start : self._at])

    def marked_name(self) -> bytes:
        """The name of an import or an export."""
        if self.byte() not in (0, 1):
            raise UnfamiliarError
        return self.name()

    def sort(self) -> int:
        """What a number is of."""
        return self.byte() or 0x100 | self.byte()

    def described(self) -> int:
        """Skip the description of an import or an export; gives what it is of."""
        sort = self.sort()
        if sort == VALUE_SORT or (sort > INSTANCE_SORT and sort != MODULE_SORT):
            raise UnfamiliarError
        if sort == TYPE_SORT and self.byte():
            # A resource of any type: nothing follows.
            return sort
        self.number()
        return sort

    def limits(self) -> int:
        """The least of what may be from one size to another."""
        flags = self.byte()
        if flags & ~0b111:
            raise UnfamiliarError
        least = self.number()
        if flags & 1:
            self.number()
        return least

    def table(self) -> int:
        """The elements that a table begins with."""
        if self.byte() not in _REFERENCES:
            raise UnfamiliarError
        return self.limits()


_REFERENCES = frozenset(range(0x69, 0x75))
"""Types of references that are one byte."""
