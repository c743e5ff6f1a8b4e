"""The client of wadm's API against a server that says what a test wants."""

import json

import pytest

from lattice import errors, subjects
from lattice.bus import Bus
from lattice.control.apps import AppClient, NobodyServes, NoLeader, NoPlan
from lattice.wire import apps
from lattice.wire.apps import Status, StatusInfo, StatusType
from tests.support.app_server import AppServer, deployed, failed

MANIFEST = """\
apiVersion: core.oam.dev/v1beta1
kind: Application
metadata:
  name: hello
  annotations: {version: v1}
spec:
  components:
    - name: counter
      type: component
      properties: {image: "lattice://counter@sha256:12"}
"""


@pytest.fixture
async def server(bus: Bus, lattice_name: str) -> AppServer:
    server = AppServer(bus, lattice_name)
    await server.open()
    return server


@pytest.fixture
def client(bus: Bus, lattice_name: str) -> AppClient:
    return AppClient(bus, lattice_name, timeout_s=0.5)


async def test_an_app_is_put_deployed_seen_undeployed_and_deleted(
    server: AppServer, client: AppClient
) -> None:
    put = await client.put(MANIFEST)
    assert (put.name, put.current_version, put.result) == ("hello", "v1", "created")
    assert (await client.get("hello"))["metadata"]["name"] == "hello"
    assert (await client.get("hello", "v1"))["metadata"]["name"] == "hello"

    answer = await client.deploy("hello", "v1")
    assert (answer.name, answer.version) == ("hello", "v1")
    [summary] = await client.summaries()
    assert (summary.name, summary.deployed_version) == ("hello", "v1")
    assert [one.deployed for one in await client.versions("hello")] == [True]

    await client.undeploy("hello")
    assert [one.deployed for one in await client.versions("hello")] == [False]
    assert (await client.delete("hello")).result == "deleted"
    assert (await client.delete("hello")).result == "noop"
    assert await client.summaries() == []


async def test_the_requests_are_what_wadms_own_client_sends(
    server: AppServer, client: AppClient
) -> None:
    await client.put(MANIFEST)
    await client.get("hello")
    await client.get("hello", "v1")
    await client.deploy("hello")
    await client.deploy("hello", "v1")
    await client.undeploy("hello")
    await client.delete("hello", "v1")

    assert server.asked == [
        ("put", None, MANIFEST.encode()),
        ("get", "hello", b""),
        ("get", "hello", b'{"version":"v1"}'),
        ("deploy", "hello", b""),
        ("deploy", "hello", b'{"version":"v1"}'),
        ("undeploy", "hello", b""),
        ("del", "hello", b'{"version":"v1"}'),
    ]


async def test_apps_are_listed_by_name(server: AppServer, client: AppClient) -> None:
    for name in ("b", "c", "a"):
        await client.put(MANIFEST.replace("hello", name))

    assert [summary.name for summary in await client.summaries()] == ["a", "b", "c"]


async def test_what_is_not_there_is_not_found(server: AppServer, client: AppClient) -> None:
    with pytest.raises(errors.NotFound, match="absent"):
        await client.get("absent")
    with pytest.raises(errors.NotFound, match="absent"):
        await client.versions("absent")
    with pytest.raises(errors.NotFound, match="absent"):
        await client.deploy("absent")
    with pytest.raises(errors.NotFound, match="absent"):
        await client.undeploy("absent")


async def test_the_status_of_an_app_that_wadm_has_never_heard_of_is_not_found(
    server: AppServer, client: AppClient
) -> None:
    with pytest.raises(errors.NotFound, match="absent"):
        await client.status("absent")
    await client.put(MANIFEST)
    assert (await client.status("hello")).status.type is StatusType.UNDEPLOYED


@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        ({"message": "Manifest version v1 already exists"}, errors.AlreadyExists),
        ({"message": "The following capability component(s) …"}, errors.InvalidRequest),
        ({"message": "lost", "code": "conflict"}, errors.Conflict),
        ({"message": "no", "code": "denied"}, errors.Denied),
        ({"message": "gone", "code": "not_found"}, errors.NotFound),
        ({"message": "odd", "code": "from_the_future"}, errors.InvalidRequest),
        ({"message": ""}, errors.InvalidRequest),
        ({}, errors.InvalidRequest),
    ],
    ids=["exists", "manifest", "conflict", "denied", "not found", "unknown", "empty", "silent"],
)
async def test_a_refusal_is_an_error_of_its_code_or_else_of_wadms_words(
    server: AppServer,
    client: AppClient,
    answer: dict[str, str],
    failure: type[errors.LatticeError],
) -> None:
    server.answers["put"] = json.dumps({"result": "error", **answer}).encode()

    with pytest.raises(failure) as caught:
        await client.put(MANIFEST)

    assert type(caught.value).code == failure.code
    assert caught.value.text


async def test_a_version_that_is_not_there_is_not_found_though_wadm_calls_it_an_error(
    server: AppServer, client: AppClient
) -> None:
    text = "Application with the name 'hello' does not have a version 'v9' to deploy"
    server.answers["deploy"] = json.dumps({"result": "error", "message": text}).encode()

    with pytest.raises(errors.NotFound, match="v9"):
        await client.deploy("hello", "v9")


@pytest.mark.parametrize("answer", [b"nonsense", b"{}", b"[]", b'{"result":"maybe"}', b"\xff"])
async def test_nonsense_is_an_invalid_answer(
    server: AppServer, client: AppClient, answer: bytes
) -> None:
    server.answers |= dict.fromkeys(("put", "get", "deploy", "status", "versions", "del"), answer)

    for work in (
        client.put(MANIFEST),
        client.get("hello"),
        client.summaries(),
        client.deploy("hello"),
        client.status("hello"),
        client.versions("hello"),
        client.delete("hello"),
    ):
        with pytest.raises(errors.InvalidRequest):
            await work


async def test_nobody_to_ask_is_told_with_a_remedy(client: AppClient) -> None:
    with pytest.raises(NobodyServes, match="nobody serves apps") as caught:
        await client.summaries()
    assert "lattice host" in caught.value.remedy
    with pytest.raises(NobodyServes):
        await client.plan(app="hello")


async def test_a_server_that_stays_silent_is_a_deadline(
    client: AppClient, bus: Bus, lattice_name: str
) -> None:
    async def ignore(_: object) -> None:
        pass

    await bus.subscribe(subjects.app_apis(lattice_name), ignore)

    with pytest.raises(errors.DeadlineExceeded):
        await client.summaries()


async def test_a_name_that_no_app_can_have_is_not_sent(
    server: AppServer, client: AppClient
) -> None:
    for name in ("a.b", "", "a b", "*", ">"):
        with pytest.raises(errors.InvalidRequest):
            await client.deploy(name)
    assert server.asked == []


async def test_a_manifest_larger_than_a_message_is_not_sent(
    server: AppServer, client: AppClient, bus: Bus
) -> None:
    with pytest.raises(errors.PayloadTooLarge):
        await client.put("x" * (bus.max_payload + 1))
    assert server.asked == []


async def test_a_plan_is_asked_for_by_manifest_or_by_name(
    server: AppServer, client: AppClient
) -> None:
    step = apps.PlannedStep(action="start", entity="component a", host="N", reason="It is missing")
    answer = apps.PlanAnswer(result=apps.GetResult.SUCCESS, steps=[step])
    await server.open_plans(answer.encode())

    assert await client.plan(manifest=MANIFEST) == answer
    assert await client.plan(app="hello", version="v1") == answer
    assert [json.loads(body) for _, _, body in server.asked] == [
        {"manifest": MANIFEST},
        {"name": "hello", "version": "v1"},
    ]


async def test_a_plan_that_is_refused_says_why(server: AppServer, client: AppClient) -> None:
    await server.open_plans(apps.ErrorAnswer(message="no such app", code="not_found").encode())

    with pytest.raises(errors.NotFound, match="no such app"):
        await client.plan(app="absent")


async def test_a_wadm_can_not_plan_and_reconcilers_without_a_leader_can_soon(
    server: AppServer, client: AppClient
) -> None:
    with pytest.raises(NoPlan):
        await client.plan(app="hello")

    ours = apps.ListAnswer(result=apps.GetResult.SUCCESS, served_by="alpha")
    server.answers["get"] = ours.encode()
    with pytest.raises(NoLeader):
        await client.plan(app="hello")


async def test_statuses_are_told_as_they_change_and_nonsense_is_passed_over(
    server: AppServer, client: AppClient, bus: Bus, lattice_name: str
) -> None:
    async with client.statuses("hello") as stream:
        await server.tell("hello", Status(status=StatusInfo(type=StatusType.RECONCILING)))
        await bus.publish(subjects.app_status(lattice_name, "hello"), b"nonsense")
        await server.tell("hello", failed("no host"))
        await server.tell("other", deployed())

        first = await stream.next(timeout_s=5)
        second = await stream.next(timeout_s=5)
        assert first is not None
        assert second is not None
        assert first.status.type is StatusType.RECONCILING
        assert second.status.message == "no host"
        assert await stream.next(timeout_s=0.05) is None
