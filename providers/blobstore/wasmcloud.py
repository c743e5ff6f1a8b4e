"""The operations of ``wasmcloud:blobstore``: one value in, one or none out.

Source: ``blobstore.smithy`` of wasmCloud/interfaces, with its field names; unknown fields are
ignored. Media types and encodings of content are not kept.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from lattice import errors, limits
from lattice.wire import cbor, codec
from providers.blobstore import bounds as sizes
from providers.blobstore import payloads
from providers.blobstore.blobs import Blobs
from providers.blobstore.downloads import Downloads, chunk_of
from providers.blobstore.request import Request
from providers.blobstore.stores import ObjectInfo
from providers.sdk import Context, Link

CHUNK_BYTES = 512 * limits.KIB
"""A chunk of an object that is too large for one; the contract wants less than a megabyte."""

OBJECT = ("containerId", "objectId")
CHUNK = ("objectId", "containerId", "bytes", "offset", "isLast")
LISTING = ("containerId", "startWith", "continuation", "endWith", "endBefore", "maxItems")
"""Fields of structures in their order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Face:
    """What the operations work on."""

    blobs: Blobs
    link: Link
    context: Context
    downloads: Downloads
    encoding: payloads.Encoding
    """That of the request: its result is in it, too."""
    hold: Callable[[], Callable[[], Awaitable[None]]]
    """Holds the store beyond the call; what it gives lets it go."""


async def execute(face: Face, operation: str, payload: bytes) -> bytes:
    """Execute one operation and return its encoded result.

    Raises:
        InvalidRequest: a field is missing, of a wrong type or out of range.
        LatticeError: what ``Blobs`` raises.
    """
    result = await OPERATIONS[operation](face, payloads.unpack(payload))
    return b"" if result is None else face.encoding.pack(result)


def _structure(operation: str, payload: Any, fields: Iterable[str]) -> Request:
    payload = codec.named(payload, fields)
    if not isinstance(payload, dict):
        raise errors.InvalidRequest(f"{operation}: payload must be a map of named fields")
    return Request(operation, payload)


def _sole(operation: str, payload: Any) -> Request:
    return Request(operation, {"payload": payload})


async def _create_container(face: Face, payload: Any) -> None:
    await face.blobs.create_container(_sole("CreateContainer", payload).text("payload"))


async def _container_exists(face: Face, payload: Any) -> bool:
    name = _sole("ContainerExists", payload).text("payload")
    return await face.blobs.has_container(name)


async def _get_container_info(face: Face, payload: Any) -> dict[str, Any]:
    name = _sole("GetContainerInfo", payload).text("payload")
    created_at_s = await face.blobs.container_created_at_s(name)
    return {"containerId": name, "createdAt": _timestamp(created_at_s)}


async def _list_containers(face: Face, _payload: Any) -> list[dict[str, str]]:
    return [{"containerId": name} for name in await face.blobs.containers()]


async def _remove_containers(face: Face, payload: Any) -> list[dict[str, Any]]:
    names = _sole("RemoveContainers", payload).texts("payload")
    _check_count(names, face)
    return await _for_each(names, face.blobs.delete_container)


async def _object_exists(face: Face, payload: Any) -> bool:
    request = _structure("ObjectExists", payload, OBJECT)
    return await face.blobs.has_object(request.text("containerId"), request.text("objectId"))


async def _get_object_info(face: Face, payload: Any) -> dict[str, Any]:
    request = _structure("GetObjectInfo", payload, OBJECT)
    container = request.text("containerId")
    found = await face.blobs.info(container, request.text("objectId"))
    return _metadata(container, found)


async def _list_objects(face: Face, payload: Any) -> dict[str, Any]:
    request = _structure("ListObjects", payload, LISTING)
    container = request.text("containerId")
    cursor = request.text_or_none("continuation")
    start = request.text_or_none("startWith") if cursor is None else None
    last = request.text_or_none("endWith")
    before = request.text_or_none("endBefore")
    page = await face.blobs.objects(container, cursor, request.u32_or_none("maxItems"))
    # The order is the backend's own, so a range of names is one of those that are on the page.
    found = [
        _metadata(container, each)
        for each in page.objects
        if (start is None or each.name >= start)
        and (last is None or each.name <= last)
        and (before is None or each.name < before)
    ]
    answer: dict[str, Any] = {"objects": found, "isLast": page.cursor is None}
    if page.cursor is not None:
        answer["continuation"] = page.cursor
    return answer


async def _remove_objects(face: Face, payload: Any) -> list[dict[str, Any]]:
    request = _structure("RemoveObjects", payload, ("containerId", "objects"))
    container, names = request.text("containerId"), request.texts("objects")
    _check_count(names, face)
    return await _for_each(names, lambda name: face.blobs.delete(container, name))


async def _put_object(face: Face, payload: Any) -> dict[str, str]:
    request = _structure("PutObject", payload, ("chunk", "contentType", "contentEncoding"))
    chunk = request.part("chunk", CHUNK)
    container, name = chunk.text("containerId"), chunk.text("objectId")
    data, offset = chunk.data("bytes"), chunk.u64("offset")
    if offset:
        raise errors.InvalidRequest(f"the first chunk begins at offset 0, not {offset}")
    if chunk.flag("isLast"):
        await face.blobs.write(container, name, data)
        return {}
    upload_id = await face.blobs.begin(container, name)
    try:
        await face.blobs.append(upload_id, 0, data)
    except errors.LatticeError:
        # Nobody has heard of it, and nobody could go on with it.
        with suppress(errors.NotFound):
            await face.blobs.abort(upload_id)
        raise
    return {"streamId": upload_id}


async def _put_chunk(face: Face, payload: Any) -> None:
    request = _structure("PutChunk", payload, ("chunk", "streamId", "cancelAndRemove"))
    upload_id = request.text("streamId")
    if request.flag("cancelAndRemove"):
        await face.blobs.abort(upload_id)
        return
    chunk = request.part("chunk", CHUNK)
    named = face.blobs.object(chunk.text("containerId"), chunk.text("objectId"))
    if named != face.blobs.uploads.object_of(face.blobs.owner, upload_id):
        raise errors.InvalidRequest(f"streamId is that of another object than {named.name!r}")
    await face.blobs.append(upload_id, chunk.u64("offset"), chunk.data("bytes"))
    if chunk.flag("isLast"):
        await face.blobs.commit(upload_id)


async def _get_object(face: Face, payload: Any) -> dict[str, Any]:
    request = _structure(
        "GetObject", payload, ("objectId", "containerId", "rangeStart", "rangeEnd")
    )
    container, name = request.text("containerId"), request.text("objectId")
    start = request.u64_or_none("rangeStart") or 0
    last = request.u64_or_none("rangeEnd")
    # Only the interface's first version could ask for a size. Actors of the others may take the
    # first chunk for the whole object, as wasmCloud's providers mostly made it.
    first_bytes = request.u64_or_none("chunkSize") or face.blobs.bounds.chunk_bytes_max
    sizes.check_chunk("chunkSize", first_bytes, face.blobs.bounds)
    if last is not None and last < start:
        raise errors.InvalidRequest(f"rangeEnd {last} is before rangeStart {start}")
    try:
        first = await face.blobs.read(
            container,
            name,
            start,
            first_bytes if last is None else min(first_bytes, last + 1 - start),
        )
    except (errors.NotFound, errors.Conflict) as refusal:
        return {"success": False, "error": refusal.text, "contentLength": 0}
    end = first.of.size if last is None else min(last + 1, first.of.size)
    sent_to = start + len(first.data)
    if sent_to < end:
        face.downloads.check_room()
        face.downloads.begin(
            face.context,
            face.hold(),
            face.link,
            face.blobs,
            container,
            first.of,
            start=sent_to,
            end=end,
            chunk_bytes=request.u64_or_none("chunkSize") or min(CHUNK_BYTES, first_bytes),
            encoding=face.encoding,
        )
    return {
        "success": True,
        "initialChunk": chunk_of(container, name, first.data, start, sent_to >= end),
        "contentLength": max(end - start, 0),
    }


def _check_count(names: list[str], face: Face) -> None:
    most = face.blobs.bounds.page_objects_max
    if len(names) > most:
        raise errors.InvalidRequest(
            f"{len(names)} names are over the limit of {most}",
            detail={"count": len(names), "limit": most},
        )


async def _for_each(
    names: list[str], remove: Callable[[str], Awaitable[None]]
) -> list[dict[str, Any]]:
    """Go on with the others after one that can't be removed; the answer names only such."""
    failed: list[dict[str, Any]] = []
    for name in names:
        try:
            await remove(name)
        except errors.LatticeError as error:
            failed.append({"key": name, "success": False, "error": error.text})
    return failed


def _metadata(container: str, found: ObjectInfo) -> dict[str, Any]:
    return {
        "objectId": found.name,
        "containerId": container,
        "contentLength": found.size,
        # What the interface's first version calls it.
        "size": found.size,
        "lastModified": _timestamp(found.created_at_s),
    }


def _timestamp(at_s: float) -> cbor.Timestamp:
    seconds = int(at_s)
    return cbor.Timestamp(sec=seconds, nsec=int((at_s - seconds) * 1_000_000_000))


OPERATIONS: Mapping[str, Callable[[Face, Any], Awaitable[Any]]] = {
    "Blobstore.CreateContainer": _create_container,
    "Blobstore.ContainerExists": _container_exists,
    "Blobstore.GetContainerInfo": _get_container_info,
    "Blobstore.ListContainers": _list_containers,
    "Blobstore.RemoveContainers": _remove_containers,
    "Blobstore.ObjectExists": _object_exists,
    "Blobstore.GetObjectInfo": _get_object_info,
    "Blobstore.ListObjects": _list_objects,
    "Blobstore.RemoveObjects": _remove_objects,
    "Blobstore.PutObject": _put_object,
    "Blobstore.PutChunk": _put_chunk,
    "Blobstore.GetObject": _get_object,
}
"""Every operation, by its name on the wire."""
