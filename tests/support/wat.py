"""The tiny guests of ``tests/actors``, assembled."""

import functools
from pathlib import Path

import wasmtime

ACTORS = Path(__file__).parents[1] / "actors"


@functools.cache
def actor(name: str) -> bytes:
    """Assemble ``tests/actors/{name}.wat``."""
    return assemble((ACTORS / f"{name}.wat").read_text())


def assemble(text: str) -> bytes:
    """Turn WebAssembly text into the bytes of a module."""
    return bytes(wasmtime.wat2wasm(text))
