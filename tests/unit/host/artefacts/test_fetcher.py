"""References that hosts fetch: which are allowed, and what is said of the others."""

import asyncio
import hashlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from host.artefacts import fetch
from host.artefacts.fetch import Fetcher
from host.artefacts.shelf import Shelf
from lattice import errors, limits
from lattice.bus import Bus
from lattice.registry.credentials import RegistryAccess
from tests.support.eventually import eventually

NO_BUS = cast("Bus", None)
"""Files are read without one."""


@pytest.fixture
def make_fetcher(tmp_path: Path) -> Callable[..., Fetcher]:
    def make(**fields: Any) -> Fetcher:
        values: dict[str, Any] = {"allow_file_load": True, "registries": RegistryAccess()} | fields
        return Fetcher(NO_BUS, "default", shelf=Shelf(tmp_path / "shelf"), **values)

    return make


@pytest.fixture
def fetcher(make_fetcher: Callable[..., Fetcher]) -> Fetcher:
    return make_fetcher()


async def test_a_file_is_read(fetcher: Fetcher, tmp_path: Path) -> None:
    path = tmp_path / "with space.wasm"
    path.write_bytes(b"bytes")
    assert await fetcher.fetch(f"file://{tmp_path}/with%20space.wasm") == b"bytes"


async def test_a_file_is_denied_unless_the_operator_allowed_it(
    make_fetcher: Callable[..., Fetcher], tmp_path: Path
) -> None:
    fetcher = make_fetcher(allow_file_load=False)
    with pytest.raises(errors.Denied, match="--allow-file-load"):
        await fetcher.fetch(f"file://{tmp_path}/x")


async def test_a_file_that_is_too_large_is_not_read(
    fetcher: Fetcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MODULE_BYTES_MAX", 3)
    (tmp_path / "large").write_bytes(b"1234")
    with pytest.raises(errors.PayloadTooLarge) as refusal:
        await fetcher.fetch(f"file://{tmp_path}/large")
    assert refusal.value.detail == {"size": 4, "limit": 3}


async def test_a_missing_file_is_not_found(fetcher: Fetcher, tmp_path: Path) -> None:
    with pytest.raises(errors.NotFound, match="no file"):
        await fetcher.fetch(f"file://{tmp_path}/missing")


async def test_a_directory_is_refused(fetcher: Fetcher, tmp_path: Path) -> None:
    with pytest.raises(errors.InvalidRequest, match="Is a directory"):
        await fetcher.fetch(f"file://{tmp_path}")


@pytest.mark.parametrize(
    "reference",
    [
        "file://relative/path",
        "file://",
        "wasmcloud/http-hello:0.1.0",
        "ghcr.io/x:a b",
        "oci://x",
        "/absolute/path",
        "lattice://",
        "lattice://name@sha256:xyz",
        "lattice://a b@sha256:" + "0" * 64,
        "",
        "x" * 10_000,
    ],
)
async def test_a_reference_of_another_kind_is_refused_and_told_how(
    fetcher: Fetcher, reference: str
) -> None:
    with pytest.raises(errors.InvalidRequest) as refusal:
        await fetcher.fetch(reference)
    assert len(refusal.value.text) < 500


@pytest.mark.parametrize("reference", ["file:///nul\0byte", "file:///nul%00byte"])
async def test_a_path_that_no_file_can_have_is_refused(fetcher: Fetcher, reference: str) -> None:
    with pytest.raises(errors.InvalidRequest):
        await fetcher.fetch(reference)


@pytest.mark.parametrize("reference", ["file://[/x", "file://[::1/x"])
async def test_a_reference_that_is_no_url_is_refused(fetcher: Fetcher, reference: str) -> None:
    with pytest.raises(errors.InvalidRequest):
        await fetcher.fetch(reference)


@pytest.mark.parametrize("reference", ["ghcr.io/a", "ghcr.io/a:latest", "oci://ghcr.io/a"])
async def test_what_names_no_version_is_denied_at_once(fetcher: Fetcher, reference: str) -> None:
    with pytest.raises(errors.Denied, match="--allow-latest"):
        fetcher.check(reference)


def test_a_reference_that_may_be_fetched_is_not_fetched_to_say_so(
    make_fetcher: Callable[..., Fetcher],
) -> None:
    fetcher = make_fetcher(registries=RegistryAccess(allow_latest=True))
    for reference in (
        "ghcr.io/a:1",
        "ghcr.io/a",
        "file:///missing",
        f"lattice://a@sha256:{'0' * 64}",
    ):
        fetcher.check(reference)


async def test_a_program_in_a_file_is_run_where_it_is(fetcher: Fetcher, tmp_path: Path) -> None:
    path = tmp_path / "provider.sh"
    path.write_text("#!/bin/sh\n")
    executable = await fetcher.executable(f"file://{path}")
    assert executable.path == path
    assert executable.claims is None


async def test_a_module_is_no_provider(fetcher: Fetcher, tmp_path: Path) -> None:
    stored = tmp_path / "shelf"
    content = b"\0asm\1\0\0\0"
    digest = hashlib.sha256(content).hexdigest()
    await Shelf(stored).put(f"sha256:{digest}", content)
    with pytest.raises(errors.InvalidRequest, match="no provider"):
        await fetcher.executable(f"lattice://echo@sha256:{digest}")


async def test_what_many_ask_for_at_once_is_read_once(
    fetcher: Fetcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.wasm").write_bytes(b"bytes")
    reads, gate, read = [], threading.Event(), fetch._read

    def slowly(path: Path, bytes_max: int) -> bytes:
        reads.append(path)
        gate.wait(10)
        return read(path, bytes_max)

    monkeypatch.setattr(fetch, "_read", slowly)
    asking = [asyncio.ensure_future(fetcher.fetch(f"file://{tmp_path}/a.wasm")) for _ in range(5)]
    await eventually(lambda: reads)
    asking[0].cancel()
    gate.set()

    assert await asyncio.gather(*asking[1:]) == [b"bytes"] * 4
    assert asking[0].cancelled()
    assert len(reads) == 1


async def test_a_failure_is_told_to_everybody_and_not_remembered(
    fetcher: Fetcher, tmp_path: Path
) -> None:
    reference = f"file://{tmp_path}/late.wasm"
    results = await asyncio.gather(
        *(fetcher.fetch(reference) for _ in range(3)), return_exceptions=True
    )
    assert [type(result) for result in results] == [errors.NotFound] * 3

    (tmp_path / "late.wasm").write_bytes(b"bytes")
    assert await fetcher.fetch(reference) == b"bytes"


@pytest.mark.parametrize("name", ["pipe", "device"])
async def test_what_is_no_file_is_refused_and_not_read(
    fetcher: Fetcher, tmp_path: Path, name: str
) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/zero")
    for ask in (fetcher.fetch, fetcher.executable):
        with pytest.raises(errors.InvalidRequest, match="not a file"):
            await ask(f"file://{tmp_path}/{name}")


async def test_a_fetcher_that_is_closed_leaves_nobody_waiting(
    fetcher: Fetcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, gate = threading.Event(), threading.Event()

    def never(_: Path, __: int) -> bytes:
        begun.set()
        gate.wait(10)
        return b""

    monkeypatch.setattr(fetch, "_read", never)
    asking = asyncio.ensure_future(fetcher.fetch(f"file://{tmp_path}/a"))
    await eventually(begun.is_set)
    await fetcher.aclose()
    gate.set()

    with pytest.raises(asyncio.CancelledError):
        await asking
    await fetcher.aclose()
