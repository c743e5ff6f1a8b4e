"""The binary format of components, as far as the host reads it itself.

Source: https://github.com/WebAssembly/component-model/blob/main/design/mvp/Binary.md.
"""

MODULE, CORE_INSTANCES, COMPONENT, INSTANCES = 1, 2, 4, 5
ALIASES, TYPES, CANONICAL, IMPORTS, EXPORTS = 6, 7, 8, 10, 11
"""Sections of a component."""

FUNCTION_SORT, VALUE_SORT, TYPE_SORT, COMPONENT_SORT, INSTANCE_SORT = range(1, 6)
CORE_FUNCTION_SORT, MEMORY_SORT, MODULE_SORT, CORE_INSTANCE_SORT = 0x100, 0x102, 0x111, 0x112
"""What a number is of; 0x100 is added to what is of core modules."""


class UnfamiliarError(Exception):
    """A form that is not read here."""


class Reader:
    """Reads a section from its beginning.

    Raises:
        UnfamiliarError: there is something else than what is asked for.
    """

    def __init__(self, content: memoryview) -> None:
        self._content = content
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

    def exported(self) -> tuple[int, int]:
        """Of an export, behind its name: the sort and the number of what is exported."""
        found = self.sort(), self.number()
        if self.byte():
            self.described()
        return found

    def skip_core_parts(self) -> None:
        """Skip what a core instance is given, or made of: a name, a sort and a number each."""
        for _ in range(self.number()):
            self.name()
            self.byte()
            self.number()

    def limits(self) -> int:
        """The least of what may be from one size to another."""
        flags = self.byte()
        if flags & ~0b111:
            raise UnfamiliarError
        least = self.number()
        if flags & 1:
            self.number()
        return least
