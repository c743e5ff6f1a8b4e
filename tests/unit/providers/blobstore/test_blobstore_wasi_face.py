"""``wasi:blobstore``: arguments in an array, ``ok`` or ``err`` out."""

from typing import Any

import pytest

from lattice import errors
from providers.blobstore import wasi
from providers.blobstore.provider import Blobstore
from tests.support.blob_provider import ask, link, started


async def ok(provider: Blobstore, operation: str, *arguments: Any) -> Any:
    answer = await ask(provider, link(), operation, list(arguments))
    assert answer.keys() == {"ok"}, answer
    return answer["ok"]


async def err(provider: Blobstore, operation: str, *arguments: Any) -> str:
    answer = await ask(provider, link(), operation, list(arguments))
    assert answer.keys() == {"err"}, answer
    assert isinstance(answer["err"], str)
    return answer["err"]


@pytest.fixture
async def box(provider: Blobstore) -> str:
    assert await ok(provider, "blobstore.create-container", "box") == "box"
    return "box"


async def test_a_container_lives_from_its_making_to_its_deletion(provider: Blobstore) -> None:
    assert await ok(provider, "blobstore.container-exists", "box") is False
    assert await err(provider, "blobstore.get-container", "box") == (
        "not_found: there is no container 'box'"
    )
    assert await ok(provider, "blobstore.create-container", "box") == "box"
    assert await ok(provider, "blobstore.create-container", "box") == "box"
    assert await ok(provider, "blobstore.get-container", "box") == "box"
    assert await ok(provider, "container.name", "box") == "box"
    info = await ok(provider, "container.info", "box")
    assert info["name"] == "box"
    assert info["created-at"] > 1_600_000_000
    assert await ok(provider, "blobstore.container-exists", "box") is True
    assert await ok(provider, "blobstore.delete-container", "box") is None
    assert await ok(provider, "blobstore.container-exists", "box") is False


async def test_an_object_is_written_read_described_and_deleted(
    provider: Blobstore, box: str
) -> None:
    assert await ok(provider, "container.write-data", box, "a", b"0123456789") is None
    # The draft's ranges have their last byte, too.
    assert await ok(provider, "container.get-data", box, "a", 0, 9) == b"0123456789"
    assert await ok(provider, "container.get-data", box, "a", 2, 2) == b"2"
    assert await ok(provider, "container.get-data", box, "a", 8, 2**64 - 1) == b"89"
    assert await ok(provider, "container.get-data", box, "a", 10, 20) == b""
    assert await ok(provider, "container.get-data", box, "a", 5, 4) == b""
    assert await ok(provider, "container.has-object", box, "a") is True
    info = await ok(provider, "container.object-info", box, "a")
    assert info.pop("created-at") > 1_600_000_000
    assert info == {"name": "a", "container": "box", "size": 10}
    assert await ok(provider, "container.delete-object", box, "a") is None
    assert await ok(provider, "container.has-object", box, "a") is False
    assert await err(provider, "container.get-data", box, "a", 0, 9) == (
        "not_found: container 'box' has no object 'a'"
    )


async def test_objects_are_listed_in_pages_and_deleted_together(
    provider: Blobstore, box: str
) -> None:
    for name in ("a", "b", "c", "d"):
        await ok(provider, "container.write-data", box, name, b"1")
    page = await ok(provider, "container.list-objects", box, None, 3)
    assert page["names"] == ["a", "b", "c"]
    page = await ok(provider, "container.list-objects", box, page["cursor"])
    assert page == {"names": ["d"], "cursor": None}
    assert await ok(provider, "container.delete-objects", box, ["a", "none", "c"]) is None
    assert (await ok(provider, "container.list-objects", box))["names"] == ["b", "d"]
    assert await ok(provider, "container.clear", box) is None
    assert (await ok(provider, "container.list-objects", box))["names"] == []


async def test_objects_are_copied_and_moved_between_containers(
    provider: Blobstore, box: str
) -> None:
    await ok(provider, "blobstore.create-container", "other")
    await ok(provider, "container.write-data", box, "a", b"1")
    here, there = {"container": box, "object": "a"}, {"container": "other", "object": "b"}
    assert await ok(provider, "blobstore.copy-object", here, there) is None
    assert await ok(provider, "container.get-data", box, "a", 0, 9) == b"1"
    await ok(provider, "container.write-data", box, "a", b"2")
    assert await ok(provider, "blobstore.move-object", here, there) is None
    assert await ok(provider, "container.has-object", box, "a") is False
    assert await ok(provider, "container.get-data", "other", "b", 0, 9) == b"2"
    assert await ok(provider, "blobstore.move-object", there, there) is None
    assert await ok(provider, "container.get-data", "other", "b", 0, 9) == b"2"
    nowhere = {"container": "none", "object": "b"}
    assert (await err(provider, "blobstore.move-object", there, nowhere)).startswith("not_found")
    assert await ok(provider, "container.has-object", "other", "b") is True


async def test_an_object_is_written_in_parts_and_seen_when_they_are_committed(
    provider: Blobstore, box: str
) -> None:
    write = await ok(provider, "container.begin-write", box, "a")
    assert await ok(provider, "container.append-data", write, 0, b"01234") == 5
    assert await ok(provider, "container.append-data", write, 5, b"") == 5
    assert await err(provider, "container.append-data", write, 0, b"01234") == (
        "conflict: the next part begins at offset 5, not 0"
    )
    assert await ok(provider, "container.append-data", write, 5, b"56789") == 10
    assert await ok(provider, "container.has-object", box, "a") is False
    assert await ok(provider, "container.commit-write", write) is None
    assert (await err(provider, "container.commit-write", write)).startswith("not_found")
    part = await ok(provider, "container.read-data", box, "a", 3, 4)
    assert part["data"] == b"3456"
    assert part["size"] == 10
    rest = await ok(provider, "container.read-data", box, "a", 7, 100, part["version"])
    assert rest["data"] == b"789"
    await ok(provider, "container.write-data", box, "a", b"new")
    assert await err(provider, "container.read-data", box, "a", 7, 100, part["version"]) == (
        "conflict: object 'a' was replaced while it was read; begin again"
    )


async def test_an_aborted_write_leaves_nothing(provider: Blobstore, box: str) -> None:
    write = await ok(provider, "container.begin-write", box, "a")
    await ok(provider, "container.append-data", write, 0, b"01234")
    assert await ok(provider, "container.abort-write", write) is None
    assert (await err(provider, "container.append-data", write, 5, b"1")).startswith("not_found")
    assert await ok(provider, "container.has-object", box, "a") is False


REFUSED: list[tuple[str, list[Any], str]] = [
    (
        "blobstore.create-container",
        ["żółć"],
        "payload_too_large: name of the container is 8 bytes, over the limit of 5",
    ),
    (
        "blobstore.create-container",
        ["two"],
        (
            "invalid_request: there are 1 containers, at the limit of 1;"
            " delete one, or raise containers_max"
        ),
    ),
    (
        "container.write-data",
        ["box", "a" * 7, b""],
        "payload_too_large: name of the object is 7 bytes, over the limit of 6",
    ),
    (
        "container.write-data",
        ["box", "a", b"x" * 11],
        "payload_too_large: data is 11 bytes, over the limit of 10",
    ),
    (
        "container.read-data",
        ["box", "a", 0, 11],
        "payload_too_large: range is 11 bytes, over the limit of 10",
    ),
    (
        "container.delete-objects",
        ["box", ["a", "b", "c"]],
        "invalid_request: 3 names are over the limit of 2",
    ),
    (
        "container.write-data",
        ["box", "", b""],
        "invalid_request: name of the object must not be empty",
    ),
    (
        "container.list-objects",
        ["box", None, 0],
        "invalid_request: a page must have room for 1 object or more",
    ),
]


async def test_bounds_name_the_limit_and_what_was_measured() -> None:
    config = {"container_bytes_max": "5", "name_bytes_max": "6", "chunk_bytes_max": "10"}
    config |= {"object_bytes_max": "15", "containers_max": "1", "page_objects_max": "2"}
    async with started({"backend": "memory", **config}) as provider:
        await provider.put_link(link())
        await ok(provider, "blobstore.create-container", "box")
        for operation, arguments, text in REFUSED:
            assert await err(provider, operation, *arguments) == text
        write = await ok(provider, "container.begin-write", "box", "a")
        await ok(provider, "container.append-data", write, 0, b"x" * 10)
        assert await err(provider, "container.append-data", write, 10, b"x" * 6) == (
            "payload_too_large: object is 16 bytes, over the limit of 15"
        )
        assert await ok(provider, "container.append-data", write, 10, b"x" * 5) == 15
        await ok(provider, "container.commit-write", write)
        assert await err(provider, "container.get-data", "box", "a", 0, 20) == (
            "payload_too_large: range is 15 bytes, over the limit of 10"
        )
        for name in ("b", "c"):
            await ok(provider, "container.write-data", "box", name, b"")
        page = await ok(provider, "container.list-objects", "box", None, 1_000)
        assert len(page["names"]) == 2


@pytest.mark.parametrize("operation", wasi.OPERATIONS)
@pytest.mark.parametrize(
    "argument", [None, True, -1, 2**64 - 1, 1.5, [1], {"container": 7}, b"\xff"]
)
async def test_arguments_of_wrong_types_are_refused(
    provider: Blobstore, box: str, operation: str, argument: Any
) -> None:
    parameters, _ = wasi.OPERATIONS[operation]
    answer = await err(provider, operation, *([argument] * len(parameters)))
    assert answer.startswith("invalid_request: "), answer
    assert operation in answer


async def test_a_payload_that_is_no_array_of_arguments_is_refused(provider: Blobstore) -> None:
    for payload in ({"name": "a"}, ["a", "b"], "a"):
        with pytest.raises(errors.InvalidRequest, match="must be an array of name"):
            await ask(provider, link(), "container.name", payload)
    assert (await err(provider, "container.name")).startswith("invalid_request: container.name")
