"""The control interface as wasmCloud 1.x's clients see it: subjects, JSON, order of events."""

import asyncio
import json
import re
from typing import Any

import pytest

from lattice import errors, subjects
from lattice.bus import Message
from lattice.control.client import Event
from lattice.wire import control
from tests.support.cluster import Cluster, Gate, LocalHost
from tests.support.eventually import eventually
from tests.support.wat import actor as assembled

NOBODY = "N" + "A" * 55


@pytest.fixture
async def alpha(cluster: Cluster) -> LocalHost:
    (host,) = await cluster.start_hosts(1, name="alpha", labels={"zone": "a"})
    return host


def labels() -> dict[str, str]:
    return {
        "hostcore.arch": "x86_64",
        "hostcore.os": "linux",
        "hostcore.osfamily": "unix",
        "zone": "a",
    }


def runs(host: LocalHost, actor_id: str) -> str:
    """The reference of what runs on a host under an id."""
    component = host.host._actors.describe(actor_id)
    assert component is not None
    return component.image_ref


def with_known(facts: dict[str, Any], **expected: Any) -> dict[str, Any]:
    """The expectation, with what differs from run to run taken from the facts themselves."""
    varying = ("uptime_seconds", "uptime_human", "version", "labels")
    return expected | {key: facts[key] for key in varying if key in facts}


async def test_host_ping_answers_as_wasmcloud_does(cluster: Cluster, alpha: LocalHost) -> None:
    reply = await cluster.request("host", "ping")
    url = cluster.nats.url
    response = reply["response"]
    assert reply == {"success": True, "message": "", "response": response}
    assert response == with_known(
        response,
        id=alpha.id,
        friendly_name="alpha",
        lattice="default",
        rpc_host=url,
        ctl_host=url,
    )
    assert response["labels"].keys() == labels().keys()
    assert response["labels"]["zone"] == "a"
    assert isinstance(response["uptime_seconds"], int)
    assert len(alpha.id) == 56


async def test_host_get_lists_what_runs(cluster: Cluster, alpha: LocalHost) -> None:
    await cluster.start_actor(
        "echo",
        on=alpha,
        count=3,
        annotations={"wasmcloud.dev/managed-by": "wadm"},
        component_limits={"max_memory_limit": "1000000"},
    )
    await cluster.start_provider("bird", "lattice+builtin://parrot", on=alpha)
    reply = await cluster.request("host", "get", alpha.id)
    response = reply["response"]
    assert response == with_known(
        response,
        components=[
            {
                "id": "echo",
                "image_ref": await cluster.upload("echo"),
                "annotations": {"wasmcloud.dev/managed-by": "wadm"},
                "revision": 0,
                "max_instances": 3,
                "limits": {"max_memory_limit": "1000000"},
            }
        ],
        providers=[
            {
                "id": "bird",
                "image_ref": "lattice+builtin://parrot",
                "annotations": {},
                "revision": 0,
            }
        ],
        host_id=alpha.id,
        friendly_name="alpha",
    )


async def test_a_heartbeat_is_the_inventory(cluster: Cluster) -> None:
    (host,) = await cluster.start_hosts(1, heartbeat_s=0.05)
    await cluster.start_actor("echo", on=host)
    seen = cluster.seen("host_heartbeat")
    beat = await cluster.event("host_heartbeat", count=seen + 2)
    inventory = (await cluster.request("host", "get", host.id))["response"]
    assert beat.data == with_known(beat.data, **inventory)
    assert beat.source == host.id


@pytest.mark.parametrize(
    ("tokens", "body", "message"),
    [
        (("host", "ping"), b"{not json", None),
        (("host", "stop", "HOST"), b"{", "failed to deserialize stop command"),
        (("component", "scale", "HOST"), b"", "failed to deserialize component scale command"),
        (("component", "scale", "HOST"), b"[]", "failed to deserialize component scale command"),
        (
            ("component", "scale", "HOST"),
            b'{"component_id":"echo","count":-1}',
            "failed to deserialize component scale command: count",
        ),
        (("provider", "start", "HOST"), b"{}", "failed to deserialize provider start command"),
        (("provider", "stop", "HOST"), b"{}", "failed to deserialize provider stop command"),
        (("component", "auction"), b"x", "failed to deserialize component auction command"),
        (("provider", "auction"), b"x", "failed to deserialize provider auction command"),
        (("link", "put"), b"{}", "failed to deserialize wrpc link definition"),
        (("link", "del"), b"\xff", "failed to deserialize wrpc link definition"),
        (("config", "put", "x"), b"[1]", "config data should be a map of string -> string"),
        (("config", "put", "x"), b'{"a":1}', "config data should be a map of string -> string"),
        (("host", "dance", "HOST"), b"", "unsupported subject"),
        (("component", "start", "HOST"), b"{}", "unsupported subject"),
        (("link", "twist"), b"{}", "unsupported subject"),
        (("config", "get", "a", "b"), b"", "unsupported subject"),
    ],
)
async def test_what_cannot_be_read_is_refused_in_wasmclouds_words(
    cluster: Cluster, alpha: LocalHost, tokens: tuple[str, ...], body: bytes, message: str | None
) -> None:
    addressed = tuple(alpha.id if token == "HOST" else token for token in tokens)
    reply = await cluster.request(*addressed, body=body)
    if message is None:
        assert reply["success"]
        return
    assert reply["message"].startswith(message)
    assert reply == {"success": False, "message": reply["message"], "code": "invalid_request"}
    assert (await cluster.request("host", "ping"))["success"], "the host goes on"


@pytest.mark.parametrize(
    ("tokens", "body"),
    [
        (("component", "scale"), {"component_id": "echo"}),
        (("provider", "start"), {"provider_id": "p", "provider_ref": "lattice+builtin://parrot"}),
        (("provider", "stop"), {"provider_id": "p"}),
        (("host", "stop"), {}),
    ],
    ids=["scale", "provider start", "provider stop", "host stop"],
)
async def test_a_command_for_another_host_is_refused(
    cluster: Cluster, alpha: LocalHost, tokens: tuple[str, ...], body: dict[str, Any]
) -> None:
    reply = await cluster.request(*tokens, alpha.id, body=body | {"host_id": NOBODY})
    assert reply["message"] == f"invalid host_id [{NOBODY}]"
    with pytest.raises(errors.NotRunning):
        await cluster.request(*tokens, NOBODY, body=body)


async def test_every_host_answers_a_ping_and_one_answers_for_the_lattice(cluster: Cluster) -> None:
    hosts = await cluster.start_hosts(3)
    assert {host.id for host in await cluster.control.hosts(wait_s=0.2)} == {h.id for h in hosts}
    for tokens in (("link", "get"), ("claims", "get"), ("config", "get", "x")):
        subject = subjects.control(cluster.lattice, *tokens)
        assert len(await cluster.bus.request_many(subject, timeout_s=0.1)) == 1


async def test_scaling_is_acknowledged_before_its_event(cluster: Cluster, alpha: LocalHost) -> None:
    reference = await cluster.upload("echo")
    order: list[str] = []
    command = {"component_id": "echo", "component_ref": reference, "count": 2}

    async def note(_: object) -> None:
        order.append("event")

    subscription = await cluster.bus.subscribe(
        subjects.event(cluster.lattice, "component_scaled"), note
    )
    reply = await cluster.request("component", "scale", alpha.id, body=command)
    order.append("reply")
    assert reply == {"success": True, "message": ""}
    event = await cluster.event("component_scaled")
    await eventually(lambda: len(order) == 2)
    await subscription.unsubscribe()
    assert order == ["reply", "event"]
    assert event.data == {
        "annotations": {},
        "host_id": alpha.id,
        "image_ref": reference,
        "max_instances": 2,
        "component_id": "echo",
    }


async def test_an_event_is_a_cloud_event_of_the_host(cluster: Cluster, alpha: LocalHost) -> None:
    subject = subjects.event(cluster.lattice, "config_set")
    received: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()

    async def take(message: Any) -> None:
        received.set_result(json.loads(message.data))

    subscription = await cluster.bus.subscribe(subject, take)
    await cluster.control.put_config("x", {"a": "b"})
    event = await received
    await subscription.unsubscribe()
    assert event == {
        "specversion": "1.0",
        "id": event["id"],
        "type": "com.wasmcloud.lattice.config_set",
        "source": alpha.id,
        "datacontenttype": "application/json",
        "time": event["time"],
        "data": {"config_name": "x"},
    }
    assert event["time"].endswith("Z")


async def test_scaling_what_does_not_run_to_nothing_is_no_error(
    cluster: Cluster, alpha: LocalHost
) -> None:
    event = await cluster.scale("ghost", on=alpha, count=0)
    assert (event.name, event.data["max_instances"]) == ("component_scaled", 0)
    assert event.data["image_ref"] == ""


async def test_scaling_to_nothing_stops_an_actor(cluster: Cluster, alpha: LocalHost) -> None:
    started = await cluster.start_actor("echo", on=alpha)
    event = await cluster.scale("echo", on=alpha, count=0)
    assert (event.data["max_instances"], event.data["image_ref"]) == (0, started.data["image_ref"])
    assert (await cluster.control.inventory(alpha.id)).components == []
    with pytest.raises(errors.NotRunning):
        await cluster.call("echo")


@pytest.mark.parametrize("allow_update", [False, True], ids=["kept", "updated"])
async def test_scaling_with_another_image_is_remarked_upon(
    cluster: Cluster, alpha: LocalHost, allow_update: bool
) -> None:
    old = (await cluster.start_actor("actor", module="echo", on=alpha)).data["image_ref"]
    new = await cluster.upload("fails")
    command = {
        "component_id": "actor",
        "component_ref": new,
        "count": 7,
        "allow_update": allow_update,
    }
    reply = await cluster.request("component", "scale", alpha.id, body=command)
    event = await cluster.event("component_scaled", component_id="actor", count=2)
    if allow_update:
        assert reply["message"] == (
            "Requested to scale existing component, with a changed image reference:"
            f" {old} != {new}. The component will be scaled, and the image reference will be"
            " updated afterwards."
        )
        with pytest.raises(errors.ActorError, match="no such account"):
            await cluster.call("actor")
    else:
        assert reply["message"] == (
            "Requested to scale existing component to a different image reference:"
            f" {old} != {new}. The component will be scaled but the image reference will not be"
            " updated. If you meant to update this component to a new image ref, use the update"
            " command."
        )
        assert await cluster.call("actor", payload=b"hi") == b"hi"
    assert event.data["image_ref"] == (new if allow_update else old)
    (component,) = (await cluster.control.inventory(alpha.id)).components
    assert (component.max_instances, component.image_ref) == (7, event.data["image_ref"])


async def test_an_update_that_fails_leaves_the_actor_as_it_was(
    cluster: Cluster, alpha: LocalHost
) -> None:
    await cluster.start_actor("echo", on=alpha, count=3)
    reference = await cluster.upload("broken", b"no module")
    event = await cluster.scale(
        "echo", on=alpha, component_ref=reference, count=9, allow_update=True
    )
    assert event.name == "component_scale_failed"
    (component,) = (await cluster.control.inventory(alpha.id)).components
    assert component.max_instances == 3
    assert await cluster.call("echo", payload=b"hi") == b"hi"


async def test_an_update_under_load_fails_no_call(cluster: Cluster, alpha: LocalHost) -> None:
    await cluster.start_actor("actor", module="echo", on=alpha, count=4)
    other = await cluster.upload("echo_wasmbus")
    stop = asyncio.Event()

    async def load() -> int:
        calls = 0
        while not stop.is_set():
            assert await cluster.call("actor", payload=b"hi") == b"hi"
            calls += 1
        return calls

    load_tasks = [asyncio.create_task(load()) for _ in range(8)]
    for reference in (other, await cluster.upload("echo"), other):
        event = await cluster.scale(
            "actor", on=alpha, component_ref=reference, count=4, allow_update=True
        )
        assert event.name == "component_scaled"
    stop.set()
    assert sum(await asyncio.gather(*load_tasks)) > 0


async def test_an_update_command_under_load_fails_no_call(
    cluster: Cluster, alpha: LocalHost
) -> None:
    await cluster.start_actor("actor", module="echo", on=alpha, count=4)
    stop = asyncio.Event()

    async def load() -> int:
        calls = 0
        while not stop.is_set():
            assert await cluster.call("actor", payload=b"hi") == b"hi"
            calls += 1
        return calls

    load_tasks = [asyncio.create_task(load()) for _ in range(8)]
    references = [await cluster.upload("echo_wasmbus"), await cluster.upload("echo")]
    for round_number in range(4):
        new = references[round_number % 2]
        remark = await cluster.control.update_component(
            control.UpdateComponent(component_id="actor", host_id=alpha.id, new_component_ref=new)
        )
        assert remark.startswith("component actor updating from lattice://")
        await eventually(lambda: runs(alpha, "actor") == new)  # noqa: B023 - awaited here
    stop.set()
    assert sum(await asyncio.gather(*load_tasks)) > 0


async def test_a_call_that_runs_during_an_update_ends_on_the_old_module(
    cluster: Cluster, alpha: LocalHost
) -> None:
    gate = Gate()
    await cluster.serve("gate", gate)
    await cluster.start_actor("relay", on=alpha)
    await cluster.link("relay", "gate")
    running = asyncio.create_task(cluster.call("relay", payload=b"old"))
    await eventually(lambda: gate.waiting == 1)
    new = await cluster.upload("echo")
    await cluster.control.update_component(
        control.UpdateComponent(component_id="relay", host_id=alpha.id, new_component_ref=new)
    )
    await cluster.event("component_scaled", component_id="relay", image_ref=new)
    assert await cluster.call("relay", payload=b"new") == b"new"
    assert gate.calls.total() == 1, "the new module does not call the gate"
    gate.open()
    assert await running == b"old"


async def test_an_update_command_that_fails_says_so_and_changes_nothing(
    cluster: Cluster, alpha: LocalHost
) -> None:
    old = (await cluster.start_actor("echo", on=alpha, count=3)).data["image_ref"]
    new = await cluster.upload("broken", b"no module")
    await cluster.control.update_component(
        control.UpdateComponent(component_id="echo", host_id=alpha.id, new_component_ref=new)
    )
    failed = await cluster.event("component_scale_failed", image_ref=new)
    assert failed.data["code"] == "invalid_request"
    (component,) = (await cluster.control.inventory(alpha.id)).components
    assert (component.image_ref, component.max_instances) == (old, 3)
    assert await cluster.call("echo", payload=b"hi") == b"hi"


async def test_annotations_stay_when_somebody_scales_by_hand(
    cluster: Cluster, alpha: LocalHost
) -> None:
    theirs = {"wasmcloud.dev/managed-by": "wadm"}
    await cluster.start_actor("echo", on=alpha, annotations=theirs)
    assert (await cluster.scale("echo", on=alpha, count=2)).data["annotations"] == theirs
    (component,) = (await cluster.control.inventory(alpha.id)).components
    assert component.annotations == theirs
    changed = await cluster.scale("echo", on=alpha, count=2, annotations={"a": "b"})
    assert changed.data["annotations"] == {"a": "b"}
    # Whoever stops it need not know them either.
    stopped = await cluster.scale("echo", on=alpha, count=0)
    assert (stopped.data["max_instances"], stopped.data["annotations"]) == (0, {"a": "b"})


async def test_labels_change_what_a_host_says_and_bids_for(
    cluster: Cluster, alpha: LocalHost
) -> None:
    assert await cluster.control.auction_component("x", "y", {"tier": "edge"}) is None
    await cluster.control.put_label(alpha.id, "tier", "edge")
    changed = await cluster.event("labels_changed", host_id=alpha.id)
    assert changed.data["labels"] == (await cluster.control.inventory(alpha.id)).labels
    assert changed.data["labels"]["tier"] == "edge"
    bid = await cluster.control.auction_component("x", "y", {"tier": "edge"})
    assert bid is not None
    await cluster.control.delete_label(alpha.id, "tier")
    await cluster.control.delete_label(alpha.id, "tier")
    assert "tier" not in (await cluster.event("labels_changed", count=2)).data["labels"]
    with pytest.raises(errors.InvalidRequest, match="hostcore"):
        await cluster.control.put_label(alpha.id, "hostcore.os", "plan9")
    with pytest.raises(errors.NotFound):
        await cluster.control.put_label(NOBODY, "a", "b")


async def test_every_host_takes_credentials(cluster: Cluster) -> None:
    await cluster.start_hosts(3)
    credential = control.RegistryCredential(username="user", password="secret")
    assert await cluster.control.put_registries({"registry.example.com": credential}) == 3
    with pytest.raises(errors.InvalidRequest):
        await cluster.control.put_registries({"x.com": control.RegistryCredential(username="u")})


async def test_our_own_events_are_heard_when_asked_for(cluster: Cluster, alpha: LocalHost) -> None:
    # Ready a moment before it says so.
    await cluster.event("host_started")
    async with cluster.control.events(own=True) as everything, cluster.control.events() as theirs:
        alpha.host.request_stop(0)
        for stream, expected in ((everything, "host_draining"), (theirs, "host_stopped")):
            event = await stream.wait_for(lambda event: event.source == alpha.id, timeout_s=10)
            assert event is not None
            assert event.name == expected


async def test_the_version_is_semantic(cluster: Cluster, alpha: LocalHost) -> None:
    semantic = r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?"
    (host,) = await cluster.control.hosts(wait_s=0.2)
    assert re.fullmatch(semantic, host.version or "")


async def test_component_limits_lower_what_the_host_allows(
    cluster: Cluster, alpha: LocalHost
) -> None:
    await cluster.start_actor(
        "grow", on=alpha, component_limits={"max_memory_limit": str(2 * 65_536)}
    )
    with pytest.raises(errors.MemoryExceeded) as failure:
        await cluster.call("grow")
    assert failure.value.detail["limit"] == 2 * 65_536
    await cluster.scale(
        "grow", on=alpha, count=1, component_limits={"max_memory_limit": str(4 * 65_536)}
    )
    with pytest.raises(errors.MemoryExceeded) as failure:
        await cluster.call("grow")
    assert failure.value.detail["limit"] == 4 * 65_536


@pytest.mark.parametrize(
    "wanted",
    [
        {"max_memory_limit": "lots"},
        {"max_memory_limit": "0"},
        {"max_execution_time": "-1"},
        {"max_execution_time": "9" * 400 + "x"},
    ],
)
async def test_limits_that_are_none_are_refused(
    cluster: Cluster, alpha: LocalHost, wanted: dict[str, str]
) -> None:
    reply = await cluster.request(
        "component",
        "scale",
        alpha.id,
        body={"component_id": "echo", "count": 1, "component_limits": wanted},
    )
    assert (reply["success"], reply["code"]) == (False, "invalid_request")
    assert reply["message"].startswith("component_limits")


async def test_a_limit_too_large_to_count_is_as_good_as_none(
    cluster: Cluster, alpha: LocalHost
) -> None:
    command = {
        "component_id": "echo",
        "count": 1,
        "component_limits": {"max_execution_time": "9" * 400},
    }
    reply = await cluster.request("component", "scale", alpha.id, body=command)
    assert reply.get("code") in {None, "invalid_request"}


@pytest.mark.parametrize(
    ("reference", "code", "text"),
    [
        ("lattice://echo@sha256:" + "0" * 64, "not_found", "0" * 64),
        ("lattice://echo", "invalid_request", "lattice://NAME@sha256:DIGEST"),
        ("file:///etc/passwd", "denied", "--allow-file-load"),
        ("ghcr.io/wasmcloud/echo:latest", "denied", "--allow-latest"),
        ("", "invalid_request", "can't fetch ''"),
    ],
    ids=["an unknown digest", "no digest", "a file", "a registry", "nothing"],
)
async def test_an_actor_does_not_start_from(
    cluster: Cluster, alpha: LocalHost, reference: str, code: str, text: str
) -> None:
    event = await cluster.scale("echo", on=alpha, component_ref=reference, count=1)
    assert event.name == "component_scale_failed"
    assert event.data == {
        "annotations": {},
        "host_id": alpha.id,
        "image_ref": reference,
        "max_instances": 1,
        "component_id": "echo",
        "error": event.data["error"],
        "code": code,
    }
    assert text in event.data["error"]


@pytest.mark.parametrize(
    ("path", "code"),
    [("echo.wasm", None), ("missing.wasm", "not_found"), ("", "invalid_request")],
    ids=["there", "missing", "a directory"],
)
async def test_a_file_is_loaded_where_that_is_allowed(
    cluster: Cluster, tmp_path: Any, path: str, code: str | None
) -> None:
    (tmp_path / "echo.wasm").write_bytes(assembled("echo"))
    (host,) = await cluster.start_hosts(1, allow_file_load=True)
    event = await cluster.scale("echo", on=host, component_ref=f"file://{tmp_path}/{path}", count=1)
    assert event.data.get("code") == code


@pytest.mark.parametrize("component_id", ["", "a.b", "a b", "*", "x" * 129])
async def test_an_id_that_is_no_nats_token_is_refused(
    cluster: Cluster, alpha: LocalHost, component_id: str
) -> None:
    body = {"component_id": component_id, "count": 1}
    reply = await cluster.request("component", "scale", alpha.id, body=body)
    assert (reply["success"], reply["code"]) == (False, "invalid_request")


async def test_a_scale_command_with_an_unknown_config_is_refused(
    cluster: Cluster, alpha: LocalHost
) -> None:
    body = {"component_id": "echo", "count": 1, "config": ["nope", "SECRET_pw"]}
    reply = await cluster.request("component", "scale", alpha.id, body=body)
    assert reply == {
        "success": False,
        "message": "Failed to validate configuration and secrets."
        " Configuration nope not found in config store."
        " Secret reference SECRET_pw not found in config store. ",
        "code": "not_found",
    }


async def test_an_auction_is_answered_by_hosts_that_would_run_it(cluster: Cluster) -> None:
    _, beta = await cluster.start_hosts(2)
    (gamma,) = await cluster.start_hosts(1, labels={"zone": "b"})
    await cluster.start_actor("echo", on=gamma)
    await cluster.start_provider("bird", "lattice+builtin://parrot", on=gamma)

    async def auction(kind: str, request: dict[str, Any], answers: list[Message]) -> None:
        async def note(answer: Message) -> None:
            answers.append(answer)

        inbox = cluster.bus.new_inbox()
        await cluster.bus.subscribe(inbox, note)
        subject = subjects.control(cluster.lattice, kind, "auction")
        await cluster.bus.publish(subject, json.dumps(request).encode(), reply=inbox)

    async def bidders(kind: str, entity: str, constraints: dict[str, str] | None) -> set[str]:
        reference = f"{kind}_ref"
        request = {reference: "x", f"{kind}_id": entity, "constraints": constraints}
        # Hosts answer in order, and all that take on anything bid in the second auction.
        anything = {reference: "x", f"{kind}_id": "anything", "constraints": None}
        answers: list[Message] = []
        later: list[Message] = []
        for asked, heard in ((request, answers), (anything, later)):
            await auction(kind, asked, heard)
        await eventually(lambda: len(later) >= len(bidding))
        for answer in answers:
            reply = json.loads(answer.data)
            expected = request | {"host_id": reply["response"]["host_id"]}
            expected["constraints"] = constraints or {}
            assert reply == {"success": True, "message": "", "response": expected}
        return {json.loads(answer.data)["response"]["host_id"] for answer in answers}

    everyone = {host.id for host in cluster.hosts}
    bidding = set(everyone)
    for kind, running in (("component", "echo"), ("provider", "bird")):
        assert await bidders(kind, "new", None) == everyone
        assert await bidders(kind, "new", {"zone": "b"}) == {gamma.id}
        assert await bidders(kind, "new", {"zone": "c"}) == set()
        assert await bidders(kind, running, {}) == everyone - {gamma.id}
    gate = Gate()
    await cluster.serve("gate", gate)
    await cluster.start_actor("relay", on=beta)
    await cluster.link("relay", "gate")
    # A host that is going away takes on nothing new.
    call = asyncio.create_task(cluster.call("relay"))
    await eventually(lambda: gate.waiting == 1)
    await cluster.request("host", "stop", beta.id, body={"timeout": 5_000})
    bidding.remove(beta.id)
    assert await bidders("component", "new", {}) == bidding
    for noun, verb, body in (
        ("component", "scale", {"component_id": "new", "count": 1}),
        ("provider", "start", {"provider_id": "new", "provider_ref": "lattice+builtin://parrot"}),
    ):
        assert (await cluster.request(noun, verb, beta.id, body=body))["code"] == "draining"
    gate.open()
    await call


async def test_configs_are_put_read_and_deleted_as_in_wasmcloud(
    cluster: Cluster, alpha: LocalHost
) -> None:
    absent = {"success": True, "message": "Configuration not found"}
    assert await cluster.request("config", "get", "x") == absent
    put = await cluster.request("config", "put", "x", body={"a": "b"})
    assert put == {"success": True, "message": "successfully put config"}
    got = await cluster.request("config", "get", "x")
    assert got == {"success": True, "message": "", "response": {"a": "b"}}
    deleted = await cluster.request("config", "del", "x")
    assert deleted == {"success": True, "message": "successfully deleted config"}
    assert await cluster.request("config", "del", "x") == deleted
    await eventually(lambda: alpha.host._actors._state.config("x") is None)
    assert await cluster.request("config", "get", "x") == absent
    assert (await cluster.event("config_deleted")).data == {"config_name": "x"}


async def test_links_are_put_listed_and_deleted_as_in_wasmcloud(
    cluster: Cluster, alpha: LocalHost
) -> None:
    link = {
        "source_id": "http-hello",
        "target": "kvredis",
        "name": "default",
        "wit_namespace": "wasi",
        "wit_package": "keyvalue",
        "interfaces": ["atomics", "store"],
        "source_config": [],
        "target_config": [],
    }
    put = await cluster.request("link", "put", body=link)
    assert put == {"success": True, "message": "successfully set link"}
    assert (await cluster.event("linkdef_set")).data == link
    listed = await cluster.request("link", "get")
    assert listed == {"success": True, "message": "", "response": [link]}
    names = ("source_id", "name", "wit_namespace", "wit_package")
    request = {name: link[name] for name in names}
    deleted = await cluster.request("link", "del", body=request)
    assert deleted == {"success": True, "message": "successfully deleted link"}
    assert (await cluster.event("linkdef_deleted")).data == request | {
        "target": "kvredis",
        "interfaces": ["atomics", "store"],
    }
    assert await cluster.request("link", "del", body=request) == deleted
    assert (await cluster.event("linkdef_deleted", count=2)).data == request
    assert (await cluster.request("link", "get"))["response"] == []


async def test_starting_a_provider_is_acknowledged_and_told_by_events(
    cluster: Cluster, alpha: LocalHost
) -> None:
    command = {"provider_id": "bird", "provider_ref": "lattice+builtin://parrot"}
    reply = await cluster.request("provider", "start", alpha.id, body=command)
    assert reply == {"success": True, "message": "successfully started provider"}
    assert (await cluster.event("provider_started")).data == {
        "host_id": alpha.id,
        "image_ref": "lattice+builtin://parrot",
        "provider_id": "bird",
        "annotations": {},
    }
    again = await cluster.request("provider", "start", alpha.id, body=command)
    assert again == {
        "success": False,
        "message": "provider with that ID is already running",
        "code": "already_exists",
    }
    # 1.x also says provider_ref when it means the id.
    reply = await cluster.request("provider", "stop", alpha.id, body={"provider_ref": "bird"})
    assert reply == {"success": True, "message": "successfully stopped provider"}
    assert (await cluster.event("provider_stopped")).data == {
        "host_id": alpha.id,
        "provider_id": "bird",
        "annotations": {},
        "reason": "stop",
        "instance_id": "bird",
        "public_key": "bird",
        "link_name": "default",
    }
    reply = await cluster.request("provider", "stop", alpha.id, body={"provider_id": "bird"})
    assert reply == {
        "success": False,
        "message": "provider with that ID is not running",
        "code": "not_found",
    }


async def test_a_thousand_requests_at_once_are_all_answered(
    cluster: Cluster, alpha: LocalHost
) -> None:
    replies = await asyncio.gather(*(cluster.request("host", "ping") for _ in range(1_000)))
    assert all(reply["success"] or reply["code"] == "overloaded" for reply in replies)
    assert (await cluster.request("host", "get", alpha.id))["success"]


async def test_stopping_a_host_is_acknowledged_drains_it_and_tells(
    cluster: Cluster, alpha: LocalHost
) -> None:
    gate = Gate()
    await cluster.serve("gate", gate)
    await cluster.start_actor("relay", on=alpha, count=1)
    await cluster.link("relay", "gate")
    running = asyncio.create_task(cluster.call("relay", payload=b"running"))
    waiting = asyncio.create_task(cluster.call("relay", payload=b"waiting"))
    await eventually(lambda: gate.waiting == 1 and alpha.host._actors.waiting == 1)

    reply = await cluster.request("host", "stop", alpha.id, body=control.StopHost().to_json())
    assert reply == {"success": True, "message": "successfully handled stop host"}
    await cluster.event("host_draining", host_id=alpha.id)
    gate.open()
    assert (await running, await waiting) == (b"running", b"waiting")
    stopped: Event = await cluster.event("host_stopped")
    assert (stopped.source, list(stopped.data)) == (alpha.id, ["labels"])
    await alpha.task


async def test_calls_that_outlast_the_stop_timeout_are_told_and_not_left_waiting(
    cluster: Cluster, alpha: LocalHost
) -> None:
    gate = Gate()
    await cluster.serve("gate", gate)
    await cluster.start_actor("relay", on=alpha, count=1)
    await cluster.link("relay", "gate")
    running = asyncio.create_task(cluster.call("relay", payload=b"running"))
    await eventually(lambda: gate.waiting == 1)
    waiting = asyncio.create_task(cluster.call("relay", payload=b"waiting"))
    await eventually(lambda: alpha.host._actors.waiting == 1)
    await cluster.request("host", "stop", alpha.id, body={"timeout": 50})
    with pytest.raises(errors.Cancelled):
        await running
    # Not executed, so repeated; and by then nobody is there.
    with pytest.raises((errors.NotRunning, errors.Draining)):
        await waiting
    await alpha.task
    gate.open()
    assert gate.calls.total() == 1
