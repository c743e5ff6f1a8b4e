"""Custom sections of WebAssembly binaries, core modules and components alike.

Only the outermost layer of the format is read: a header, then sections of an id, a length and that
many bytes. A component holds whole modules and components as sections of its own.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from lattice import errors

MODULE = b"\0asm\x01\0\0\0"
COMPONENT = b"\0asm\x0d\0\x01\0"

SECTIONS_MAX = 100_000
"""Sections of a binary, nested ones included: a hundred times what compilers write."""

DEPTH_MAX = 100
"""Components inside components: engines give up at about as many."""

_CUSTOM = 0
_NESTED = frozenset({1, 4})
"""Sections of a component that are a module or a component."""

_LENGTH_BYTES_MAX = 5
"""A 32-bit number in groups of seven bits."""


@dataclass(frozen=True, slots=True)
class _Section:
    id: int
    content: memoryview

    @property
    def name(self) -> bytes:
        """The name of a custom section."""
        length, start = _length(self.content, 0)
        if start + length > len(self.content):
            raise _broken("the name of a custom section goes beyond its end")
        return bytes(self.content[start : start + length])

    @property
    def after_name(self) -> memoryview:
        length, start = _length(self.content, 0)
        return self.content[start + length :]


def is_wasm(content: bytes) -> bool:
    """Whether it begins as a module or a component does."""
    return content.startswith((MODULE, COMPONENT))


def custom(wasm: bytes) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the custom sections at the top, in order.

    Raises:
        InvalidRequest: not a module or a component.
    """
    for section in _Reader().sections(memoryview(wasm)):
        if section.id == _CUSTOM:
            yield section.name.decode(errors="replace"), bytes(section.after_name)


def custom_of_all(wasm: bytes) -> Iterator[tuple[str, int]]:
    """Names and sizes of all custom sections, those of nested modules and components too.

    Raises:
        InvalidRequest: not a module or a component, or nested too deep.
    """
    return _Reader().custom_of_all(memoryview(wasm), depth=0)


def outermost(wasm: bytes | memoryview) -> Iterator[tuple[int, memoryview]]:
    """Ids and contents of the sections at the top, in order.

    Raises:
        InvalidRequest: not a module or a component.
    """
    for section in _Reader().sections(memoryview(wasm)):
        yield section.id, section.content


def strip(wasm: bytes, names: frozenset[str]) -> bytes:
    """The binary without custom sections of these names, in nested modules and components too.

    Lengths are written anew in their shortest form: so does wasmCloud, whose hashes are of this.

    Raises:
        InvalidRequest: not a module or a component, or nested too deep.
    """
    wanted = frozenset(name.encode() for name in names)
    return b"".join(_Reader().stripped(memoryview(wasm), wanted, depth=0))


def append(wasm: bytes, name: str, content: bytes) -> bytes:
    """The binary with one more custom section, the last one."""
    return wasm + section(_CUSTOM, sized(name.encode()) + content)


def section(kind: int, content: bytes) -> bytes:
    """A section of an id, as it is written."""
    return bytes([kind]) + sized(content)


def sized(content: bytes) -> bytes:
    """Bytes behind their length."""
    return number(len(content)) + content


def number(value: int) -> bytes:
    """A number in groups of seven bits, in the shortest form."""
    groups = bytearray()
    while value >= 0x80:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    groups.append(value)
    return bytes(groups)


class _Reader:
    """One walk through a binary; it counts, so that no binary takes for ever."""

    def __init__(self) -> None:
        self._left = SECTIONS_MAX

    def sections(self, wasm: memoryview) -> Iterator[_Section]:
        if wasm[: len(MODULE)] not in (MODULE, COMPONENT):
            raise _broken("it does not begin as a module or a component of a version we know")
        position = len(MODULE)
        while position < len(wasm):
            self._left -= 1
            if self._left < 0:
                raise _broken(f"more than {SECTIONS_MAX} sections")
            length, start = _length(wasm, position + 1)
            if start + length > len(wasm):
                raise _broken("a section goes beyond its end")
            yield _Section(wasm[position], wasm[start : start + length])
            position = start + length

    def custom_of_all(self, wasm: memoryview, *, depth: int) -> Iterator[tuple[str, int]]:
        _check_depth(depth)
        is_component = wasm[: len(COMPONENT)] == COMPONENT
        for section in self.sections(wasm):
            if section.id == _CUSTOM:
                yield section.name.decode(errors="replace"), len(section.after_name)
            elif is_component and section.id in _NESTED:
                yield from self.custom_of_all(section.content, depth=depth + 1)

    def stripped(
        self, wasm: memoryview, names: frozenset[bytes], *, depth: int
    ) -> list[memoryview | bytes]:
        """The pieces that are left, without copying them."""
        _check_depth(depth)
        pieces: list[memoryview | bytes] = [wasm[: len(MODULE)]]
        is_component = wasm[: len(COMPONENT)] == COMPONENT
        for section in self.sections(wasm):
            content: list[memoryview | bytes] = [section.content]
            if section.id == _CUSTOM:
                if section.name in names:
                    continue
            elif is_component and section.id in _NESTED:
                content = self.stripped(section.content, names, depth=depth + 1)
            pieces.append(bytes([section.id]) + number(sum(map(len, content))))
            pieces += content
        return pieces


def _check_depth(depth: int) -> None:
    if depth > DEPTH_MAX:
        raise _broken(f"nested deeper than {DEPTH_MAX}")


def _length(content: memoryview, position: int) -> tuple[int, int]:
    """A number of the format, and where it ends."""
    value = 0
    for index, byte in enumerate(content[position : position + _LENGTH_BYTES_MAX]):
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            if value >= 1 << 32:
                break
            return value, position + index + 1
    raise _broken("a length that is none")


def _broken(why: str) -> errors.InvalidRequest:
    return errors.InvalidRequest(f"it is not a WebAssembly binary: {why}")
