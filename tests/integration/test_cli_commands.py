"""Labels, updates, inspection, the doctor and completion, against real hosts."""

import os
from pathlib import Path

import pytest

from lattice.wire.control import Link
from tests.support import command_line, wat
from tests.support.cluster import Cluster
from tests.support.command_line import Outcome
from tests.support.configured_nats import configured_nats
from tests.support.registry import docker_registry


async def lattice(cluster: Cluster, *arguments: str, **environment: str) -> Outcome:
    """Run a command against the cluster, for JSON."""
    return await command_line.run(
        *arguments,
        "--output",
        "json",
        environment={"LATTICE_NATS_URL": cluster.nats.url} | environment,
    )


async def test_a_label_is_set_and_deleted_and_a_host_s_own_stay(cluster: Cluster) -> None:
    (host,) = await cluster.start_hosts(1, name="alpha")

    put = await lattice(cluster, "label", "alp", "zone=a,disk=ssd")
    labels = (await cluster.control.inventory(host.id)).labels
    deleted = await lattice(cluster, "label", host.id, "disk", "--delete")
    refused = await lattice(cluster, "label", "alpha", "hostcore.os=plan9")

    assert put.json["processed"] == [["zone", "a"], ["disk", "ssd"]]
    assert put.json["result"] == "Host `alpha` labeled with `zone=a,disk=ssd`"
    assert labels.items() >= {"zone": "a", "disk": "ssd"}.items()
    assert deleted.json["deleted"] is True
    assert "disk" not in (await cluster.control.inventory(host.id)).labels
    assert (refused.status, refused.json["code"]) == (2, "invalid_request")


async def test_a_component_is_updated_wherever_it_runs(cluster: Cluster, tmp_path: Path) -> None:
    first, second = await cluster.start_hosts(2)
    for host in (first, second):
        await cluster.start_actor("speaker", on=host, module="echo", count=3)
    file = tmp_path / "shouts.wasm"
    file.write_bytes(wat.actor("shouts"))

    outcome = await lattice(cluster, "update", "component", "speaker", str(file))
    again = await lattice(cluster, "update", "component", "speaker", str(file))

    assert outcome.status == 0, outcome.errors
    assert sorted(outcome.json["updated_host_ids"]) == sorted([first.id, second.id])
    for host in (first, second):
        (component,) = (await cluster.control.inventory(host.id)).components
        assert component.image_ref == outcome.json["component_ref"]
        assert component.max_instances == 3
    assert again.status == 0
    assert again.json["updated_host_ids"] == []


async def test_an_update_that_fails_says_why(cluster: Cluster, tmp_path: Path) -> None:
    (host,) = await cluster.start_hosts(1)
    await cluster.start_actor("speaker", on=host, module="echo")
    file = tmp_path / "broken.wasm"
    file.write_bytes(b"\0asm\x01\0\0\0\xff")

    outcome = await lattice(cluster, "update", "component", "speaker", str(file))
    absent = await lattice(cluster, "update", "component", "nobody", str(file))

    assert outcome.status != 0
    assert outcome.json["at"] == host.id
    assert absent.json["code"] == "not_running"


async def test_a_component_that_runs_is_inspected_by_its_id(cluster: Cluster) -> None:
    (host,) = await cluster.start_hosts(1)
    await cluster.start_actor("echo", on=host)

    by_id = await lattice(cluster, "inspect", "echo")
    by_reference = await lattice(cluster, "inspect", by_id.json["reference"])
    absent = await lattice(cluster, "inspect", "nobody")

    assert by_id.json["kind"] == "waPC"
    assert by_id.json["reference"].startswith("lattice://echo@sha256:")
    assert by_reference.json == by_id.json
    assert (absent.status, absent.json["code"]) == (3, "not_found")


async def test_what_stands_in_a_registry_is_inspected_without_a_lattice(tmp_path: Path) -> None:
    file = tmp_path / "echo.wasm"
    file.write_bytes(wat.actor("echo"))
    nobody = {"DOCKER_CONFIG": os.devnull}

    async with docker_registry(tmp_path / "registry") as address:
        url = f"{address}/some/echo:1"
        pushed = await command_line.run("push", url, str(file), "--insecure", environment=nobody)
        inspected = await command_line.run(
            "inspect", url, "--insecure", "-o", "json", environment=nobody
        )

    assert pushed.status == 0, pushed.errors
    assert inspected.json["kind"] == "waPC"
    assert inspected.json["bytes"] == len(wat.actor("echo"))


async def test_claims_of_nothing_signed_are_an_empty_list(cluster: Cluster) -> None:
    await cluster.start_hosts(1)

    assert (await lattice(cluster, "get", "claims")).json == {"success": True, "claims": []}


async def test_the_doctor_finds_a_well_lattice_well(cluster: Cluster, tmp_path: Path) -> None:
    await cluster.start_hosts(2)

    outcome = await lattice(cluster, "doctor", "--data-dir", str(tmp_path))

    assert outcome.status == 0, outcome.output
    levels = {finding["check"]: finding["level"] for finding in outcome.json["findings"]}
    assert (
        levels.items()
        >= {
            "NATS": "ok",
            "NATS version": "ok",
            "JetStream": "ok",
            "hosts": "ok",
            "versions": "ok",
            "clocks": "ok",
        }.items()
    )
    assert outcome.json["problems"] == 0


async def test_the_doctor_finds_what_is_stuck_and_what_is_missing(
    cluster: Cluster, tmp_path: Path
) -> None:
    (host,) = await cluster.start_hosts(1)
    await cluster.start_actor("echo", on=host)
    await cluster.control.put_config("there", {"a": "b"})
    await cluster.control.put_link(
        Link(
            source_id="echo",
            target="gone",
            wit_namespace="wasi",
            wit_package="keyvalue",
            target_config=["there"],
        )
    )
    await cluster.control.delete_config("there")

    outcome = await lattice(cluster, "doctor", "--data-dir", str(tmp_path), "--listen", "0.1")

    assert outcome.status == 1
    wrong = [finding for finding in outcome.json["findings"] if finding["check"] == "links"]
    assert any("gone as target" in finding["what"] for finding in wrong)
    assert any("config there" in finding["what"] for finding in wrong)
    assert all(finding["remedy"] for finding in wrong)


async def test_the_doctor_says_that_jetstream_is_off(tmp_path: Path) -> None:
    async with configured_nats(tmp_path) as url:
        outcome = await command_line.run(
            "doctor", "-o", "json", "--data-dir", str(tmp_path), "--nats", url, "--listen", "0.1"
        )

    assert outcome.status == 1
    problems = [f for f in outcome.json["findings"] if f["level"] == "problem"]
    assert {f["check"] for f in problems} == {"JetStream", "hosts"}
    assert "--jetstream" in problems[0]["remedy"]


async def test_the_doctor_works_without_nats_as_well(tmp_path: Path) -> None:
    outcome = await command_line.run(
        "doctor",
        "--data-dir",
        str(tmp_path),
        "--nats",
        f"nats://127.0.0.1:{command_line.free_port()}",
    )

    assert outcome.status == 1
    assert "✗ no NATS server answers" in outcome.output
    assert "remedy: " in outcome.output


async def test_a_context_leads_to_its_lattice(cluster: Cluster, tmp_path: Path) -> None:
    await cluster.start_hosts(1, name="alpha")
    home = {"LATTICE_HOME": str(tmp_path)}

    made = await command_line.run(
        "ctx", "new", "here", "--nats", cluster.nats.url, environment=home
    )
    used = await command_line.run("ctx", "use", "here", environment=home)
    shown = await command_line.run("get", "hosts", "-o", "json", environment=home)

    assert (made.status, used.status) == (0, 0)
    assert [host["friendly_name"] for host in shown.json["hosts"]] == ["alpha"]


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("get inventory ", ["alpha"]),
        ("stop component ", ["echo"]),
        ("link put e", ["echo"]),
        ("start component x y --config ", ["mine"]),
    ],
)
async def test_a_shell_is_offered_what_there_is(
    cluster: Cluster, words: str, offered: list[str]
) -> None:
    (host,) = await cluster.start_hosts(1, name="alpha")
    await cluster.start_actor("echo", on=host)
    await cluster.control.put_config("mine", {"a": "b"})

    completed = await complete(cluster.nats.url, words)

    assert [line for line in completed if line in offered] == offered


async def test_a_shell_is_offered_nothing_and_told_nothing_without_a_lattice() -> None:
    assert await complete("nats://127.0.0.1:1", "get inventory ") == []


async def complete(nats_url: str, words: str) -> list[str]:
    """What bash would offer after these words."""
    outcome = await command_line.run(
        environment={
            "LATTICE_NATS_URL": nats_url,
            "_LATTICE_COMPLETE": "complete_bash",
            "COMP_WORDS": f"lattice {words}",
            "COMP_CWORD": str(len(words.split(" "))),
        }
    )
    assert outcome.errors == ""
    return [line for line in outcome.output.splitlines() if line]
