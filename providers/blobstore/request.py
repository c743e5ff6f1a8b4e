"""Decoded arguments of one call, whose types and ranges are checked as they are taken."""

from collections.abc import Iterable, Mapping
from typing import Any

from lattice import errors
from lattice.wire import codec

U32_MAX = 2**32 - 1
U64_MAX = 2**64 - 1


class Request:
    """Arguments by name. A missing one counts as nil."""

    def __init__(self, operation: str, fields: Mapping[Any, Any]) -> None:
        self._operation = operation
        self._fields = fields

    def text(self, field: str) -> str:
        value = self._fields.get(field)
        if not isinstance(value, str):
            raise self.wrong(field, "a string")
        return value

    def text_or_none(self, field: str) -> str | None:
        return None if self._fields.get(field) is None else self.text(field)

    def texts(self, field: str) -> list[str]:
        value = self._fields.get(field)
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            raise self.wrong(field, "a list of strings")
        return value

    def data(self, field: str) -> bytes:
        value = codec.as_bytes(self._fields.get(field))
        if value is None:
            raise self.wrong(field, "bytes")
        return value

    def flag(self, field: str) -> bool:
        value = self._fields.get(field, False)
        if value is not None and not isinstance(value, bool):
            raise self.wrong(field, "a boolean")
        return bool(value)

    def u64(self, field: str) -> int:
        return self._integer(field, U64_MAX)

    def u64_or_none(self, field: str) -> int | None:
        return None if self._fields.get(field) is None else self.u64(field)

    def u32_or_none(self, field: str) -> int | None:
        return None if self._fields.get(field) is None else self._integer(field, U32_MAX)

    def part(self, field: str, fields: Iterable[str] | None = None) -> "Request":
        """A structure within, as arguments of their own; a list is one if its fields are given."""
        value = self._fields.get(field)
        if fields is not None:
            value = codec.named(value, fields)
        if not isinstance(value, dict):
            raise self.wrong(field, "a map of named fields")
        return Request(f"{self._operation}: {field}", value)

    def wrong(self, field: str, want: str) -> errors.InvalidRequest:
        return errors.InvalidRequest(
            f"{self._operation}: {field} must be {want}", detail={"field": field}
        )

    def _integer(self, field: str, most: int) -> int:
        value = self._fields.get(field)
        # True and False are integers to Python, not to the contract.
        if type(value) is not int or not 0 <= value <= most:
            raise self.wrong(field, f"an integer from 0 to {most}")
        return value
