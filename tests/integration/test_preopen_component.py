"""Directories of a component, by the same consent as those of any other actor."""

from pathlib import Path

from lattice.wire import codec
from tests.support.cluster import Cluster
from tests.support.components import guest
from tests.support.eventually import eventually

SCRIPT = """directories
std-read /data/file
std-write /data/new text"""


async def test_a_component_finds_the_directories_that_it_was_given(
    cluster: Cluster, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("content")
    (host,) = await cluster.start_hosts(1, preopen=f"one={tmp_path}:rw")

    async def outcome() -> list[str]:
        told = codec.unpack(await cluster.call("files", "run", codec.pack([SCRIPT])))
        assert isinstance(told, str)
        return told.split("\n")

    async def put_config(config: dict[str, str]) -> None:
        await cluster.control.put_config("files", config)
        await eventually(lambda: host.host._actors._state.config("files") == config)

    await put_config({})
    await cluster.start_actor("files", wasm=guest("files"), on=host, config=["files"])
    nothing = "error NotFound Some(44)"
    assert await outcome() == ["", nothing, nothing]

    await put_config({"wasi.preopen./data": "one"})
    assert await outcome() == ["/data", "content", "error PermissionDenied Some(63)"]

    await put_config({"wasi.preopen./data": "one:rw"})
    assert await outcome() == ["/data", "content", "ok"]
    assert (tmp_path / "new").read_text() == "text"
