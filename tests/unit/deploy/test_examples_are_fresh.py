"""The committed example actors are what their sources say, and as small as promised.

Those in Rust are built where Rust is, and not compared: other versions of it make other bytes.
"""

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import wasmtime

from lattice.guests import templates
from lattice.project import Kind, Language

EXAMPLES = Path(__file__).parents[3] / "deploy" / "examples"
ACTORS = ["counter", "digits", "echo", "relay", "thumbnailer", "url-shortener"]

MODULE_BYTES_MAX = 20 * 1024
"""Roughly one and a half times the largest: a library or debug information would not fit."""

WAPC_FUNCTIONS = {
    "__console_log",
    "__guest_error",
    "__guest_request",
    "__guest_response",
    "__host_call",
    "__host_error",
    "__host_error_len",
    "__host_response",
    "__host_response_len",
}

needs_compiler = pytest.mark.skipif(
    importlib.util.find_spec("ziglang") is None or shutil.which("make") is None,
    reason="needs make and the C compiler: pip install '.[guests]'",
)


def committed(actor: str) -> bytes:
    return (EXAMPLES / actor / f"{actor}.wasm").read_bytes()


def compiled(actor: str) -> wasmtime.Module:
    return wasmtime.Module(wasmtime.Engine(), committed(actor))


@pytest.mark.parametrize("actor", ACTORS)
def test_an_example_imports_nothing_but_wapc(actor: str) -> None:
    imports = {(entry.module, entry.name) for entry in compiled(actor).imports}

    assert imports <= {("wapc", name) for name in WAPC_FUNCTIONS}


@pytest.mark.parametrize("actor", ACTORS)
def test_an_example_exports_its_memory_and_one_function_of_two_sizes(actor: str) -> None:
    exports = {entry.name: entry.type for entry in compiled(actor).exports}

    assert set(exports) == {"memory", "__guest_call"}
    function = exports["__guest_call"]
    assert isinstance(function, wasmtime.FuncType)
    assert [str(kind) for kind in function.params] == ["i32", "i32"]
    assert [str(kind) for kind in function.results] == ["i32"]


@pytest.mark.parametrize("actor", ACTORS)
def test_an_example_is_small_and_starts_with_one_page_of_memory(actor: str) -> None:
    (memory,) = (e.type for e in compiled(actor).exports if isinstance(e.type, wasmtime.MemoryType))

    assert len(committed(actor)) <= MODULE_BYTES_MAX
    assert memory.limits.min == 1


@pytest.mark.parametrize("actor", ACTORS)
def test_an_example_keeps_its_function_names_and_no_debug_information(actor: str) -> None:
    module = committed(actor)

    assert b"lattice_guest_call" in module
    assert b".debug" not in module


@needs_compiler
@pytest.mark.timeout(300)  # A compiler new to the machine first builds its own run-time library.
def test_building_the_examples_again_gives_the_committed_bytes(tmp_path: Path) -> None:
    make = ["make", "-C", str(EXAMPLES), "c", f"PYTHON={sys.executable}", f"OUTPUT={tmp_path}"]
    built = subprocess.run(make, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr

    stale = [
        actor
        for actor in ACTORS
        if (tmp_path / actor / f"{actor}.wasm").read_bytes() != committed(actor)
    ]
    assert stale == [], "rebuild them with: make -C deploy/examples --always-make c"


@pytest.mark.parametrize("language", ["c", "rust", "python", "javascript"])
def test_a_hello_is_what_a_new_project_is(language: str) -> None:
    folder = EXAMPLES / "hello" / language
    made = templates.files(Kind.HTTP, Language(language), f"hello-{language}")
    taken = [file for file in made if (folder / file.path).exists()]
    assert len(taken) > 3

    assert [file.path for file in taken if (folder / file.path).read_bytes() != file.content] == []
