"""How many memories, tables and instances a component makes, read from its binary.

The library limits what each memory and each table of a store may grow to, not their sum. So the sum
is kept by dividing it by their number, which is that of the memories times how often each module
is instantiated: a component may make ten instances of one module, or of a component with ten.

A component is read as it would be run: definitions get numbers as they come, and what makes an
instance adds up what its definition has. What can't be followed (a module handed over as an
argument; a form that is newer than this) counts as the most that there may be, which is safe.
"""

from typing import NamedTuple

from host.engine.component_binary import (
    ALIASES,
    COMPONENT,
    COMPONENT_SORT,
    CORE_INSTANCES,
    EXPORTS,
    IMPORTS,
    INSTANCES,
    MODULE,
    MODULE_SORT,
    Reader,
    UnfamiliarError,
)
from host.engine.module import TABLE_ELEMENTS_MAX
from lattice import errors
from lattice.identity import sections

MEMORIES_MAX = 16
"""Memories of a component: those composed of several have one each."""

TABLES_MAX = 32
"""Tables of a component; wit-component writes two for each module."""

INSTANCES_MAX = 200
"""Instances of core modules in a component; wit-component writes three or four for each module."""

PAGE_BYTES = 64 * 1024

TABLE_ELEMENTS_TOTAL_MAX = 4 * TABLE_ELEMENTS_MAX
"""Elements of all tables of a component."""

_COUNT_MAX = 1 << 32
"""What any number stops at: components of components double them with a few bytes."""


class Footprint(NamedTuple):
    """What comes of one instance of a module or a component."""

    instances: int = 0
    """Of core modules."""
    memories: int = 0
    memory_bytes: int = 0
    """Of all memories, as they begin."""
    largest_memory_bytes: int = 0
    tables: int = 0
    largest_table: int = 0
    """Elements, as it begins."""
    is_known: bool = True

    def plus(self, other: "Footprint") -> "Footprint":
        return Footprint(
            instances=min(self.instances + other.instances, _COUNT_MAX),
            memories=min(self.memories + other.memories, _COUNT_MAX),
            memory_bytes=min(self.memory_bytes + other.memory_bytes, _COUNT_MAX * PAGE_BYTES),
            largest_memory_bytes=max(self.largest_memory_bytes, other.largest_memory_bytes),
            tables=min(self.tables + other.tables, _COUNT_MAX),
            largest_table=max(self.largest_table, other.largest_table),
            is_known=self.is_known and other.is_known,
        )

    @property
    def memory_bytes_needed(self) -> int:
        """What the limit must be at least, as it is divided evenly."""
        return max(1, self.memories) * self.largest_memory_bytes

    @property
    def table_elements_max(self) -> int:
        """What each of its tables may grow to."""
        return min(TABLE_ELEMENTS_MAX, TABLE_ELEMENTS_TOTAL_MAX // max(1, self.tables))


UNKNOWN = Footprint(is_known=False)


def footprint(wasm: bytes) -> Footprint:
    """Read what an instance of a component will be made of.

    Raises:
        InvalidRequest: the binary is broken, or nested too deep.
    """
    found = _component(wasm, ())
    if found.is_known:
        return found
    return found._replace(
        instances=max(found.instances, INSTANCES_MAX),
        memories=max(found.memories, MEMORIES_MAX),
        tables=max(found.tables, TABLES_MAX),
    )


def check(found: Footprint, memory_bytes_max: int) -> None:
    """Refuse a component that could not be given what it asks for.

    Raises:
        InvalidRequest: names number and limit.
    """
    for number, limit, what in (
        (found.instances, INSTANCES_MAX, "instances of core modules"),
        (found.memories, MEMORIES_MAX, "memories"),
        (found.tables, TABLES_MAX, "tables"),
    ):
        if number > limit:
            raise errors.InvalidRequest(
                f"the component makes {number} {what}, over the limit of {limit}"
            )
    if found.largest_table > found.table_elements_max:
        raise errors.InvalidRequest(
            f"the component has a table of {found.largest_table} elements, over the limit of"
            f" {found.table_elements_max} for each of {found.tables}"
        )
    if found.memory_bytes_needed > memory_bytes_max:
        shared = f" ({found.memories} memories share it evenly)" if found.memories > 1 else ""
        raise errors.InvalidRequest(
            f"the component needs {found.memory_bytes_needed} bytes of memory{shared}, over the"
            f" limit of {memory_bytes_max}"
        )


class _Definitions:
    """What has a number in a component so far; UNKNOWN stands for what came from elsewhere."""

    def __init__(self) -> None:
        self.modules: list[Footprint] = []
        self.components: list[Footprint] = []

    def of(self, sort: int) -> list[Footprint] | None:
        return {MODULE_SORT: self.modules, COMPONENT_SORT: self.components}.get(sort)


def _component(wasm: bytes, outer: tuple[_Definitions, ...]) -> Footprint:
    if len(outer) > sections.DEPTH_MAX:
        raise errors.InvalidRequest("components within components, too deep")
    own = _Definitions()
    total = Footprint()
    for number, content in sections.outermost(wasm):
        if number == MODULE:
            own.modules.append(_module(bytes(content)))
        elif number == COMPONENT:
            own.components.append(_component(bytes(content), (*outer, own)))
        elif number in _READERS:
            try:
                total = total.plus(_READERS[number](Reader(content), own, outer))
            except UnfamiliarError:
                total = total.plus(UNKNOWN)
    return total


def _module(wasm: bytes) -> Footprint:
    found = Footprint(instances=1)
    for number, content in sections.outermost(wasm):
        try:
            if number == _TABLES:
                found = found.plus(_tables(Reader(content)))
            elif number == _MEMORIES:
                found = found.plus(_memories(Reader(content)))
        except UnfamiliarError:
            found = found.plus(UNKNOWN)
    return found


_TABLES, _MEMORIES = 4, 5
"""Sections of a core module."""


def _tables(reader: Reader) -> Footprint:
    found = Footprint()
    for _ in range(reader.number()):
        if reader.byte() not in _REFERENCES:
            raise UnfamiliarError
        found = found.plus(Footprint(tables=1, largest_table=reader.limits()))
    return found


_REFERENCES = frozenset(range(0x69, 0x75))
"""Types of references that are one byte."""


def _memories(reader: Reader) -> Footprint:
    found = Footprint()
    for _ in range(reader.number()):
        size = min(reader.limits(), _COUNT_MAX) * PAGE_BYTES
        found = found.plus(Footprint(memories=1, memory_bytes=size, largest_memory_bytes=size))
    return found


def _core_instances(
    reader: Reader, own: _Definitions, _outer: tuple[_Definitions, ...]
) -> Footprint:
    total = Footprint()
    for _ in range(reader.number()):
        if (form := reader.byte()) == 0:
            total = total.plus(_of(own.modules, reader.number()))
        elif form != 1:
            raise UnfamiliarError
        reader.skip_core_parts()
    return total


def _instances(reader: Reader, own: _Definitions, _outer: tuple[_Definitions, ...]) -> Footprint:
    total = Footprint()
    for _ in range(reader.number()):
        if (form := reader.byte()) == 0:
            total = total.plus(_of(own.components, reader.number()))
            for _ in range(reader.number()):
                reader.name()
                reader.sort()
                reader.number()
        elif form == 1:
            for _ in range(reader.number()):
                reader.marked_name()
                reader.sort()
                reader.number()
        else:
            raise UnfamiliarError
    return total


def _aliases(reader: Reader, own: _Definitions, outer: tuple[_Definitions, ...]) -> Footprint:
    for _ in range(reader.number()):
        sort, target = reader.sort(), reader.byte()
        aliased = UNKNOWN
        if target in (0, 1):
            reader.number()
            reader.name()
        elif target == 2:
            up, index = reader.number(), reader.number()
            scopes = (*outer, own)
            home = scopes[-1 - up].of(sort) if up < len(scopes) else None
            aliased = UNKNOWN if home is None else _of(home, index)
        else:
            raise UnfamiliarError
        if (mine := own.of(sort)) is not None:
            mine.append(aliased)
    return Footprint()


def _imports(reader: Reader, own: _Definitions, _outer: tuple[_Definitions, ...]) -> Footprint:
    for _ in range(reader.number()):
        reader.marked_name()
        if (mine := own.of(reader.described())) is not None:
            mine.append(UNKNOWN)
    return Footprint()


def _exports(reader: Reader, own: _Definitions, _outer: tuple[_Definitions, ...]) -> Footprint:
    for _ in range(reader.number()):
        reader.marked_name()
        sort, index = reader.exported()
        if (mine := own.of(sort)) is not None:
            mine.append(_of(mine, index))
    return Footprint()


_READERS = {
    CORE_INSTANCES: _core_instances,
    INSTANCES: _instances,
    ALIASES: _aliases,
    IMPORTS: _imports,
    EXPORTS: _exports,
}


def _of(definitions: list[Footprint], index: int) -> Footprint:
    return definitions[index] if index < len(definitions) else UNKNOWN
