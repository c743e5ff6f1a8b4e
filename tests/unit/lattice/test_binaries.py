"""What a binary says of itself, read without an engine."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lattice import binaries, errors
from lattice.binaries import Abi, Name, Needed
from lattice.identity import sections
from tests.support import wat

COMPONENT = """
(component
  (import "wasi:keyvalue/store@0.2.0-draft" (instance
    (export "bucket" (type (sub resource)))
    (type (list u8))
  ))
  (import "wasi:keyvalue/atomics@0.2.0-draft" (instance))
  (import "wasi:http/types@0.2.1" (instance))
  (import "wasi:io/streams@0.2.1" (instance))
  (import "acme:shop/orders" (instance))
  (import "plain" (func))
  (import "a-type" (type (sub resource)))
  (core module $m)
  (export "m" (core module $m))
)
"""

MODULE = """
(module
  (import "env" "f" (func (param i32)))
  (import "env" "t" (table 1 10 funcref))
  (import "env" "m" (memory 1 2))
  (import "env" "g" (global (mut i64)))
  (export "again" (func 0))
  (export "g" (global 0))
)
"""


def test_a_component_shows_its_imports_and_exports() -> None:
    read = binaries.read(wat.assemble(COMPONENT))

    assert read.abi is Abi.COMPONENT
    assert read.imports[0] == Name("wasi:keyvalue/store@0.2.0-draft", "instance")
    assert read.imports[-2:] == (Name("plain", "func"), Name("a-type", "type"))
    assert read.exports == (Name("m", "module"),)


def test_a_component_needs_links_for_what_no_host_answers_itself() -> None:
    assert binaries.read(wat.assemble(COMPONENT)).needs == (
        Needed("acme", "shop", ("orders",)),
        Needed("wasi", "keyvalue", ("atomics", "store")),
    )


HANDLER = """
(component
  (instance $nothing)
  (export "wasi:http/incoming-handler@0.2.1" (instance $nothing))
  (export "acme:shop/orders@1.0.0" (instance $nothing))
  (export "acme:shop/types@1.0.0" (instance $nothing))
  (export "wasi:cli/run@0.2.1" (instance $nothing))
)
"""


def test_a_component_is_called_by_links_for_what_it_exports() -> None:
    assert binaries.read(wat.assemble(HANDLER)).needs == (
        Needed("acme", "shop", ("orders",), is_target=True),
        Needed("wasi", "http", ("incoming-handler",), is_target=True),
    )


def test_a_module_shows_its_imports_and_exports() -> None:
    read = binaries.read(wat.assemble(MODULE))

    assert read.abi is Abi.MODULE
    assert read.imports == (
        Name("env.f", "func"),
        Name("env.t", "table"),
        Name("env.m", "memory"),
        Name("env.g", "global"),
    )
    assert read.exports == (Name("again", "func"), Name("g", "global"))
    assert read.needs == ()


@pytest.mark.parametrize(
    ("name", "abi"), [("echo", Abi.WAPC), ("echo_wasmbus", Abi.WAPC), ("wasi", Abi.WAPC)]
)
def test_an_actor_is_told_by_what_it_imports(name: str, abi: Abi) -> None:
    assert binaries.read(wat.actor(name)).abi is abi


def test_a_program_for_wasi_is_no_actor() -> None:
    module = '(module (import "wasi_snapshot_preview1" "fd_write" (func)) (func (export "_start")))'

    assert binaries.read(wat.assemble(module)).abi is Abi.WASI


def test_an_actor_needs_links_for_the_contracts_that_its_data_mentions() -> None:
    module = """
    (module
      (import "wapc" "__host_call" (func))
      (memory 1)
      (data (i32.const 0) "\\00wasmcloud:keyvalue\\00wasmcloud:builtin:logging\\00KeyValue.Get")
    )
    """

    assert binaries.read(wat.assemble(module)).needs == (Needed("wasmcloud", "keyvalue", ()),)


def test_the_http_server_calls_an_actor_by_its_link() -> None:
    assert binaries.contract_needs(["wasmcloud:httpserver"]) == (
        Needed("wasmcloud", "httpserver", (), is_target=True),
    )


def test_custom_sections_are_named_with_their_size() -> None:
    wasm = sections.append(wat.assemble("(module)"), "producers", b"12345")

    assert binaries.read(wasm).custom == (("producers", 5),)


@pytest.mark.parametrize("text", [COMPONENT, MODULE], ids=["component", "module"])
def test_a_binary_that_is_cut_anywhere_is_a_typed_error_or_a_shorter_one(text: str) -> None:
    wasm = wat.assemble(text)

    for length in range(len(wasm)):
        try:
            binaries.read(wasm[:length])
        except errors.InvalidRequest:
            continue


@given(st.sampled_from([COMPONENT, MODULE]), st.data())
def test_a_binary_with_any_byte_changed_never_breaks_the_reader(
    text: str, data: st.DataObject
) -> None:
    wasm = bytearray(wat.assemble(text))
    wasm[data.draw(st.integers(0, len(wasm) - 1))] = data.draw(st.integers(0, 255))

    try:
        binaries.read(bytes(wasm))
    except errors.InvalidRequest:
        return


@pytest.mark.parametrize("content", [b"", b"\0asm", b"#!/bin/sh", b"\0asm\x01\0\0\0\x02\x01\xff"])
def test_rubbish_is_no_binary(content: bytes) -> None:
    with pytest.raises(errors.InvalidRequest):
        binaries.read(content)
