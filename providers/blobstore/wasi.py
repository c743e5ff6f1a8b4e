"""``wasi:blobstore`` as operations: an argument array in, ``{ok: …}`` or ``{err: text}`` out.

Source: the draft of WebAssembly/wasi-blobstore. A container is named by its name, as resources stay
within an actor; so a value that it reads or writes is its bytes, and beside the draft's functions
there are those that a value larger than a call needs: ``container.read-data`` and the writes in
parts. What a caller asked for in vain is an ``err``; what went wrong behind it, an error of the
call.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from lattice import errors
from lattice.wire import codec
from providers.blobstore.blobs import Blobs
from providers.blobstore.request import Request
from providers.blobstore.stores import ObjectId

REFUSALS = (errors.InvalidRequest, errors.PayloadTooLarge, errors.NotFound, errors.Conflict)
"""What the caller can see to."""

Handler = Callable[[Blobs, Request], Awaitable[Any]]


async def execute(blobs: Blobs, operation: str, payload: bytes) -> bytes:
    """Execute one operation and return its encoded result.

    Raises:
        InvalidRequest: the payload is not an array of at most so many arguments.
        LatticeError: what the store raises, but for ``REFUSALS``.
    """
    parameters, handler = OPERATIONS[operation]
    arguments = codec.unpack_payload(payload) if payload else []
    if not isinstance(arguments, list) or len(arguments) > len(parameters):
        raise errors.InvalidRequest(
            f"{operation}: the payload must be an array of {', '.join(parameters)}"
        )
    request = Request(operation, dict(zip(parameters, arguments, strict=False)))
    try:
        return codec.pack({"ok": await handler(blobs, request)})
    except REFUSALS as error:
        return refusal(error)


def refusal(error: errors.LatticeError) -> bytes:
    """The result that tells of one of ``REFUSALS``."""
    return codec.pack({"err": f"{error.code}: {error.text}"})


async def _create_container(blobs: Blobs, request: Request) -> str:
    name = request.text("name")
    await blobs.create_container(name)
    return name


async def _get_container(blobs: Blobs, request: Request) -> str:
    name = request.text("name")
    await blobs.container_created_at_s(name)
    return name


async def _delete_container(blobs: Blobs, request: Request) -> None:
    await blobs.delete_container(request.text("name"))


async def _container_exists(blobs: Blobs, request: Request) -> bool:
    return await blobs.has_container(request.text("name"))


async def _copy_object(blobs: Blobs, request: Request) -> None:
    await blobs.copy(_object_id(blobs, request, "src"), _object_id(blobs, request, "dest"))


async def _move_object(blobs: Blobs, request: Request) -> None:
    await blobs.move(_object_id(blobs, request, "src"), _object_id(blobs, request, "dest"))


def _object_id(blobs: Blobs, request: Request, field: str) -> ObjectId:
    part = request.part(field)
    return blobs.object(part.text("container"), part.text("object"))


async def _info(blobs: Blobs, request: Request) -> dict[str, Any]:
    name = request.text("container")
    return {"name": name, "created-at": int(await blobs.container_created_at_s(name))}


async def _get_data(blobs: Blobs, request: Request) -> bytes:
    container, name = request.text("container"), request.text("name")
    return await blobs.read_whole(container, name, request.u64("start"), request.u64("end"))


async def _read_data(blobs: Blobs, request: Request) -> dict[str, Any]:
    part = await blobs.read(
        request.text("container"),
        request.text("name"),
        request.u64("start"),
        request.u64("length"),
        version=request.text_or_none("version"),
    )
    return {"data": part.data, "size": part.of.size, "version": part.of.version}


async def _write_data(blobs: Blobs, request: Request) -> None:
    await blobs.write(request.text("container"), request.text("name"), request.data("data"))


async def _begin_write(blobs: Blobs, request: Request) -> str:
    return await blobs.begin(request.text("container"), request.text("name"))


async def _append_data(blobs: Blobs, request: Request) -> int:
    return await blobs.append(request.text("write"), request.u64("offset"), request.data("data"))


async def _commit_write(blobs: Blobs, request: Request) -> None:
    await blobs.commit(request.text("write"))


async def _abort_write(blobs: Blobs, request: Request) -> None:
    await blobs.abort(request.text("write"))


async def _list_objects(blobs: Blobs, request: Request) -> dict[str, Any]:
    page = await blobs.objects(
        request.text("container"), request.text_or_none("cursor"), request.u32_or_none("count")
    )
    return {"names": [each.name for each in page.objects], "cursor": page.cursor}


async def _delete_object(blobs: Blobs, request: Request) -> None:
    await blobs.delete(request.text("container"), request.text("name"))


async def _delete_objects(blobs: Blobs, request: Request) -> None:
    await blobs.delete_all(request.text("container"), request.texts("names"))


async def _has_object(blobs: Blobs, request: Request) -> bool:
    return await blobs.has_object(request.text("container"), request.text("name"))


async def _object_info(blobs: Blobs, request: Request) -> dict[str, Any]:
    container = request.text("container")
    found = await blobs.info(container, request.text("name"))
    return {
        "name": found.name,
        "container": container,
        "created-at": int(found.created_at_s),
        "size": found.size,
    }


async def _clear(blobs: Blobs, request: Request) -> None:
    await blobs.clear(request.text("container"))


OPERATIONS: Mapping[str, tuple[tuple[str, ...], Handler]] = {
    "blobstore.create-container": (("name",), _create_container),
    "blobstore.get-container": (("name",), _get_container),
    "blobstore.delete-container": (("name",), _delete_container),
    "blobstore.container-exists": (("name",), _container_exists),
    "blobstore.copy-object": (("src", "dest"), _copy_object),
    "blobstore.move-object": (("src", "dest"), _move_object),
    "container.name": (("name",), _get_container),
    "container.info": (("container",), _info),
    "container.get-data": (("container", "name", "start", "end"), _get_data),
    "container.read-data": (("container", "name", "start", "length", "version"), _read_data),
    "container.write-data": (("container", "name", "data"), _write_data),
    "container.begin-write": (("container", "name"), _begin_write),
    "container.append-data": (("write", "offset", "data"), _append_data),
    "container.commit-write": (("write",), _commit_write),
    "container.abort-write": (("write",), _abort_write),
    "container.list-objects": (("container", "cursor", "count"), _list_objects),
    "container.delete-object": (("container", "name"), _delete_object),
    "container.delete-objects": (("container", "names"), _delete_objects),
    "container.has-object": (("container", "name"), _has_object),
    "container.object-info": (("container", "name"), _object_info),
    "container.clear": (("container",), _clear),
}
"""Every operation by its name on the wire: its parameters, of which the last may be absent, and
what does it.
"""
