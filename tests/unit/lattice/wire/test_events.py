import json
import uuid
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lattice.wire import events


def test_an_event_is_a_cloud_event_in_wasmclouds_words() -> None:
    before = datetime.now(UTC)

    event = json.loads(events.encode("host_started", {"labels": {}}, source="NHOST"))

    uuid.UUID(event.pop("id"))
    time = event.pop("time")
    assert time.endswith("Z")
    assert before <= datetime.fromisoformat(time) <= datetime.now(UTC)
    assert event == {
        "specversion": "1.0",
        "type": "com.wasmcloud.lattice.host_started",
        "source": "NHOST",
        "datacontenttype": "application/json",
        "data": {"labels": {}},
    }


def test_an_event_is_taken_apart_as_it_was_made() -> None:
    message = events.encode("config_set", {"config_name": "ü"}, source="NHOST")

    assert events.decode(message) == ("config_set", "NHOST", {"config_name": "ü"})


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"null",
        b"[]",
        b'"x"',
        b"5",
        b"{}",
        b"\xff",
        b"[" * 100_000,
        b'{"type":5,"source":"N","data":{}}',
        b'{"type":"x","source":5,"data":{}}',
        b'{"type":"x","source":"N","data":[]}',
        b'{"type":"x","source":"N","data":' + b"[" * 100_000,
        b'{"type":"x","source":"N","data":{"a":"\\ud800"}}',
        b'{"type":"x","source":"N","data":{"a":' + b"9" * 10_000 + b"}}x",
    ],
    ids=lambda message: repr(message[:40]),
)
def test_what_is_no_event_is_passed_over(message: bytes) -> None:
    assert events.decode(message) is None


@given(st.binary() | st.recursive(st.none() | st.text(), st.lists, max_leaves=5).map(json.dumps))
def test_no_bytes_do_harm(message: bytes | str) -> None:
    assert events.decode(message.encode() if isinstance(message, str) else message) is None
