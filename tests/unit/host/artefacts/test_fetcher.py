"""References that hosts fetch: which are allowed, and what is said of the others."""

from pathlib import Path
from typing import cast

import pytest

from host.artefacts.fetch import Fetcher
from lattice import errors, limits
from lattice.bus import Bus

NO_BUS = cast("Bus", None)
"""Files are read without one."""


@pytest.fixture
def fetcher() -> Fetcher:
    return Fetcher(NO_BUS, "default", allow_file_load=True)


async def test_a_file_is_read(fetcher: Fetcher, tmp_path: Path) -> None:
    path = tmp_path / "with space.wasm"
    path.write_bytes(b"bytes")
    assert await fetcher.fetch(f"file://{tmp_path}/with%20space.wasm") == b"bytes"


async def test_a_file_is_denied_unless_the_operator_allowed_it(tmp_path: Path) -> None:
    fetcher = Fetcher(NO_BUS, "default", allow_file_load=False)
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
        "ghcr.io/wasmcloud/http-hello:0.1.0",
        "oci://ghcr.io/x",
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
