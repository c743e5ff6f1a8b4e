"""An export that tells how large a component's memories are, added to its binary.

The library tells nobody: a component's memories are its own affair, as the component model has it.
But who has its binary may compose it with more, and then asking is calling a function. Added are,
behind all that there is: a core module per memory, whose one function adds that memory's size to
what the module before it gives; the last one's function, as the component's own; and its export.

A memory only grows, so what it is at the end of a call is the most that it was.

A component is left as it is where not every memory can be asked: one within a component within,
one that its module does not export, or anything that is not read here.
"""

from typing import NamedTuple

from host.engine.component_binary import (
    ALIASES,
    CANONICAL,
    COMPONENT,
    COMPONENT_SORT,
    CORE_FUNCTION_SORT,
    CORE_INSTANCE_SORT,
    CORE_INSTANCES,
    EXPORTS,
    FUNCTION_SORT,
    IMPORTS,
    INSTANCE_SORT,
    INSTANCES,
    MEMORY_SORT,
    MODULE,
    MODULE_SORT,
    TYPE_SORT,
    TYPES,
    Reader,
    UnfamiliarError,
)
from host.engine.footprint import Footprint
from lattice.identity import sections

NAME = "lattice-memory-bytes"
"""The export: a function without parameters that gives a u64."""


def gauged(wasm: bytes, footprint: Footprint) -> bytes:
    """Add the export, if all memories that there are can be asked.

    Raises:
        InvalidRequest: the binary is broken.
    """
    try:
        found = _read(wasm)
    except UnfamiliarError:
        return wasm
    is_complete = footprint.is_known and len(found.memories) == footprint.memories
    if not found.memories or not is_complete or NAME.encode() in found.exports:
        return wasm
    return wasm + _added(found)


class _Memory(NamedTuple):
    instance: int
    """The core instance that has it."""
    name: bytes
    """Its name there."""


class _Found(NamedTuple):
    counts: dict[int, int]
    """How much there is, by sort: what comes next gets this number."""
    memories: list[_Memory]
    exports: set[bytes]


def _read(wasm: bytes) -> _Found:
    found = _Found({}, [], set())
    modules: list[bytes | None] = []
    """The name under which each exports a memory of its own."""
    for section, content in sections.outermost(wasm):
        reader = Reader(content)
        if section == MODULE:
            modules.append(_memory_of(bytes(content)))
            _count(found, MODULE_SORT)
        elif section == COMPONENT:
            _count(found, COMPONENT_SORT)
        elif section == CORE_INSTANCES:
            for _ in range(reader.number()):
                _read_core_instance(reader, found, modules)
        elif section in (INSTANCES, TYPES):
            _count(found, INSTANCE_SORT if section == INSTANCES else TYPE_SORT, reader.number())
        elif section == ALIASES:
            for _ in range(reader.number()):
                if (sort := _read_alias(reader)) == MODULE_SORT:
                    modules.append(None)
                _count(found, sort)
        elif section == CANONICAL:
            for _ in range(reader.number()):
                _count(found, _read_canonical(reader))
        elif section in (IMPORTS, EXPORTS):
            for _ in range(reader.number()):
                name = reader.marked_name()
                if section == IMPORTS:
                    sort = reader.described()
                else:
                    found.exports.add(name)
                    sort, _ = reader.exported()
                if sort == MODULE_SORT:
                    modules.append(None)
                _count(found, sort)
        elif section not in _UNNUMBERED:
            raise UnfamiliarError
    return found


_UNNUMBERED = frozenset({0, 3})
"""Sections of what is not referred to here: custom ones, and types of core modules."""


def _count(found: _Found, sort: int, number: int = 1) -> None:
    found.counts[sort] = found.counts.get(sort, 0) + number


def _memory_of(module: bytes) -> bytes | None:
    """The name under which a module exports the memory that it defines, if it does both."""
    defines, name = False, None
    for section, content in sections.outermost(module):
        reader = Reader(content)
        if section == _MODULE_MEMORIES:
            defines = reader.number() == 1
        elif section == _MODULE_EXPORTS:
            for _ in range(reader.number()):
                exported, kind, _ = reader.name(), reader.byte(), reader.number()
                if kind == _MEMORY_EXPORT:
                    name = exported
    return name if defines else None


_MODULE_MEMORIES, _MODULE_EXPORTS, _MEMORY_EXPORT = 5, 7, 2


def _read_core_instance(reader: Reader, found: _Found, modules: list[bytes | None]) -> None:
    if (form := reader.byte()) == 0:
        module = reader.number()
        if module >= len(modules):
            raise UnfamiliarError
        if (name := modules[module]) is not None:
            found.memories.append(_Memory(found.counts.get(CORE_INSTANCE_SORT, 0), name))
    elif form != 1:
        raise UnfamiliarError
    reader.skip_core_parts()
    _count(found, CORE_INSTANCE_SORT)


def _read_alias(reader: Reader) -> int:
    sort, target = reader.sort(), reader.byte()
    if target in (0, 1):
        reader.number()
        reader.name()
    elif target == 2:
        reader.number()
        reader.number()
    else:
        raise UnfamiliarError
    return sort


def _read_canonical(reader: Reader) -> int:
    match reader.byte():
        case 0:
            if reader.byte():
                raise UnfamiliarError
            reader.number()
            _skip_options(reader)
            reader.number()
            return FUNCTION_SORT
        case 1:
            if reader.byte():
                raise UnfamiliarError
            reader.number()
            _skip_options(reader)
        case 2 | 3 | 4:
            reader.number()
        case _:
            raise UnfamiliarError
    return CORE_FUNCTION_SORT


def _skip_options(reader: Reader) -> None:
    for _ in range(reader.number()):
        option = reader.byte()
        if option in (3, 4, 5):
            reader.number()
        elif option > 5:
            raise UnfamiliarError


def _added(found: _Found) -> bytes:
    """What comes behind everything else."""
    counts = found.counts
    module, instance, memory = (
        counts.get(sort, 0) for sort in (MODULE_SORT, CORE_INSTANCE_SORT, MEMORY_SORT)
    )
    core_function = counts.get(CORE_FUNCTION_SORT, 0)
    parts = []
    for each, (home, name) in enumerate(found.memories):
        parts.append(sections.section(MODULE, _FIRST if each == 0 else _NEXT))
        parts.append(
            sections.section(
                ALIASES, b"\1" + b"\0\2" + b"\1" + sections.number(home) + sections.sized(name)
            )
        )
        given = [b"\1m\2" + sections.number(memory)]
        if each:
            given.append(b"\1f\0" + sections.number(core_function - 1))
        given_away = b"\1" + sections.number(len(given)) + b"".join(given)
        made = b"\0" + sections.number(module) + b"\1" + b"\1m\x12" + sections.number(instance)
        parts.append(sections.section(CORE_INSTANCES, b"\2" + given_away + made))
        parts.append(
            sections.section(
                ALIASES, b"\1" + b"\0\0" + b"\1" + sections.number(instance + 1) + b"\1f"
            )
        )
        module, instance, memory = module + 1, instance + 2, memory + 1
        core_function += 1
    kind, function = counts.get(TYPE_SORT, 0), counts.get(FUNCTION_SORT, 0)
    parts.append(sections.section(TYPES, b"\1\x40\0\0\x77"))
    parts.append(
        sections.section(
            CANONICAL,
            b"\1\0\0" + sections.number(core_function - 1) + b"\0" + sections.number(kind),
        )
    )
    exported = b"\1\0" + sections.sized(NAME.encode()) + b"\1" + sections.number(function) + b"\0"
    parts.append(sections.section(EXPORTS, exported))
    return b"".join(parts)


_TYPE = b"\1\5\1\x60\0\1\x7e"  # () -> i64
_BYTES = b"\x3f\0\xad\x42\x10\x86"  # memory.size, extended, shifted by 16
_FUNCTION = b"\3\2\1\0"

_FIRST = (
    sections.MODULE
    + _TYPE
    + b"\2\x08\1\1m\1m\2\0\0"
    + _FUNCTION
    + b"\7\5\1\1f\0\0"
    + b"\x0a\x0a\1\x08\0"
    + _BYTES
    + b"\x0b"
)
"""A core module that is given a memory and exports its size."""

_NEXT = (
    sections.MODULE
    + _TYPE
    + b"\2\x0e\2\1m\1m\2\0\0\1m\1f\0\0"
    + _FUNCTION
    + b"\7\5\1\1f\0\1"
    + b"\x0a\x0d\1\x0b\0\x10\0"
    + _BYTES
    + b"\x7c\x0b"
)
"""The same, that adds it to what another one's function gives."""
