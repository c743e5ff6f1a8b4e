"""Payloads of calls: where they come from, and how answers are read."""

import io
import sys
from pathlib import Path

import pytest

from lattice import errors, limits
from lattice.cli import calls
from lattice.cli.calls import Decoding
from lattice.wire import codec
from lattice.wire.invocation import Reply, Usage


def test_without_a_payload_nothing_is_sent() -> None:
    assert calls.read_payload(text=None, file=None, json_text=None) == b""


def test_json_is_sent_as_msgpack() -> None:
    payload = calls.read_payload(text=None, file=None, json_text='{"key": "a", "value": 1}')

    assert codec.unpack(payload) == {"key": "a", "value": 1}


@pytest.mark.parametrize("text", ["{", str(2**70), "[" * 100_000], ids=["cut", "huge", "deep"])
def test_json_that_can_not_be_sent_is_refused(text: str) -> None:
    with pytest.raises(errors.InvalidRequest, match="--json"):
        calls.read_payload(text=None, file=None, json_text=text)


def test_a_file_is_sent_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "payload").write_bytes(b"\x00\xff")

    payload = calls.read_payload(text=None, file=str(tmp_path / "payload"), json_text=None)

    assert payload == b"\x00\xff"


def test_a_dash_is_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"piped")))

    assert calls.read_payload(text=None, file="-", json_text=None) == b"piped"


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(errors.InvalidRequest, match="missing"):
        calls.read_payload(text=None, file=str(tmp_path / "missing"), json_text=None)


def test_a_file_over_the_limit_is_not_read_whole() -> None:
    with pytest.raises(errors.PayloadTooLarge, match=str(limits.PAYLOAD_BYTES_MAX)):
        calls.read_payload(text=None, file="/dev/zero", json_text=None)


def test_two_payloads_are_one_too_many() -> None:
    with pytest.raises(errors.InvalidRequest, match="only one of"):
        calls.read_payload(text="a", file=None, json_text="1")


@pytest.mark.parametrize(
    ("payload", "decoding", "text", "encoding"),
    [
        (b"hi\n", Decoding.AUTO, "hi\n", Decoding.TEXT),
        (b"\xff\x01", Decoding.AUTO, "ff01", Decoding.HEX),
        (b"\x1b[2J", Decoding.AUTO, "1b5b324a", Decoding.HEX),
        (b"hi", Decoding.HEX, "6869", Decoding.HEX),
        (b'{"a":1}', Decoding.JSON, '{\n  "a": 1\n}', Decoding.JSON),
        (b"\x81\xa1a\x01", Decoding.MSGPACK, '{\n  "a": 1\n}', Decoding.MSGPACK),
        (b"\xc1\x81\xa1a\x01", Decoding.MSGPACK, '{\n  "a": 1\n}', Decoding.MSGPACK),
        (b"", Decoding.MSGPACK, "", Decoding.MSGPACK),
    ],
    ids=["text", "bytes", "escape sequence", "hex", "json", "msgpack", "newer msgpack", "nothing"],
)
def test_an_answer_is_read_as_it_was_asked_for(
    payload: bytes, decoding: Decoding, text: str, encoding: Decoding
) -> None:
    decoded = calls.decoded(payload, decoding)

    assert (decoded.text, decoded.encoding) == (text, encoding)


@pytest.mark.parametrize("decoding", [Decoding.TEXT, Decoding.JSON, Decoding.MSGPACK])
def test_an_answer_that_is_something_else_is_an_error(decoding: Decoding) -> None:
    with pytest.raises(errors.InvalidRequest):
        calls.decoded(b"\xc1\xc1", decoding)


def test_the_json_form_has_the_payload_its_encoding_and_what_it_cost() -> None:
    reply = Reply(b"hi", Usage(cpu_us=12, memory_bytes=65536))

    result = calls.call_result(reply, Decoding.AUTO, raw=False)

    assert result.fields == {
        "payload": "hi",
        "encoding": "text",
        "usage": {
            "cpu_us": 12,
            "fuel": None,
            "memory_bytes": 65536,
            "host_calls": 0,
            "queue_us": 0,
        },
    }


def test_bytes_shown_in_hex_come_with_a_note_on_how_to_read_them() -> None:
    result = calls.call_result(Reply(b"\xff"), Decoding.AUTO, raw=False)

    assert result.text == ["ff"]
    assert "--decode msgpack" in result.note
