"""Guests written in C, compiled where they are tested; the compiler is the ``guests`` extra's."""

import functools
import importlib.util
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

ACTORS = Path(__file__).parents[1] / "actors"

COMPILE_S = 120
"""Patience with a compiler that is used for the first time on a machine."""

needs_compiler = pytest.mark.skipif(
    importlib.util.find_spec("ziglang") is None,
    reason="needs the C compiler: pip install '.[guests]'",
)


@functools.cache
def compiled(name: str, *options: str) -> bytes:
    """Compile ``tests/actors/{name}.c`` for no operating system at all."""
    with tempfile.TemporaryDirectory() as directory:
        output = Path(directory) / "guest.wasm"
        subprocess.run(
            [
                *(sys.executable, "-m", "ziglang", "cc", "-target", "wasm32-freestanding"),
                *("-O1", "-Wl,--no-entry", "-Wl,-z,stack-size=65536"),
                *options,
                *("-o", str(output), f"{name}.c"),
            ],
            cwd=ACTORS,
            check=True,
            timeout=COMPILE_S,
        )
        return output.read_bytes()
