"""Lattice events in their CloudEvents 1.0 envelope; the data's fields are wasmCloud 1.x's."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from pydantic_core import from_json

TYPE_PREFIX = "com.wasmcloud.lattice."


def encode(name: str, data: Mapping[str, Any] | str, *, source: str) -> bytes:
    """Wrap an event's data, which may be JSON already; ``source`` is the host it comes from."""
    text = data if isinstance(data, str) else _dump(data)
    envelope = {
        "specversion": "1.0",
        "id": str(uuid4()),
        "type": TYPE_PREFIX + name,
        "source": source,
        "datacontenttype": "application/json",
        "time": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
    }
    return f'{_dump(envelope)[:-1]},"data":{text}}}'.encode()


def time_of(message: bytes) -> float | None:
    """When an event says that it happened, in seconds since 1970; None where it does not say."""
    try:
        moment = datetime.fromisoformat(from_json(message)["time"])
    except (ValueError, KeyError, TypeError):
        return None
    return moment.timestamp() if moment.tzinfo is not None else None


def decode(message: bytes) -> tuple[str, str, dict[str, Any]] | None:
    """Take an event apart into name, source and data; None for what is not a lattice event.

    Anybody may publish on an event subject, so a stranger's message is passed over, not an error.
    """
    try:
        # Unlike the standard library's, it refuses half characters and nesting without end.
        event = from_json(message)
        name, source, data = event["type"], event["source"], event["data"]
    except (ValueError, KeyError, TypeError):
        return None
    if not isinstance(name, str) or not isinstance(source, str) or not isinstance(data, dict):
        return None
    return name.removeprefix(TYPE_PREFIX), source, data


def _dump(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))
