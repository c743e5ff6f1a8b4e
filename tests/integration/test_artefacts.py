"""Hosts that run what is in a registry, in an archive, or on their disk from an earlier start."""

import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from lattice import archives, artefacts
from lattice.control.client import Event
from lattice.identity import claims, keys
from lattice.identity.claims import Claims
from lattice.registry import client, manifests, references
from lattice.registry.credentials import Credentials, RegistryAccess
from tests.support import command_line
from tests.support.cluster import INSTALLED, ROOT, Cluster, LocalHost
from tests.support.registry import PASSWORD, USER, Front, docker_registry
from tests.support.wat import actor

PROGRAM = f"""\
#!/bin/sh
export PYTHONPATH={ROOT}:{INSTALLED}
exec {sys.executable} -m providers.sdk parrot
""".encode()


@pytest.fixture
async def front(tmp_path: Path) -> AsyncIterator[Front]:
    async with docker_registry(tmp_path / "registry") as address, Front(address) as front:
        yield front


async def push(address: str, text: str, content: bytes, **access: Any) -> str:
    reference = references.parse(f"{address}/{text}")
    registries = RegistryAccess(allowed_insecure=[address], allow_latest=True, **access)
    async with client.connect(registries, reference) as repository:
        return await repository.push(reference, manifests.compose(content))


async def start_host(cluster: Cluster, front: Front, tmp_path: Path, **settings: Any) -> LocalHost:
    values = {"allowed_insecure": (front.address,), "data_dir": tmp_path / "data"} | settings
    (host,) = await cluster.start_hosts(1, **values)
    return host


def archive(program: bytes = PROGRAM, *, compress: bool = True, target: str | None = None) -> bytes:
    issuer, subject = keys.new_seed(keys.Kind.ACCOUNT), keys.new_seed(keys.Kind.PROVIDER)
    return archives.create(
        Claims(
            kind="provider",
            subject=keys.parse_seed(subject).public_key,
            issuer=keys.parse_seed(issuer).public_key,
            name="Parrot",
            revision=3,
        ),
        {target or archives.this_machine(): program},
        issuer,
        compress=compress,
    )


async def start_echo(cluster: Cluster, host: LocalHost, reference: str) -> Event:
    return await cluster.scale("echo", on=host, component_ref=reference, count=5)


async def test_an_actor_runs_from_a_registry(
    cluster: Cluster, front: Front, tmp_path: Path
) -> None:
    host = await start_host(cluster, front, tmp_path)
    digest = await push(front.address, "echo:1", actor("echo"))

    for reference in (f"{front.address}/echo:1", f"oci://{front.address}/echo@{digest}"):
        event = await start_echo(cluster, host, reference)
        assert event.name == "component_scaled", event
        assert event.data["image_ref"] == reference
        assert await cluster.call("echo", payload=b"hello") == b"hello"
        await cluster.scale("echo", on=host, component_ref=reference, count=0)


async def test_an_actor_is_updated_to_another_tag(
    cluster: Cluster, front: Front, tmp_path: Path
) -> None:
    host = await start_host(cluster, front, tmp_path)
    await push(front.address, "echo:1", actor("echo"))
    await push(front.address, "echo:2", actor("echo_wasmbus"))
    await start_echo(cluster, host, f"{front.address}/echo:1")

    event = await cluster.scale(
        "echo", on=host, component_ref=f"{front.address}/echo:2", count=5, allow_update=True
    )

    assert event.data["image_ref"] == f"{front.address}/echo:2"


async def test_what_was_fetched_by_digest_starts_with_no_registry(
    cluster: Cluster, front: Front, tmp_path: Path
) -> None:
    digest = await push(front.address, "echo:1", actor("echo"))
    first = await start_host(cluster, front, tmp_path)
    await start_echo(cluster, first, f"{front.address}/echo:1")

    asked = len(front.requests)
    second = await start_host(cluster, front, tmp_path)
    event = await start_echo(cluster, second, f"{front.address}/echo@{digest}")

    assert event.name == "component_scaled", event
    assert len(front.requests) == asked


@pytest.mark.parametrize(
    ("name", "code", "text"),
    [
        ("echo:none", "not_found", "does not have"),
        ("echo:latest", "denied", "--allow-latest"),
        ("echo", "denied", "--allow-latest"),
        ("parrot:1", "invalid_request", "not WebAssembly"),
    ],
)
async def test_what_can_not_be_fetched_fails_with_a_code(
    cluster: Cluster, front: Front, tmp_path: Path, name: str, code: str, text: str
) -> None:
    host = await start_host(cluster, front, tmp_path)
    await push(front.address, "echo:1", actor("echo"))
    await push(front.address, "parrot:1", archive())

    event = await start_echo(cluster, host, f"{front.address}/{name}")

    assert event.name == "component_scale_failed"
    assert event.data["code"] == code
    assert text in event.data["error"] or code == "invalid_request"


async def test_latest_runs_where_the_operator_allows_it(
    cluster: Cluster, front: Front, tmp_path: Path
) -> None:
    host = await start_host(cluster, front, tmp_path, allow_latest=True)
    await push(front.address, "echo:latest", actor("echo"))
    event = await start_echo(cluster, host, f"{front.address}/echo")
    assert event.name == "component_scaled", event


async def test_a_registry_is_not_spoken_to_in_the_clear_unless_that_is_allowed(
    cluster: Cluster, front: Front, tmp_path: Path
) -> None:
    host = await start_host(cluster, front, tmp_path, allowed_insecure=())
    event = await start_echo(cluster, host, f"{front.upstream}/echo:1")
    assert event.data["code"] == "unavailable"
    assert "does not speak TLS" in event.data["error"]


async def test_credentials_come_from_the_settings_or_over_the_control_interface(
    cluster: Cluster, tmp_path: Path
) -> None:
    async with (
        docker_registry(tmp_path / "registry", login=True) as registry,
        Front(registry) as front,
    ):
        alice = Credentials(username=USER, password=PASSWORD)
        await push(front.address, "echo:1", actor("echo"), own={front.address: alice})
        reference = f"{front.address}/echo:1"

        ignorant = await start_host(cluster, front, tmp_path)
        event = await start_echo(cluster, ignorant, reference)
        assert event.data["code"] == "denied"

        given = {"username": USER, "password": PASSWORD, "registryType": "oci"}
        reply = await cluster.request("registry", "put", body={front.address: given})
        assert reply["success"], reply
        event = await start_echo(cluster, ignorant, reference)
        assert event.name == "component_scaled", event

        told = await start_host(
            cluster,
            front,
            tmp_path / "another",
            oci_registry=front.address,
            oci_user=USER,
            oci_password=PASSWORD,
        )
        event = await start_echo(cluster, told, reference)
        assert event.name == "component_scaled", event


@pytest.mark.parametrize("compress", [True, False])
async def test_a_provider_runs_from_an_archive_in_a_registry(
    cluster: Cluster, front: Front, tmp_path: Path, compress: bool
) -> None:
    host = await start_host(cluster, front, tmp_path)
    await push(front.address, "parrot:1", archive(compress=compress))

    event = await cluster.start_provider("bird", f"{front.address}/parrot:1", on=host)

    assert event.data["claims"]["name"] == "Parrot"
    await cluster.link("tester", "bird")
    assert await cluster.call("bird", "Parrot.Repeat", b"hello") == b"hello"


async def test_a_provider_runs_from_an_archive_in_a_file_or_in_the_lattices_store(
    cluster: Cluster, front: Front, tmp_path: Path
) -> None:
    host = await start_host(cluster, front, tmp_path, allow_file_load=True)
    (tmp_path / "parrot.par.gz").write_bytes(archive())
    stored = await artefacts.upload(cluster.bus, cluster.lattice, "parrot", archive())
    await cluster.link("tester", "file-bird")
    await cluster.link("another", "stored-bird")

    await cluster.start_provider("file-bird", f"file://{tmp_path}/parrot.par.gz", on=host)
    await cluster.start_provider("stored-bird", str(stored), on=host)

    for source, bird in (("tester", "file-bird"), ("another", "stored-bird")):
        assert await cluster.call(bird, "Parrot.Repeat", b"hello", source=source) == b"hello"


async def test_a_provider_that_crashes_comes_back_as_the_program_that_it_was(
    cluster: Cluster, front: Front, tmp_path: Path
) -> None:
    host = await start_host(cluster, front, tmp_path)
    await push(front.address, "parrot:1", archive())
    await cluster.start_provider("bird", f"{front.address}/parrot:1", on=host)
    await cluster.link("tester", "bird")
    # The tag means something else now, and the program had to make room.
    await push(front.address, "parrot:1", archive(b"#!/bin/sh\nexit 7\n"))
    for program in (tmp_path / "data" / "artefacts").glob("*.bin"):
        program.unlink()

    told = json.loads(await cluster.call("bird", "Parrot.Tell"))
    os.kill(told["pid"], signal.SIGKILL)
    await cluster.event("provider_restarted")

    assert await cluster.call("bird", "Parrot.Repeat", b"back") == b"back"


async def test_an_archive_for_another_machine_does_not_start(
    cluster: Cluster, front: Front, tmp_path: Path
) -> None:
    host = await start_host(cluster, front, tmp_path)
    await push(front.address, "parrot:1", archive(target="s390x-linux"))

    event = await cluster.start_provider(
        "bird", f"{front.address}/parrot:1", on=host, expected="provider_start_failed"
    )

    assert event.data["code"] == "not_found"
    assert "s390x-linux" in event.data["error"]


async def test_an_archive_that_was_tampered_with_does_not_start(
    cluster: Cluster, front: Front, tmp_path: Path
) -> None:
    host = await start_host(cluster, front, tmp_path)
    forged = archive(compress=False).replace(b"exec", b"evil")
    await push(front.address, "parrot:1", forged)

    event = await cluster.start_provider(
        "bird", f"{front.address}/parrot:1", on=host, expected="provider_start_failed"
    )

    assert event.data["code"] == "denied"
    assert not list((tmp_path / "data" / "artefacts").glob("*.bin"))


async def test_a_signed_actor_from_a_registry_is_judged_by_its_issuer(
    cluster: Cluster, front: Front, tmp_path: Path
) -> None:
    issuer, subject = keys.new_seed(keys.Kind.ACCOUNT), keys.new_seed(keys.Kind.COMPONENT)
    mine = keys.parse_seed(issuer).public_key
    signed = claims.sign_component(
        actor("echo"),
        Claims(
            kind="component", subject=keys.parse_seed(subject).public_key, issuer=mine, name="Echo"
        ),
        issuer,
    )
    await push(front.address, "echo:signed", signed)
    await push(front.address, "echo:unsigned", actor("echo"))
    host = await start_host(cluster, front, tmp_path, trusted_issuers=(mine,))

    event = await start_echo(cluster, host, f"{front.address}/echo:unsigned")
    assert event.data["code"] == "denied"
    event = await start_echo(cluster, host, f"{front.address}/echo:signed")
    assert event.data["claims"]["issuer"] == mine


async def test_a_host_started_as_a_user_does_runs_what_the_command_line_pushed(
    cluster: Cluster, front: Front, tmp_path: Path
) -> None:
    options = ("--allowed-insecure", front.address, "--allowed-insecure", "another.example")
    await cluster.start_process(*options, "--allow-latest")
    (tmp_path / "echo.wasm").write_bytes(actor("echo"))
    (tmp_path / "parrot.par.gz").write_bytes(archive())
    environment = {"LATTICE_NATS_URL": cluster.nats.url, "DOCKER_CONFIG": os.devnull}

    for line in (
        f"lattice push {front.address}/echo echo.wasm --insecure --allow-latest",
        f"lattice push {front.address}/parrot:1 parrot.par.gz --insecure",
        f"lattice start component {front.address}/echo echo",
        f"lattice start provider {front.address}/parrot:1 bird",
        "lattice link put cli bird test target",
    ):
        outcome = await command_line.run_shell(line, environment=environment, directory=tmp_path)
        assert outcome.status == 0, outcome.errors

    called = "lattice call bird Parrot.Repeat --payload hello --interface test:target"
    outcome = await command_line.run_shell(called, environment=environment)
    assert outcome.output == "hello\n", outcome.errors


async def test_a_registry_that_is_away_is_no_fault_of_nats(
    cluster: Cluster, tmp_path: Path
) -> None:
    await cluster.start_process("--allowed-insecure", "127.0.0.1:1")
    outcome = await command_line.run(
        *("start", "component", "127.0.0.1:1/echo:1", "echo"),
        environment={"LATTICE_NATS_URL": cluster.nats.url},
    )
    assert outcome.status == 4, outcome.errors
    assert "127.0.0.1:1" in outcome.errors
    assert "NATS" not in outcome.errors
