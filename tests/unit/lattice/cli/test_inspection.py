"""Looking into files, without a lattice."""

import hashlib
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lattice import errors
from lattice.cli import inspection, main
from lattice.identity import claims as identity
from lattice.identity import keys
from lattice.identity.claims import Claims
from lattice.identity.keys import Kind
from tests.support import components, wat


def signed(wasm: bytes) -> bytes:
    subject = keys.parse_seed(keys.new_seed(Kind.COMPONENT)).public_key
    claims = Claims(kind="component", subject=subject, name="echo", revision=7)
    return identity.sign_component(wasm, claims, keys.new_seed(Kind.ACCOUNT))


def test_a_file_is_shown_in_text_and_in_json(tmp_path: Path) -> None:
    file = tmp_path / "echo.wasm"
    file.write_bytes(wat.actor("echo"))

    text = CliRunner().invoke(main.build(), ["inspect", str(file)])
    shown = json.loads(
        CliRunner().invoke(main.build(), ["inspect", str(file), "-o", "json"]).output
    )

    assert "waPC" in text.output
    assert "not signed" in text.output
    assert shown["success"] is True
    assert shown["digest"] == f"sha256:{hashlib.sha256(wat.actor('echo')).hexdigest()}"
    assert shown["signed"] is False
    assert {"name": "__guest_call", "kind": "func"} in shown["exports"]


def test_the_links_of_a_component_are_shown_as_they_are_put() -> None:
    handler = inspection.look("site", components.guest("http_handler"))
    user = inspection.look("user", components.guest("capabilities"))

    assert [line for line in map(str, inspection.text(handler)) if "link put" in line] == [
        "  lattice link put SOURCE ID wasi http --interface incoming-handler"
    ]
    assert inspection.fields(handler)["needs_links"] == [
        {
            "wit_namespace": "wasi",
            "wit_package": "http",
            "interfaces": ["incoming-handler"],
            "role": "target",
        }
    ]
    lines = [line for line in map(str, inspection.text(user)) if "link put" in line]
    blobs, keys, sending, watching, handling = lines
    assert "ID TARGET wasi blobstore --interface blobstore" in blobs
    assert "ID TARGET wasi keyvalue --interface atomics --interface batch --interface store" in keys
    assert "ID TARGET wasmcloud messaging --interface consumer" in sending
    assert "SOURCE ID wasi keyvalue --interface watcher" in watching
    assert "SOURCE ID wasmcloud messaging --interface handler" in handling


def test_who_signed_it_is_shown(tmp_path: Path) -> None:
    inspected = inspection.look("echo", signed(wat.actor("echo")))

    shown = inspection.fields(inspected)
    assert shown["signed"] is True
    assert shown["claims"]["name"] == "echo"
    assert shown["claims"]["revision"] == 7
    assert any("issuer" in str(line) for line in inspection.text(inspected))


def test_a_module_that_was_changed_after_it_was_signed_says_so() -> None:
    token = identity.embedded(signed(wat.actor("echo")))
    assert token is not None
    inspected = inspection.look("forged", identity.embed(wat.actor("spin"), token))

    assert inspection.fields(inspected)["claims"] is None
    assert inspection.fields(inspected)["claims_fault"]
    assert any("not to be trusted" in str(line) for line in inspection.text(inspected))


def test_a_digest_that_it_does_not_have_is_denied(tmp_path: Path) -> None:
    file = tmp_path / "echo.wasm"
    file.write_bytes(wat.actor("echo"))

    result = CliRunner().invoke(main.build(), ["inspect", str(file), "-d", "00", "-o", "json"])

    assert result.exit_code == 6


def test_the_token_alone_is_printed_when_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "echo.wasm"
    file.write_bytes(signed(wat.actor("echo")))

    result = CliRunner().invoke(main.build(), ["inspect", str(file), "--jwt-only"])

    assert result.output.strip() == identity.embedded(file.read_bytes())


@pytest.mark.parametrize("content", [b"", b"#!/bin/sh\n", b"\0asm\x01\0\0\0\xff"])
def test_what_is_nothing_to_run_is_refused(content: bytes) -> None:
    with pytest.raises(errors.InvalidRequest):
        inspection.look("x", content)
