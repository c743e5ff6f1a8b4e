"""The native part of the engine: that it is the one which this code was written for."""

import ctypes
import os
from pathlib import Path

import pytest

from host.engine import ffi, native, wapc

DELEGATES = {name: callback for name, (_, _, callback) in wapc.FUNCTIONS.items()}


def test_where_there_has_to_be_a_compiler_the_native_part_was_built() -> None:
    if not os.environ.get("CI"):
        pytest.skip("only the CI is known to have a C compiler")
    assert native.PATH.exists()


@pytest.mark.parametrize("name", native.FUNCTIONS)
def test_the_library_has_every_function_that_it_is_given(name: str) -> None:
    assert ffi.symbol(name)


def test_every_function_it_answers_is_one_of_the_abi() -> None:
    assert set(native.ANSWERED) <= set(wapc.FUNCTIONS)
    assert set(native.DELEGATES) <= set(native.ANSWERED)


def test_without_the_library_there_are_the_other_steps(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(native, "PATH", tmp_path / "libnative.so")
    native._open.cache_clear()
    try:
        assert native.load(DELEGATES, name_bytes_max=wapc.NAME_BYTES_MAX) is None
    finally:
        native._open.cache_clear()


@pytest.mark.parametrize("content", [b"", b"not a library"], ids=["empty", "rubbish"])
def test_a_library_that_cannot_be_loaded_is_done_without(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes
) -> None:
    monkeypatch.setattr(native, "PATH", tmp_path / "libnative.so")
    native.PATH.write_bytes(content)
    native._open.cache_clear()
    try:
        assert native.load(DELEGATES, name_bytes_max=wapc.NAME_BYTES_MAX) is None
    finally:
        native._open.cache_clear()


@pytest.mark.skipif(not native.PATH.exists(), reason="the native part was not built")
def test_a_library_that_was_built_for_another_slot_is_done_without(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Longer(ctypes.Structure):
        _fields_ = [*ffi.Slot._fields_, ("more", ctypes.c_uint64)]

    monkeypatch.setattr(ffi, "Slot", Longer)
    native._open.cache_clear()
    try:
        assert native.load(DELEGATES, name_bytes_max=wapc.NAME_BYTES_MAX) is None
    finally:
        native._open.cache_clear()
