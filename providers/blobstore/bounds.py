"""How large, how many and how long: one set of bounds for every backend and both contracts.

Each is a provider configuration key of the same name, whose default and ceiling stand here.
"""

from dataclasses import dataclass

from lattice import errors, limits


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Sizes of names are of UTF-8 text, in bytes."""

    container_bytes_max: int = 63
    """Name of a container: as long as that of a bucket of S3, so that it fits names of streams."""

    name_bytes_max: int = 1_024
    """Name of an object; S3's own limit."""

    object_bytes_max: int = 1_024 * limits.MIB
    """One object."""

    chunk_bytes_max: int = 8 * limits.MIB
    """What one call may read, or bring to be written: half a call's largest payload."""

    page_objects_max: int = 1_000
    """Objects that one answer lists, and that one call may delete; S3's own page."""

    containers_max: int = 1_000
    """Containers of one namespace: on NATS each is a stream."""

    uploads_max: int = 64
    """Objects that are being written in parts at a time, each with its file or its buffer."""

    upload_idle_s: int = 60
    """How long an object that is being written waits for its next part until it is given up."""

    downloads_max: int = 64
    """Objects that are being sent to actors chunk by chunk at a time."""

    transfers_max: int = 16
    """Calls that move data at a time; times ``chunk_bytes_max`` it bounds the provider's memory."""

    memory_bytes_max: int = 64 * limits.MIB
    """Everything the memory backend may hold: it shares its process with actors."""


CEILINGS = {
    "container_bytes_max": 63,
    "name_bytes_max": 1_024,
    "object_bytes_max": 5 * 1_024 * limits.MIB,
    "chunk_bytes_max": limits.PAYLOAD_BYTES_MAX - limits.ENVELOPE_BYTES_MARGIN,
    "page_objects_max": 1_000,
    "containers_max": 100_000,
    "uploads_max": 10_000,
    "upload_idle_s": 86_400,
    "downloads_max": 10_000,
    "transfers_max": 1_000,
    "memory_bytes_max": 64 * limits.KIB * limits.MIB,
}
"""What an operator may set at most. An object of more than 5 GiB can't be copied in S3 at once."""


def check_name(what: str, name: str, bytes_max: int) -> None:
    """Refuse a name that is empty, too long, or not text.

    Raises:
        InvalidRequest: it is empty, or has lone surrogates.
        PayloadTooLarge: it is too long, naming both numbers.
    """
    if not name:
        raise errors.InvalidRequest(f"{what} must not be empty")
    try:
        size_bytes = len(name) if name.isascii() else len(name.encode())
    except UnicodeEncodeError:
        raise errors.InvalidRequest(f"{what} is not text") from None
    if size_bytes > bytes_max:
        raise errors.PayloadTooLarge(what, size_bytes, bytes_max)


def check_object(size_bytes: int, bounds: Bounds) -> None:
    """
    Raises:
        PayloadTooLarge: so large an object may not be, naming both numbers.
    """
    if size_bytes > bounds.object_bytes_max:
        raise errors.PayloadTooLarge("object", size_bytes, bounds.object_bytes_max)


def check_chunk(what: str, size_bytes: int, bounds: Bounds) -> None:
    """
    Raises:
        PayloadTooLarge: more than one call may move, naming both numbers.
    """
    if size_bytes > bounds.chunk_bytes_max:
        raise errors.PayloadTooLarge(what, size_bytes, bounds.chunk_bytes_max)
