"""An export that tells how large a component's memories are, added to its binary.

The library tells nobody: a component's memories are its own affair, as the component model has it.
But who has its binary may compose it with more, and then asking is calling a function. So each
module exports its memory by a name of ours, and behind all that there is in a component come core
modules, which take the size of each memory and add it up; the sum's function, as the component's
own; and its export. A component within gets the same, and its function is one more term of the sum.

A memory only grows, so what it is at the end of a call is the most that it was. A call that failed
is not asked: the library lets nobody into an instance that trapped.

A component is left as it is where something in it is not read here.
"""

from collections import Counter

from host.engine.component_binary import (
    ALIASES,
    CANONICAL,
    CORE_FUNCTION_SORT,
    CORE_INSTANCE_SORT,
    CORE_INSTANCES,
    EXPORTS,
    FUNCTION_SORT,
    INSTANCE_SORT,
    MEMORY_SORT,
    MODULE,
    MODULE_EXPORTS,
    MODULE_SORT,
    TYPE_SORT,
    TYPES,
    ComponentBinary,
    Definition,
    Entries,
    ModuleBinary,
    Reader,
    UnfamiliarError,
)
from host.engine.footprint import Footprint
from lattice.identity import sections

NAME = "lattice-memory-bytes"
"""The export: a function without parameters that gives a u64; and how those of modules begin."""

EDITION = 2
"""Of what is added: compiled code that is kept has what was added then."""

INSTANCES_PER_MEMORY = 2
"""Core instances that are added: one for its size, and one for its sum with all before it."""

Pieces = list[bytes | memoryview]
"""Of a binary that is written: nothing is copied before it is whole."""


def gauged(component: ComponentBinary, footprint: Footprint) -> bytes | None:
    """The binary with the export; None if it has no memory, or one that can't be asked."""
    if not (footprint.is_known and footprint.memories) or NAME.encode() in component.exports:
        return None
    try:
        return b"".join(_gauged(component, set()))
    except UnfamiliarError:
        return None


def _gauged(component: ComponentBinary, telling: set[Definition]) -> Pieces:
    """A component with the export if it makes a memory; ``telling`` is what has it, or a
    memory, before.

    Raises:
        UnfamiliarError: something in it can't be read.
    """
    if not component.is_known:
        raise UnfamiliarError
    pieces: Pieces = [sections.COMPONENT]
    for kind, content in component.sections:
        if isinstance(content, ModuleBinary):
            pieces += _section(kind, _with_memory_exported(content))
            if content.memories:
                telling.add(content)
        elif isinstance(content, ComponentBinary):
            pieces += _section(kind, _gauged(content, telling))
        else:
            pieces += _section(kind, [content])
    added = _added(component, telling)
    if added:
        telling.add(component)
    return pieces + added


def _section(kind: int, content: Pieces) -> Pieces:
    return [bytes([kind]) + sections.number(sum(map(len, content))), *content]


def _with_memory_exported(module: ModuleBinary) -> Pieces:
    if not module.memories:
        return [module.content]
    if module.imported_memories is None or len(module.memories) > 1:
        # The engine's pool has no place for a second one.
        raise UnfamiliarError
    export = sections.sized(NAME.encode()) + b"\2" + sections.number(module.imported_memories)
    parts = list(sections.outermost(module.content))
    if all(kind != MODULE_EXPORTS for kind, _ in parts):
        behind = (at for at, (kind, _) in enumerate(parts) if kind in _BEHIND_EXPORTS)
        parts.insert(next(behind, len(parts)), (MODULE_EXPORTS, memoryview(b"\0")))
    pieces: Pieces = [sections.MODULE]
    for kind, content in parts:
        if kind == MODULE_EXPORTS:
            reader = Reader(content, Entries())
            count = sections.number(reader.number() + 1)
            pieces += _section(kind, [count, reader.rest(), export])
        else:
            pieces += _section(kind, [content])
    return pieces


_BEHIND_EXPORTS = frozenset({8, 9, 10, 11, 12})
"""Sections of a core module: start, elements, code, data, and how many of those."""


def _added(component: ComponentBinary, telling: set[Definition]) -> Pieces:
    """What comes behind everything else; nothing where there is nothing to tell."""
    added = _Addition(component.counts)
    tell = [made for made in component.made if made.of in telling]
    if not tell:
        return []
    if len(tell) == 1 and tell[0].sort == INSTANCE_SORT:
        added.export(added.function_of(tell[0].number))
        return added.pieces
    size = added.module(_SIZE)
    terms = []
    for made in tell:
        if made.sort == INSTANCE_SORT:
            terms.append(added.lower(added.function_of(made.number)))
        else:
            memory = added.memory_of(made.number)
            terms.append(added.core_function_of(added.instance(size, (_MEMORY, memory))))
    total, *others = terms
    if others:
        plus = added.module(_SUM)
        for other in others:
            both = added.instance(plus, (_FUNCTION, total), (_FUNCTION, other))
            total = added.core_function_of(both)
    added.export(added.lift(total))
    return added.pieces


class _Addition:
    """Definitions behind a component's own; each method gives the number of what it adds."""

    def __init__(self, counts: Counter[int]) -> None:
        self._counts = counts.copy()
        self.pieces: Pieces = []

    def _add(self, sort: int, kind: int, content: bytes) -> int:
        self.pieces.append(sections.section(kind, content))
        self._counts[sort] += 1
        return self._counts[sort] - 1

    def module(self, wasm: bytes) -> int:
        return self._add(MODULE_SORT, MODULE, wasm)

    def instance(self, module: int, *given: tuple[bytes, int]) -> int:
        """Of a module that imports a kind and a number each as ``a``, ``b`` and so on of ``m``."""
        exports = b"".join(
            b"\1" + bytes([name]) + kind + sections.number(number)
            for name, (kind, number) in enumerate(given, ord("a"))
        )
        content = b"\1\1" + sections.number(len(given)) + exports
        handed = self._add(CORE_INSTANCE_SORT, CORE_INSTANCES, content)
        content = b"\1\0" + sections.number(module) + b"\1\1m\x12" + sections.number(handed)
        return self._add(CORE_INSTANCE_SORT, CORE_INSTANCES, content)

    def memory_of(self, instance: int) -> int:
        content = b"\1\0\2\1" + sections.number(instance) + sections.sized(NAME.encode())
        return self._add(MEMORY_SORT, ALIASES, content)

    def core_function_of(self, instance: int) -> int:
        content = b"\1\0\0\1" + sections.number(instance) + b"\1f"
        return self._add(CORE_FUNCTION_SORT, ALIASES, content)

    def function_of(self, instance: int) -> int:
        content = b"\1\1\0" + sections.number(instance) + sections.sized(NAME.encode())
        return self._add(FUNCTION_SORT, ALIASES, content)

    def lower(self, function: int) -> int:
        content = b"\1\1\0" + sections.number(function) + b"\0"
        return self._add(CORE_FUNCTION_SORT, CANONICAL, content)

    def lift(self, core_function: int) -> int:
        kind = self._add(TYPE_SORT, TYPES, b"\1\x40\0\0\x77")
        content = b"\1\0\0" + sections.number(core_function) + b"\0" + sections.number(kind)
        return self._add(FUNCTION_SORT, CANONICAL, content)

    def export(self, function: int) -> int:
        content = b"\1\0" + sections.sized(NAME.encode()) + b"\1" + sections.number(function)
        return self._add(FUNCTION_SORT, EXPORTS, content + b"\0")


_FUNCTION, _MEMORY = b"\0", b"\2"
"""Kinds of what core modules are given."""

_TYPE = b"\1\5\1\x60\0\1\x7e"  # () -> i64
_FUNCTIONS = b"\3\2\1\0"

_SIZE = (
    sections.MODULE
    + _TYPE
    + b"\2\x08\1\1m\1a\2\0\0"
    + _FUNCTIONS
    + b"\7\5\1\1f\0\0"
    + b"\x0a\x0a\1\x08\0\x3f\0\xad\x42\x10\x86\x0b"  # memory.size, extended, times 65536
)
"""A core module that is given a memory and exports its size."""

_SUM = (
    sections.MODULE
    + _TYPE
    + b"\2\x0d\2\1m\1a\0\0\1m\1b\0\0"
    + _FUNCTIONS
    + b"\7\5\1\1f\0\2"
    + b"\x0a\x09\1\7\0\x10\0\x10\1\x7c\x0b"
)
"""A core module that is given two functions and exports their sum."""
