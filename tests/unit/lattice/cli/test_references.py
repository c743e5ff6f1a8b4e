"""What is a file here, and what hosts fetch themselves."""

from pathlib import Path

import pytest

from lattice.cli import references


@pytest.mark.parametrize(
    "reference",
    [
        "lattice://counter@sha256:" + "0" * 64,
        "file:///srv/counter.wasm",
        "ghcr.io/wasmcloud/counter:0.1.0",
        "localhost:5000/counter",
        "localhost/counter",
    ],
)
def test_a_scheme_or_a_registry_makes_a_reference_remote(reference: str) -> None:
    assert references.is_remote(reference)


@pytest.mark.parametrize(
    "reference",
    ["counter.wasm", "./counter.wasm", "../a/b.wasm", "/a/b.wasm", "~/b.wasm", "build/b.wasm"],
)
def test_what_looks_like_a_path_is_not_sent_to_a_registry(reference: str) -> None:
    assert not references.is_remote(reference)


@pytest.mark.parametrize(
    ("path", "name"),
    [("a/counter.wasm", "counter"), ("my actor!.wasm", "my-actor-"), ("é.wasm", "-")],
)
def test_an_artefact_is_named_after_its_file(path: str, name: str) -> None:
    assert references.artefact_name(Path(path)) == name


def test_an_artefact_of_a_long_file_name_has_a_bounded_name() -> None:
    assert len(references.artefact_name(Path("x" * 200))) == 128
