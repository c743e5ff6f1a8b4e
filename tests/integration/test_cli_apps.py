"""The app commands as a user runs them, against a stand-in for the server of the apps."""

import json
from pathlib import Path

import pytest

from lattice import artefacts, subjects
from lattice.bus import Bus
from lattice.bus.server import NatsServer
from lattice.wire import apps
from lattice.wire.apps import ScalerStatus, Status, StatusInfo, StatusType
from tests.support import command_line
from tests.support.app_server import AppServer, failed
from tests.support.command_line import Outcome

MANIFEST = """\
# an app
apiVersion: core.oam.dev/v1beta1
kind: Application
metadata:
  name: hello
  annotations: {version: v1, description: says hello}
spec:
  components:
    - name: counter
      type: component
      properties: {image: ./counter.wasm}  # just built
      traits:
        - type: spreadscaler
          properties: {instances: 2}
    - name: kv
      type: capability
      properties: {image: "lattice+builtin://keyvalue"}
"""


def status(kind: StatusType, message: str = "", *, scaler: StatusType | None = None) -> Status:
    scalers = (
        []
        if scaler is None
        else [
            ScalerStatus(
                id="1",
                kind="SpreadScaler",
                name="hello-counter",
                status=StatusInfo(type=scaler, message="" if scaler == "deployed" else "1 of 2"),
            )
        ]
    )
    return Status(status=StatusInfo(type=kind, message=message), scalers=scalers)


class Workplace:
    """A directory with a manifest, and a lattice whose apps are served."""

    def __init__(self, directory: Path, server: AppServer, environment: dict[str, str]) -> None:
        self.directory = directory
        self.server = server
        self._environment = environment
        self.manifest = directory / "app.yaml"

    async def run(self, *arguments: str) -> Outcome:
        return await command_line.run("app", *arguments, environment=self._environment)

    async def shell(self, line: str) -> Outcome:
        return await command_line.run_shell(
            line, environment=self._environment, directory=self.directory
        )


@pytest.fixture
async def here(nats: NatsServer, bus: Bus, lattice_name: str, tmp_path: Path) -> Workplace:
    server = AppServer(bus, lattice_name)
    await server.open()
    (tmp_path / "counter.wasm").write_bytes(b"\0asm")
    environment = {"LATTICE_NATS_URL": nats.url, "LATTICE_LATTICE": lattice_name}
    place = Workplace(tmp_path, server, environment)
    place.manifest.write_text(MANIFEST)
    return place


async def test_a_manifest_is_deployed_and_followed_until_it_runs(here: Workplace) -> None:
    here.server.stories["hello"] = [
        status(StatusType.RECONCILING, scaler=StatusType.RECONCILING),
        status(StatusType.DEPLOYED, scaler=StatusType.DEPLOYED),
    ]

    outcome = await here.run("deploy", str(here.manifest))

    assert outcome.status == 0, outcome.errors
    assert outcome.output == 'Deployed application "hello", version "v1"\n'
    assert outcome.errors.splitlines() == [
        "counter: SpreadScaler reconciling: 1 of 2",
        "hello: reconciling",
        "counter: SpreadScaler deployed",
        "hello: deployed",
    ]
    assert here.server.deployed == {"hello": "v1"}


async def test_a_file_that_a_manifest_names_is_uploaded_and_named_by_its_digest(
    here: Workplace, bus: Bus, lattice_name: str
) -> None:
    outcome = await here.run("put", str(here.manifest), "--output", "json")

    assert outcome.json == {
        "success": True,
        "deployed": False,
        "model_name": "hello",
        "model_version": "v1",
    }
    stored = here.server.versions["hello"]["v1"]
    image = stored.partition("image: ")[2].partition("}")[0].strip('"')
    assert stored == MANIFEST.replace("./counter.wasm", f'"{image}"')
    artefact = artefacts.parse(image)
    assert await artefacts.download(bus, lattice_name, artefact) == b"\0asm"


async def test_the_same_manifest_can_be_deployed_twice_and_another_needs_another_version(
    here: Workplace,
) -> None:
    assert (await here.run("deploy", str(here.manifest))).status == 0
    assert (await here.run("deploy", str(here.manifest))).status == 0

    here.manifest.write_text(MANIFEST.replace("instances: 2", "instances: 3"))
    refused = await here.run("deploy", str(here.manifest))
    assert refused.status == 5
    assert "already exists, and is another manifest" in refused.errors
    assert "--replace" in refused.errors

    assert (await here.run("deploy", str(here.manifest), "--replace")).status == 0
    assert "instances: 3" in here.server.versions["hello"]["v1"]


async def test_an_app_that_was_put_is_deployed_by_name_and_version(here: Workplace) -> None:
    await here.run("put", str(here.manifest))

    outcome = await here.run("deploy", "hello", "v1", "--no-wait", "--output", "json")

    assert outcome.json == {
        "success": True,
        "deployed": True,
        "model_name": "hello",
        "model_version": "v1",
    }


async def test_a_manifest_is_read_from_standard_input(here: Workplace) -> None:
    outcome = await here.shell("cat app.yaml | lattice app deploy -")

    assert outcome.status == 0, outcome.errors
    # Paths start where the command runs.
    assert "lattice://counter@sha256:" in here.server.versions["hello"]["v1"]


async def test_a_deployment_that_fails_ends_with_status_1_and_the_reason(here: Workplace) -> None:
    here.server.stories["hello"] = [
        status(StatusType.RECONCILING, scaler=StatusType.RECONCILING),
        failed("version v1 trapped on beta; rolled back to v0"),
    ]

    outcome = await here.run("deploy", str(here.manifest))

    assert outcome.status == 1
    assert outcome.output == ""
    assert "deploying hello v1 failed: version v1 trapped on beta" in outcome.errors


async def test_a_deployment_that_takes_too_long_says_how_far_it_is(here: Workplace) -> None:
    here.server.stories["hello"] = [status(StatusType.WAITING, "no host has label zone=a")]

    outcome = await here.run("deploy", str(here.manifest), "--wait-timeout-ms", "300")

    assert outcome.status == 4
    assert "no host has label zone=a" in outcome.errors
    assert "lattice app status" in outcome.errors


async def test_a_status_from_before_is_not_taken_for_the_outcome(here: Workplace) -> None:
    here.server.statuses["hello"] = failed("from yesterday")
    here.server.stories["hello"] = []

    outcome = await here.run(
        "deploy", str(here.manifest), "--wait-timeout-ms", "1500", "--output", "json"
    )
    assert outcome.status == 4
    assert "from yesterday" in outcome.json["error"]


async def test_an_invalid_manifest_is_refused_before_anything_is_sent(here: Workplace) -> None:
    here.manifest.write_text(MANIFEST.replace("name: kv", "name: counter"))

    outcome = await here.run("deploy", str(here.manifest))

    assert outcome.status == 2
    assert "Duplicate component name in manifest: counter" in outcome.errors
    assert here.server.asked == []


@pytest.mark.parametrize(
    ("arguments", "expected", "said"),
    [
        (["deploy", "no/such.yaml"], 3, "there is no file no/such.yaml"),
        (["put", "absent"], 3, "there is no file absent"),
        (["deploy", "absent"], 3, "Application with the name absent not found"),
        (["status", "absent"], 3, "absent"),
        (["history", "absent"], 3, "absent"),
        (["get", "absent"], 3, "absent"),
        (["undeploy", "absent"], 3, "absent"),
        (["undeploy"], 2, "--all"),
        (["delete"], 2, "--all-undeployed"),
        (["plan", "absent"], 4, "can't plan"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
async def test_what_is_not_there_is_said_with_its_status(
    here: Workplace, arguments: list[str], expected: int, said: str
) -> None:
    outcome = await here.run(*arguments)

    assert (outcome.status, outcome.output) == (expected, "")
    assert said in outcome.errors


async def test_apps_are_listed_shown_and_told_of(here: Workplace) -> None:
    await here.run("deploy", str(here.manifest))
    here.server.statuses["hello"] = status(StatusType.RECONCILING, scaler=StatusType.RECONCILING)

    listed = await here.run("list")
    assert [line.split() for line in listed.output.splitlines()] == [
        ["Name", "Deployed", "Version", "Status", "Description"],
        ["hello", "v1", "Reconciling"],
    ]
    as_json = (await here.run("get", "--output", "json")).json
    assert [one["deployed_version"] for one in as_json["applications"]] == ["v1"]

    shown = await here.run("get", "hello")
    assert "name: hello\n" in shown.output
    assert "image: lattice+builtin://keyvalue\n" in shown.output
    whole = (await here.run("get", "hello", "v1", "--output", "json")).json
    assert whole["application"]["metadata"]["name"] == "hello"

    told = await here.run("status", "hello")
    assert [line.split() for line in told.output.splitlines()] == [
        ["hello", "-", "Reconciling"],
        ["Name", "Kind", "Status", "Message"],
        ["counter", "SpreadScaler", "Reconciling", "1", "of", "2"],
    ]
    fields = (await here.run("status", str(here.manifest), "--output", "json")).json
    assert fields["status"]["status"] == {"type": "reconciling"}

    versions = await here.run("history", "hello", "--output", "json")
    assert versions.json["revisions"] == [{"version": "v1", "deployed": True}]


async def test_apps_are_undeployed_and_deleted_one_or_all(here: Workplace) -> None:
    for name in ("hello", "other"):
        here.manifest.write_text(MANIFEST.replace("name: hello", f"name: {name}"))
        assert (await here.run("deploy", str(here.manifest))).status == 0

    one = await here.run("undeploy", "hello", "--output", "json")
    assert one.json["results"] == "Undeployed application: hello"
    assert one.json["undeployed_application_names"] == ["hello"]

    gone = await here.run("delete", "--all-undeployed", "--output", "json")
    assert gone.json["deleted_applications"] == [{"model_name": "hello", "version": None}]
    assert list(here.server.versions) == ["other"]

    assert (await here.run("undeploy", "--all")).output == "Undeployed application: other\n"
    assert (await here.run("undeploy", "--all")).output == "No applications undeployed\n"
    assert (await here.run("delete", "other", "v1")).output == "Deleted application: other\n"
    assert (await here.run("delete", "other")).output == "Already deleted application: other\n"


async def test_a_plan_is_printed_with_its_reasons_and_nothing_is_uploaded(
    here: Workplace, bus: Bus, lattice_name: str
) -> None:
    steps = [
        apps.PlannedStep(action="put", entity="config hello-x", reason="It does not exist."),
        apps.PlannedStep(
            action="start", entity="component hello-counter", host="NX", reason="It is missing."
        ),
    ]
    answer = apps.PlanAnswer(result=apps.GetResult.SUCCESS, steps=steps)
    await here.server.open_plans(answer.encode())

    outcome = await here.run("plan", str(here.manifest))

    assert outcome.status == 0, outcome.errors
    assert [line.split() for line in outcome.output.splitlines()] == [
        ["Action", "What", "Host", "Why"],
        ["put", "config", "hello-x", "It", "does", "not", "exist."],
        ["start", "component", "hello-counter", "NX", "It", "is", "missing."],
    ]
    manifest = json.loads(here.server.asked[-1][2])["manifest"]
    image = manifest.partition("image: ")[2].partition("}")[0].strip('"')
    artefact = artefacts.parse(image)
    store = await bus.objects(subjects.artefact_bucket(lattice_name))
    assert not await store.has(artefact.digest)


async def test_a_plan_without_steps_says_so(here: Workplace) -> None:
    await here.server.open_plans(apps.PlanAnswer(result=apps.GetResult.SUCCESS).encode())

    assert (await here.run("plan", str(here.manifest))).output == "Nothing would change\n"
    assert (await here.run("plan", "hello", "-o", "json")).json["steps"] == []


async def test_validation_asks_nobody_and_tells_everything(tmp_path: Path) -> None:
    manifest = tmp_path / "app.yaml"
    manifest.write_text(MANIFEST)
    good = await command_line.run("app", "validate", str(manifest), "--output", "json")
    assert (good.status, good.json["valid"], good.json["errors"]) == (0, True, [])

    manifest.write_text(MANIFEST.replace("name: kv", "name: counter"))
    bad = await command_line.run("app", "validate", str(manifest), "--output", "json")
    assert (bad.status, bad.json["success"], bad.json["valid"]) == (2, False, False)
    assert bad.json["errors"] == [
        {
            "level": "Error",
            "msg": "Duplicate component name in manifest: counter",
            "path": "spec.components[1]",
        }
    ]
    text = await command_line.run("app", "validate", str(manifest))
    assert text.status == 2
    assert "error: spec.components[1]: Duplicate component name" in text.output
