"""wadm's API as its clients see it: subjects, JSON and words, without a host or a leader."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from lattice import subjects
from lattice.aio.tasks import TaskGroup
from lattice.bus import Bus
from lattice.reconcile.server import SERVER_HEADER, AppServer, somebody_else_serves
from lattice.reconcile.store import VERSIONS_MAX, Apps, StoredStatus
from lattice.wire.apps import Status, StatusInfo, StatusType

MANIFEST = """
apiVersion: core.oam.dev/v1beta1
kind: Application
metadata:
  name: hello
  annotations:
    version: v1
    description: says hello
spec:
  components:
    - name: echo
      type: component
      properties:
        image: ghcr.io/x/echo:0.1.0
        id: echo
      traits:
        - type: spreadscaler
          properties:
            instances: 2
"""


class Api:
    """The API of one lattice, asked as a NATS client would."""

    def __init__(self, bus: Bus, lattice: str, apps: Apps) -> None:
        self._bus = bus
        self.lattice = lattice
        self.apps = apps

    async def ask(
        self, *tokens: str, body: object = b"", headers: dict[str, str] | None = None
    ) -> Any:
        payload = body if isinstance(body, bytes) else json.dumps(body).encode()
        if isinstance(body, str):
            payload = body.encode()
        message = await self._bus.request(
            ".".join((subjects.app_api(self.lattice, tokens[0]), *tokens[1:])),
            payload,
            headers=headers,
            deadline=asyncio.get_running_loop().time() + 5,
        )
        assert message.headers is not None
        assert message.headers[SERVER_HEADER] == "tester"
        return json.loads(message.data)


@pytest.fixture
async def api(bus: Bus, lattice_name: str) -> AsyncIterator[Api]:
    tasks = TaskGroup("test")
    apps = await Apps.open(bus, lattice_name, lambda: None, tasks)
    server = AppServer(bus, lattice_name, apps, name="tester")
    await server.open()
    yield Api(bus, lattice_name, apps)
    await server.aclose()
    await tasks.aclose()


async def test_put_tells_whether_it_is_new_and_how_many_versions_there_are(api: Api) -> None:
    assert await api.ask("put", body=MANIFEST) == {
        "result": "created",
        "total_versions": 1,
        "current_version": "v1",
        "message": "Successfully put manifest hello ",
        "name": "hello",
    }
    # wadm's message names the version that was there before.
    assert await api.ask("put", body=MANIFEST.replace("v1\n", "v2\n")) == {
        "result": "newversion",
        "total_versions": 2,
        "current_version": "v2",
        "message": "Successfully put manifest hello v1",
        "name": "hello",
    }


async def test_a_version_that_is_there_cannot_be_put_again(api: Api) -> None:
    await api.ask("put", body=MANIFEST)

    assert await api.ask("put", body=MANIFEST) == {
        "result": "error",
        "message": "Manifest version v1 already exists",
        "code": "already_exists",
    }


async def test_a_manifest_without_a_version_is_given_one_that_sorts_by_time(api: Api) -> None:
    plain = MANIFEST.replace("    version: v1\n", "")

    versions = [(await api.ask("put", body=plain))["current_version"] for _ in range(2)]

    assert [len(version) for version in versions] == [26, 26]
    got = await api.ask("get", "hello")
    assert got["manifest"]["metadata"]["annotations"]["version"] == versions[1]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        pytest.param(b"\xff", "Unable to parse manifest", id="not text"),
        pytest.param(b"", "Unable to parse manifest", id="nothing"),
        pytest.param(b"[1, 2", "Unable to parse manifest", id="neither YAML nor JSON"),
        pytest.param(b"{}", "Unable to parse manifest", id="empty"),
        pytest.param(
            MANIFEST.replace("version: v1", "version: latest").encode(),
            'invalid manifest version, errors: "latest is not allowed in wadm"',
            id="latest",
        ),
        pytest.param(
            MANIFEST.replace("name: hello", "name: he.llo").encode(),
            "Manifest name he.llo contains invalid characters.",
            id="name",
        ),
        pytest.param(b"a: [" * 10_000, "Unable to parse manifest", id="deep"),
        pytest.param(b"x" * 600_000, "the manifest is 600000 bytes", id="huge"),
    ],
)
async def test_a_manifest_that_is_wrong_is_refused_with_a_reason(
    api: Api, body: bytes, message: str
) -> None:
    answer = await api.ask("put", body=body)

    assert answer["result"] == "error"
    assert answer["message"].startswith(message)
    assert (await api.ask("get"))["models"] == []


async def test_a_manifest_may_say_what_it_is_written_in(api: Api) -> None:
    answer = await api.ask("put", body=MANIFEST, headers={"Content-Type": "text/html"})
    assert "Unsupported content type text/html given" in answer["message"]

    answer = await api.ask("put", body=MANIFEST, headers={"Content-Type": "application/yaml"})
    assert answer["result"] == "created"


async def test_get_gives_a_version_back_as_json(api: Api) -> None:
    await api.ask("put", body=MANIFEST)
    await api.ask("put", body=MANIFEST.replace("v1\n", "v2\n"))

    latest = await api.ask("get", "hello")
    assert latest["result"] == "success"
    assert latest["message"] == "Successfully fetched application hello"
    assert latest["manifest"]["metadata"]["annotations"]["version"] == "v2"
    assert latest["manifest"]["spec"]["components"][0]["properties"]["id"] == "echo"

    one = await api.ask("get", "hello", body={"version": "v1"})
    assert one["message"] == "Successfully fetched application hello v1"
    assert one["manifest"]["metadata"]["annotations"]["version"] == "v1"

    assert await api.ask("get", "hello", body={"version": "v9"}) == {
        "result": "notfound",
        "message": "Application hello with version v9 doesn't exist",
    }
    assert await api.ask("get", "nothing") == {
        "result": "notfound",
        "message": "Application with the name nothing not found",
    }


async def test_a_list_has_a_summary_of_each_app_with_an_envelope_and_without(api: Api) -> None:
    await api.ask("put", body=MANIFEST)

    answer = await api.ask("get")

    summary = {
        "name": "hello",
        "version": "v1",
        "description": "says hello",
        "deployed_version": None,
        "detailed_status": {"status": {"type": "undeployed"}, "version": "", "components": []},
        "status": "undeployed",
        "status_message": "",
    }
    assert answer == {
        "result": "success",
        "message": "Successfully fetched list of applications",
        "models": [summary],
        "served_by": "tester",
    }
    assert await api.ask("list") == [summary]


async def test_versions_tell_which_one_is_deployed(api: Api) -> None:
    await api.ask("put", body=MANIFEST)
    await api.ask("put", body=MANIFEST.replace("v1\n", "v2\n"))
    await api.ask("deploy", "hello", body={"version": "v1"})

    assert await api.ask("versions", "hello") == {
        "result": "success",
        "message": "Successfully fetched versions for application hello",
        "versions": [
            {"version": "v1", "deployed": True},
            {"version": "v2", "deployed": False},
        ],
    }
    answer = await api.ask("versions", "nothing")
    assert (answer["result"], answer["versions"]) == ("notfound", [])
    answer = await api.ask("history", "hello")
    assert answer["message"].startswith("Model deployment history is not currently supported")


@pytest.mark.parametrize("body", [b"", {}, {"version": None}, {"version": "latest"}])
async def test_deploy_without_a_version_takes_the_latest(api: Api, body: object) -> None:
    await api.ask("put", body=MANIFEST)
    await api.ask("put", body=MANIFEST.replace("v1\n", "v2\n"))

    assert await api.ask("deploy", "hello", body=body) == {
        "result": "acknowledged",
        "message": "Successfully deployed application hello v2",
        "name": "hello",
        "version": "v2",
    }


async def test_what_is_not_there_cannot_be_deployed(api: Api) -> None:
    await api.ask("put", body=MANIFEST)

    assert (await api.ask("deploy", "nothing"))["result"] == "notfound"
    answer = await api.ask("deploy", "hello", body={"version": "v9"})
    assert answer["result"] == "error"
    assert answer["message"] == (
        "Application with the name 'hello' does not have a version 'v9' to deploy"
    )


async def test_an_id_that_another_deployed_app_has_is_refused(api: Api) -> None:
    await api.ask("put", body=MANIFEST)
    await api.ask("deploy", "hello")
    await api.ask("put", body=MANIFEST.replace("name: hello", "name: other"))

    answer = await api.ask("deploy", "other")

    assert answer["message"] == (
        "Component identifier 'echo' is already deployed in a different application 'hello'."
    )


async def test_undeploy_says_when_there_was_nothing_to_do(api: Api) -> None:
    await api.ask("put", body=MANIFEST)
    await api.ask("deploy", "hello")

    first, second = [await api.ask("undeploy", "hello", body={}) for _ in range(2)]

    assert first == {
        "result": "acknowledged",
        "message": "Successfully undeployed application hello",
        "name": "hello",
        "version": None,
    }
    assert second["message"] == "Application hello was already undeployed"
    assert (await api.ask("undeploy", "nothing"))["result"] == "notfound"


async def test_deleting_the_deployed_version_undeploys_it(api: Api) -> None:
    await api.ask("put", body=MANIFEST)
    await api.ask("put", body=MANIFEST.replace("v1\n", "v2\n"))
    await api.ask("deploy", "hello", body={"version": "v1"})

    assert await api.ask("del", "hello", body={"version": "v1"}) == {
        "result": "deleted",
        "message": "Successfully deleted version v1 of application hello",
        "undeploy": True,
    }
    assert await api.ask("del", "hello", body={"version": "v1"}) == {
        "result": "noop",
        "message": "Application version v1 doesn't exist",
        "undeploy": False,
    }
    assert await api.ask("del", "hello", body={"version": "v2"}) == {
        "result": "deleted",
        "message": "Successfully deleted last version of application hello",
        "undeploy": True,
    }
    assert await api.ask("del", "hello") == {
        "result": "noop",
        "message": "Application hello doesn't exist or was already deleted",
        "undeploy": False,
    }


async def test_a_status_of_an_earlier_deployment_is_not_told(api: Api) -> None:
    await api.ask("put", body=MANIFEST)
    await api.ask("deploy", "hello")
    deployed = Status(status=StatusInfo(type=StatusType.DEPLOYED), version="v1")
    await api.apps.put_status("hello", StoredStatus(generation=1, status=deployed))

    assert await api.ask("status", "hello") == {
        "result": "ok",
        "message": "Successfully fetched status for application hello",
        "status": {"status": {"type": "deployed"}, "version": "v1", "components": []},
    }

    await api.ask("deploy", "hello")
    assert (await api.ask("status", "hello"))["status"]["status"]["type"] == "reconciling"
    # wadm has one even for what it has never heard of.
    answer = await api.ask("status", "nothing")
    assert (answer["result"], answer["status"]["status"]["type"]) == ("ok", "undeployed")


@pytest.mark.parametrize(
    "tokens",
    [("put", "hello"), ("deploy",), ("get", "a", "b"), ("nonsense",), ("nonsense", "hello")],
    ids=".".join,
)
async def test_an_unknown_subject_is_an_error(api: Api, tokens: tuple[str, ...]) -> None:
    answer = await api.ask(*tokens)

    assert answer["result"] == "error"
    assert answer["message"].startswith("Unsupported subject")


@pytest.mark.parametrize("operation", ["get", "deploy", "del", "undeploy"])
@pytest.mark.parametrize("body", [b"{", b"[]", b"7", b"\xff"], ids=repr)
async def test_a_body_that_cannot_be_read_is_an_error(
    api: Api, operation: str, body: bytes
) -> None:
    await api.ask("put", body=MANIFEST)

    answer = await api.ask(operation, "hello", body=body)

    assert answer["result"] == "error"
    assert answer["message"].startswith("Unable to parse")


async def test_many_writers_of_one_app_lose_nothing(api: Api) -> None:
    bodies = [MANIFEST.replace("v1\n", f"v{number}\n") for number in range(50)]

    answers = await asyncio.gather(*(api.ask("put", body=body) for body in bodies))

    assert sorted(answer["total_versions"] for answer in answers) == list(range(1, 51))
    versions = (await api.ask("versions", "hello"))["versions"]
    assert {kept["version"] for kept in versions} == {f"v{number}" for number in range(50)}


async def test_old_versions_make_room_but_not_the_deployed_one(api: Api) -> None:
    await api.ask("put", body=MANIFEST)
    await api.ask("deploy", "hello")

    for number in range(2, VERSIONS_MAX + 3):
        await api.ask("put", body=MANIFEST.replace("v1\n", f"v{number}\n"))

    kept = [one["version"] for one in (await api.ask("versions", "hello"))["versions"]]
    assert len(kept) == VERSIONS_MAX
    assert kept[:2] == ["v1", "v4"]


async def test_a_bad_entry_hides_no_other(api: Api, bus: Bus) -> None:
    bucket = await bus.bucket(subjects.app_bucket(api.lattice))
    await bucket.put(subjects.app_key("bad"), b"{")
    await bucket.put(subjects.app_status_key("bad"), b"7")
    await bucket.put("nonsense", b"")
    await api.ask("put", body=MANIFEST)

    assert [summary["name"] for summary in (await api.ask("get"))["models"]] == ["hello"]
    answer = await api.ask("put", body=MANIFEST.replace("name: hello", "name: bad"))
    assert answer["message"].startswith("what is stored of app bad is malformed; not touched")


async def test_a_wadm_is_told_from_one_of_us(api: Api, bus: Bus) -> None:
    assert not await somebody_else_serves(bus, api.lattice, timeout_s=0.3)
    assert not await somebody_else_serves(bus, "nobody-here", timeout_s=5)

    async def answer(message: Any) -> None:
        await bus.publish(message.reply, b"[]")

    await bus.subscribe(subjects.app_apis(api.lattice), answer, queue="wadm_server")
    assert await somebody_else_serves(bus, api.lattice, timeout_s=0.3)
