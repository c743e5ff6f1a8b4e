"""How many memories, tables and instances a component makes, from its binary.

The library limits what each memory and each table of a store may grow to, not their sum. So the sum
is kept by dividing it by their number, which is that of the memories times how often each module
is instantiated: a component may make ten instances of one module, or of a component with ten. What
can't be known counts as the most that there may be, which is safe.
"""

from typing import NamedTuple

from host.engine.component_binary import PAGE_BYTES, ComponentBinary, Definition, ModuleBinary
from host.engine.module import TABLE_ELEMENTS_MAX
from lattice import errors

MEMORIES_MAX = 16
"""Memories of a component: those composed of several have one each."""

TABLES_MAX = 32
"""Tables of a component; wit-component writes two for each module."""

INSTANCES_MAX = 200
"""Instances of core modules in a component; wit-component writes three or four for each module."""

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


def footprint(component: ComponentBinary) -> Footprint:
    """What an instance of a component will be made of."""
    found = _of_component(component, {})
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


def _of_component(component: ComponentBinary, known: dict[Definition, Footprint]) -> Footprint:
    """``known`` is what was defined before: nothing else can be instantiated."""
    for _, content in component.sections:
        if isinstance(content, ModuleBinary):
            known[content] = _of_module(content)
        elif isinstance(content, ComponentBinary):
            known[content] = _of_component(content, known)
    total = Footprint(is_known=component.is_known)
    for made in component.made:
        total = total.plus(UNKNOWN if made.of is None else known[made.of])
    return total


def _of_module(module: ModuleBinary) -> Footprint:
    memories = [min(size, _COUNT_MAX * PAGE_BYTES) for size in module.memories]
    return Footprint(
        instances=1,
        memories=len(memories),
        memory_bytes=min(sum(memories), _COUNT_MAX * PAGE_BYTES),
        largest_memory_bytes=max(memories, default=0),
        tables=len(module.tables),
        largest_table=max(module.tables, default=0),
        is_known=module.is_known,
    )
