"""Directories of an actor: given by its host's operator, found where its config says."""

from pathlib import Path

import pytest

from host.engine import preview1
from lattice import errors
from tests.support.c_guest import compiled, needs_compiler
from tests.support.cluster import Cluster, LocalHost
from tests.support.eventually import eventually

pytestmark = needs_compiler


@pytest.fixture
async def host(cluster: Cluster, tmp_path: Path) -> LocalHost:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    (host,) = await cluster.start_hosts(
        1, preopen=f"one={tmp_path / 'one'},two={tmp_path / 'two'}:rw"
    )
    return host


async def put_config(cluster: Cluster, host: LocalHost, **config: str) -> None:
    await cluster.control.put_config("files", config)
    await eventually(lambda: host.host._actors._state.config("files") == config)


async def start(cluster: Cluster, host: LocalHost, value: str) -> None:
    await put_config(cluster, host, **{"wasi.preopen./data": value})
    await cluster.start_actor("files", wasm=compiled("files"), on=host, config=["files"])


async def test_an_actor_reads_what_it_was_given(cluster: Cluster, host: LocalHost) -> None:
    await start(cluster, host, "one")
    assert await cluster.call("files", "read", b"file") == b"\0one"
    assert await cluster.call("files", "write", b"new") == bytes([preview1.ROFS])


async def test_an_actor_writes_where_both_say_so(
    cluster: Cluster, host: LocalHost, tmp_path: Path
) -> None:
    await start(cluster, host, "two:rw")
    assert await cluster.call("files", "write", b"new") == b"\0"
    assert (tmp_path / "two" / "new").read_text() == "new"


async def test_an_actor_without_such_a_config_finds_nothing(
    cluster: Cluster, host: LocalHost
) -> None:
    await cluster.start_actor("files", wasm=compiled("files"), on=host)
    assert await cluster.call("files", "read", b"file") == bytes([preview1.BADF])


@pytest.mark.parametrize("value", ["three", "one:rw"])
async def test_a_config_that_wants_more_than_the_host_gives_is_denied_at_the_start(
    cluster: Cluster, host: LocalHost, value: str
) -> None:
    with pytest.raises(errors.LatticeError, match="LATTICE_PREOPEN"):
        await start(cluster, host, value)


async def test_a_changed_config_is_followed_as_far_as_the_host_allows(
    cluster: Cluster, host: LocalHost
) -> None:
    await start(cluster, host, "one")
    await put_config(cluster, host, **{"wasi.preopen./data": "two"})
    assert await cluster.call("files", "read", b"file") == b"\0two"
    await put_config(cluster, host, **{"wasi.preopen./data": "three"})
    assert await cluster.call("files", "read", b"file") == b"\0two", "it serves on as before"
