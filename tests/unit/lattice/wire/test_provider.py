"""The provider handshake, ours and wasmCloud 1.9.2's."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lattice import errors
from lattice.wire import provider
from lattice.wire.control import Link
from lattice.wire.provider import Health, HostData, ResolvedLink, Shutdown

GOLDEN = Path(__file__).parent / "golden"

REQUIRED = {
    "host_id": "NHOST",
    "lattice_rpc_prefix": "default",
    "lattice_rpc_url": "nats://127.0.0.1:4222",
    "provider_key": "kv",
    "instance_id": "1",
}
RESOLVED = ResolvedLink(
    source_id="counter",
    target="kv",
    wit_namespace="wasi",
    wit_package="keyvalue",
    interfaces=["store"],
    source_config={"a": "1"},
    target_config={"b": "2"},
)


def line(**changes: Any) -> bytes:
    fields = {name: value for name, value in (REQUIRED | changes).items() if value != "absent"}
    return base64.b64encode(json.dumps(fields).encode()) + b"\r\n"


def test_a_line_is_read_as_it_was_written() -> None:
    data = HostData(
        **REQUIRED, link_definitions=[RESOLVED], config={"k": "v"}, secrets={"pw": {"kind": "x"}}
    )

    written = data.to_line()

    assert written.endswith(b"\r\n")
    assert written.count(b"\n") == 1
    assert HostData.from_line(written) == data
    assert HostData.from_line(written.strip()) == data


def test_what_we_write_has_the_fields_that_1x_providers_need() -> None:
    fields = json.loads(base64.b64decode(HostData(**REQUIRED).to_line()))

    assert fields["env_values"] == {}
    assert fields["link_definitions"] == []
    assert fields["otel_config"]["enable_observability"] is False
    assert fields["default_rpc_timeout_ms"] == 2000


def test_a_1x_hosts_line_is_read_nulls_and_unknown_fields_included() -> None:
    golden = b"".join((GOLDEN / "host_data_1x.txt").read_bytes().split()) + b"\r\n"

    data = HostData.from_line(golden)

    assert (data.provider_key, data.lattice_rpc_prefix) == ("kvredis", "default")
    assert (data.log_level, data.default_rpc_timeout_ms) == ("info", 2000)
    assert data.secrets == {"pw": {"kind": "String", "value": "geheim"}}
    (link,) = data.link_definitions
    assert link.target_config == {"URL": "redis://127.0.0.1:6379"}
    assert (link.source_secrets, link.target_secrets) == (None, [1, 2, 255])


@pytest.mark.parametrize("name", REQUIRED)
def test_a_missing_field_is_named(name: str) -> None:
    with pytest.raises(errors.InvalidRequest, match=name):
        HostData.from_line(line(**{name: "absent"}))


@pytest.mark.parametrize(
    "wrong",
    [
        b"",
        b"\r\n",
        b"not base64!",
        b"abc",
        base64.b64encode(b"no json"),
        base64.b64encode(b"[]"),
        base64.b64encode(b"\xff"),
        base64.b64encode(b"[" * 100_000),
        "ü".encode(),
    ],
    ids=lambda wrong: repr(wrong[:12]),
)
def test_what_is_no_handshake_is_refused(wrong: bytes) -> None:
    with pytest.raises(errors.InvalidRequest, match="not a host's handshake"):
        HostData.from_line(wrong)


def test_a_refusal_repeats_no_secret() -> None:
    wrong = line(
        host_id="absent", lattice_rpc_user_seed="geheim", secrets=["geheim"], config={"pw": 5}
    )

    with pytest.raises(errors.InvalidRequest) as caught:
        HostData.from_line(wrong)

    assert "geheim" not in caught.value.text
    assert len(caught.value.text) < 200


@given(st.binary())
def test_no_bytes_do_worse_than_being_refused(data: bytes) -> None:
    for candidate in (data, base64.b64encode(data)):
        with pytest.raises(errors.InvalidRequest):
            HostData.from_line(candidate)


def test_a_link_is_resolved_to_the_values_of_its_configs() -> None:
    link = Link(
        source_id="counter",
        target="kv",
        wit_namespace="wasi",
        wit_package="keyvalue",
        interfaces=["store"],
        source_config=["one"],
        target_config=["two"],
    )

    assert provider.resolve(link, {"a": "1"}, {"b": "2"}) == RESOLVED


def test_definitions_of_one_link_have_one_key_whatever_their_configs() -> None:
    changed = RESOLVED.model_copy(update={"target_config": {}, "interfaces": []})

    assert changed.key == RESOLVED.key
    for name in ("source_id", "target", "name", "wit_namespace", "wit_package"):
        assert RESOLVED.model_copy(update={name: "other"}).key != RESOLVED.key


def test_a_health_answer_may_lack_its_message() -> None:
    assert Health.model_validate_json(b'{"healthy":true}') == Health(healthy=True)
    assert Health.model_validate_json(b'{"healthy":false,"message":null}') == Health(healthy=False)
    assert Health(healthy=True).to_json() == {"healthy": True}


def test_a_shutdown_names_its_host_and_is_answered_in_wasmclouds_words() -> None:
    assert Shutdown(host_id="NHOST").to_json() == {"host_id": "NHOST"}
    assert provider.SHUTDOWN_REPLY == b"shutting down"
