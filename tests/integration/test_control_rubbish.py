"""Whatever arrives on a control subject: a clear answer, nothing lost, and the host goes on."""

import asyncio
import json
from typing import Any

import pytest

from lattice import errors, limits
from lattice.wire import control
from tests.support.cluster import Cluster, LocalHost

SUBJECTS = (
    "host ping",
    "host get HOST",
    "host dance HOST",
    "component auction",
    "component scale HOST",
    "component update HOST",
    "provider auction",
    "provider start HOST",
    "provider stop HOST",
    "link get",
    "link put",
    "link del",
    "claims get",
    "config get rubbish",
    "config put rubbish",
    "config del rubbish",
    "label put HOST",
    "label del HOST",
    "registry put",
)

FIELDS = {
    "annotations",
    "component_id",
    "component_limits",
    "component_ref",
    "config",
    "constraints",
    "count",
    "host_id",
    "interfaces",
    "key",
    "name",
    "new_component_ref",
    "provider_id",
    "provider_ref",
    "source_config",
    "source_id",
    "target",
    "timeout",
    "value",
    "wit_namespace",
    "wit_package",
}

LARGE = limits.MIB - limits.KIB
"""As much as nats-server takes, by its defaults."""

WELL_MADE = {
    "component_id": "ghost",
    "component_ref": "lattice://ghost@sha256:" + "0" * 64,
    "count": 0,
    "provider_id": "ghost",
    "key": "hostcore.arch",
    "source_id": "ghost",
    "target": "ghost",
    "wit_namespace": "a",
    "wit_package": "b",
}


def wrong(value: object) -> bytes:
    """A request in which every field is of the wrong kind."""
    return json.dumps(dict.fromkeys(FIELDS, value)).encode()


def with_one(name: str, value: object) -> bytes:
    """A request that is well made but for one field."""
    return json.dumps(WELL_MADE | {name: value}).encode()


RUBBISH = {
    "nothing": b"",
    "half": b'{"component_id":',
    "a list": b"[]",
    "null": b"null",
    "a number": b"5",
    "text": b'"text"',
    "no UTF-8": b"\xff\xfe{}",
    "half a character": b'{"component_id":"\\ud800","source_id":"\\ud800"}',
    "zeros": b"\0" * 100,
    "msgpack": b"\x82\xa1a\x01\xa1b\x02",
    "deep lists": b"[" * 100_000,
    "deep maps": b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    "deep inside": b'{"component_id":"x","future":' + b"[" * 50_000 + b"]" * 50_000 + b"}",
    "unknown fields": b'{"from_the_future":{"x":[1]}}',
    "numbers": wrong(5),
    "nulls": wrong(None),
    "lists": wrong([[]]),
    "maps": wrong({"a": {"b": 1}}),
    "long texts": wrong("x" * 40_000),
    "not a number": b'{"component_id":"x","count":NaN}',
    "a number without end": b'{"component_id":"x","count":' + b"9" * 10_000 + b"}",
    "blanks": b" " * LARGE,
    "one long text": json.dumps({"component_id": "x" * LARGE})[:LARGE].encode(),
    "a long id": with_one("component_id", "x" * 900_000),
    "a long host id": with_one("host_id", "N" * 900_000),
    "a long reference": with_one("component_ref", "x" * 900_000),
    "long annotations": with_one("annotations", {"x": "y" * 900_000}),
    "many annotations": with_one("annotations", {str(n): "x" for n in range(50_000)}),
    "many configs": with_one("config", ["x"] * 100_000) + b" ",
    "many interfaces": with_one("interfaces", ["x"] * 100_000) + b" ",
    "many link configs": with_one("target_config", ["x"] * 100_000) + b" ",
    "subjects for names": json.dumps(WELL_MADE | {"source_id": ">", "target": "*"}).encode(),
}


@pytest.fixture
async def alpha(cluster: Cluster) -> LocalHost:
    (host,) = await cluster.start_hosts(1, name="alpha", labels={"zone": "a"})
    return host


def check(reply: dict[str, Any]) -> None:
    assert isinstance(reply["success"], bool)
    assert isinstance(reply["message"], str)
    if not reply["success"]:
        assert reply.keys() == {"success", "message", "code"}
        assert reply["code"] in errors.BY_CODE
        assert reply["code"] != "internal"
        assert 0 < len(reply["message"]) <= limits.ERROR_TEXT_CHARS


async def test_rubbish_on_any_subject_gets_a_clear_answer_and_costs_nothing(
    cluster: Cluster, alpha: LocalHost
) -> None:
    await cluster.start_actor("echo", on=alpha, count=3)
    await cluster.start_provider("bird", "lattice+builtin://parrot", on=alpha)
    await cluster.control.put_config("kept", {"a": "b"})
    await cluster.link("echo", "bird", target_config=["kept"])
    links, inventory = await cluster.control.links(), await cluster.control.inventory(alpha.id)

    for subject in SUBJECTS:
        tokens = subject.replace("HOST", alpha.id).split(" ")
        for what, body in RUBBISH.items():
            try:
                reply = await cluster.request(*tokens, body=body)
            except errors.DeadlineExceeded:
                pytest.fail(f"no answer to {what} on {subject}")
            try:
                check(reply)
            except (AssertionError, KeyError) as error:
                pytest.fail(f"{what} on {subject}: {str(reply)[:300]}: {error}")

    for link in await cluster.control.links():
        if link.source_id != "echo":
            await cluster.unlink(link.source_id, f"{link.wit_namespace}:{link.wit_package}")
    now = await cluster.control.inventory(alpha.id)
    assert await cluster.control.links() == links
    assert (now.components, now.providers) == (inventory.components, inventory.providers)
    assert {key for key in now.labels if key.startswith("hostcore.")} == {
        "hostcore.arch",
        "hostcore.os",
        "hostcore.osfamily",
    }
    assert await cluster.control.config("kept") == {"a": "b"}
    assert await cluster.call("echo", payload=b"still here") == b"still here"


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b"\xff", b"[" * 100_000, b'{"timeout":-1}', b'{"timeout":"soon"}']
)
async def test_rubbish_does_not_stop_a_host(
    cluster: Cluster, alpha: LocalHost, body: bytes
) -> None:
    reply = await cluster.request("host", "stop", alpha.id, body=body)
    check(reply)
    assert reply["message"].startswith("failed to deserialize stop command")
    assert alpha.running
    assert not alpha.host.draining


@pytest.mark.parametrize(
    "message",
    [b"", b"x", b"\xff", b"[" * 10_000, b'{"type":"com.wasmcloud.lattice.from_the_future"}'],
)
async def test_foreign_events_and_management_messages_do_no_harm(
    cluster: Cluster, alpha: LocalHost, message: bytes
) -> None:
    await cluster.start_provider("bird", "lattice+process://parrot", on=alpha)
    await cluster.link("tester", "bird")
    for subject in (
        f"wasmbus.evt.{cluster.lattice}.from_the_future",
        f"lattice.evt.{cluster.lattice}.from_the_future",
        f"lattice.beat.{cluster.lattice}.{alpha.id}",
        f"wasmbus.rpc.{cluster.lattice}.bird.linkdefs.put",
        f"wasmbus.rpc.{cluster.lattice}.bird.linkdefs.put.{alpha.id}",
        f"wasmbus.rpc.{cluster.lattice}.bird.linkdefs.del.{alpha.id}",
        f"wasmbus.rpc.{cluster.lattice}.bird.config.update.{alpha.id}",
        f"wasmbus.rpc.{cluster.lattice}.bird.default.shutdown",
    ):
        await cluster.bus.publish(subject, message)
    assert (await cluster.request("host", "ping"))["success"]
    assert await cluster.call("bird", "Parrot.Repeat", b"hello") == b"hello"


async def test_requests_without_a_reply_address_are_carried_out(
    cluster: Cluster, alpha: LocalHost
) -> None:
    for noun, verb, body in (
        ("config", "put.quiet", b'{"a":"b"}'),
        ("registry", "put", b'{"example.com":{"token":"x"}}'),
        ("component", f"scale.{alpha.id}", b"rubbish"),
    ):
        await cluster.bus.publish(f"wasmbus.ctl.v1.{cluster.lattice}.{noun}.{verb}", body)
    await cluster.event("config_set", config_name="quiet")
    assert await cluster.control.config("quiet") == {"a": "b"}


async def test_two_hundred_links_put_at_once_through_several_hosts_all_survive(
    cluster: Cluster,
) -> None:
    await cluster.start_hosts(3)
    put = [
        control.Link(
            source_id="source",
            target=f"target-{number}",
            name=f"link-{number}",
            wit_namespace="wasi",
            wit_package="keyvalue",
        )
        for number in range(200)
    ]

    await asyncio.gather(*map(cluster.control.put_link, put))

    assert await cluster.control.links() == sorted(put, key=lambda link: link.order)
    assert cluster.seen("linkdef_set", source_id="source") == 200
