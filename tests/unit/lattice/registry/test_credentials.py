"""Which credentials are in force for a registry, and what may be done there."""

import base64
import json
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from lattice import errors, limits
from lattice.registry import credentials, references
from lattice.registry.credentials import Credentials, RegistryAccess

ALICE = Credentials(username="alice", password="secret")
BOB = Credentials(username="bob", password="hidden")


def docker_config(directory: Path, auths: object) -> Path:
    path = directory / "config.json"
    path.write_text(json.dumps({"auths": auths}))
    return path


def basic(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


async def test_what_was_put_wins_over_what_was_set_and_that_over_docker(tmp_path: Path) -> None:
    path = docker_config(tmp_path, {"ghcr.io": {"auth": basic("carol:third")}})
    access = RegistryAccess(docker_config=path)
    assert await access.credentials("ghcr.io") == Credentials(username="carol", password="third")

    access = RegistryAccess(own={"https://ghcr.io": ALICE}, docker_config=path)
    assert await access.credentials("ghcr.io") == ALICE

    access.put({"GHCR.io": BOB})
    assert await access.credentials("ghcr.io") == BOB


async def test_a_registry_that_nobody_knows_has_no_credentials(tmp_path: Path) -> None:
    access = RegistryAccess(own={"ghcr.io": ALICE}, docker_config=tmp_path / "missing")
    assert await access.credentials("ghcr.io:5000") is None
    assert await access.credentials("evil.ghcr.io") is None


@pytest.mark.parametrize("registry", ["", "a b", "echo", "a/b", "localhost:70000"])
def test_what_is_no_registry_gets_no_credentials(registry: str) -> None:
    with pytest.raises(errors.InvalidRequest, match="not the name of a registry"):
        RegistryAccess().put({registry: ALICE})


async def test_of_several_registries_all_are_taken_or_none() -> None:
    access = RegistryAccess()
    with pytest.raises(errors.InvalidRequest):
        access.put({"a.io": ALICE, "a b": BOB})
    assert await access.credentials("a.io") is None


def test_the_number_of_registries_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "REGISTRIES_MAX", 2)
    access = RegistryAccess()
    access.put({"a.io": ALICE})
    access.put({"b.io": ALICE})
    with pytest.raises(errors.Overloaded, match="2 registries"):
        access.put({"c.io": ALICE})
    access.put({"a.io": BOB})


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"auth": basic("alice:sec:ret")}, Credentials(username="alice", password="sec:ret")),
        ({"username": "alice", "password": "secret"}, ALICE),
        ({"registrytoken": "abc"}, Credentials(token="abc")),
        ({"auth": ""}, None),
        ({}, None),
        ({"identitytoken": "abc"}, None),
        ({"auth": basic("alice:")}, None),
        ({"username": 1, "password": ["x"]}, None),
    ],
)
async def test_a_login_of_docker_is_read(
    tmp_path: Path, entry: object, expected: Credentials | None
) -> None:
    access = RegistryAccess(docker_config=docker_config(tmp_path, {"ghcr.io": entry}))
    assert await access.credentials("ghcr.io") == expected


async def test_docker_hub_is_found_under_its_old_name(tmp_path: Path) -> None:
    path = docker_config(tmp_path, {"https://index.docker.io/v1/": {"auth": basic("alice:secret")}})
    assert await RegistryAccess(docker_config=path).credentials("docker.io") == ALICE


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not json",
        b"\xff\xfe",
        b"[]",
        b'{"auths": [1]}',
        b'{"auths": {"ghcr.io": []}}',
        b'{"auths": {"ghcr.io": {"auth": "***"}}}',
        b'{"auths": {"ghcr.io": {"auth": "/////w=="}}}',
        b"[" * 100_000,
    ],
    ids=lambda content: content[:40],
)
async def test_a_configuration_of_docker_that_is_rubbish_counts_as_none(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with capture_logs() as logs:
        assert await RegistryAccess(docker_config=path).credentials("ghcr.io") is None
    assert [line["log_level"] for line in logs] == ["warning"]


async def test_a_configuration_of_docker_that_is_huge_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credentials, "DOCKER_CONFIG_BYTES_MAX", 5)
    path = docker_config(tmp_path, {"ghcr.io": {"auth": basic("alice:secret")}})
    assert await RegistryAccess(docker_config=path).credentials("ghcr.io") is None


def test_secrets_are_not_shown() -> None:
    shown = repr(Credentials(username="alice", password="secret", token="hidden"))
    assert "alice" in shown
    assert "secret" not in shown
    assert "hidden" not in shown


def test_latest_is_refused_unless_allowed() -> None:
    latest, pinned = references.parse("ghcr.io/a"), references.parse("ghcr.io/a:1")
    with pytest.raises(errors.Denied, match="--allow-latest"):
        RegistryAccess().check(latest)
    RegistryAccess(allow_latest=True).check(latest)
    RegistryAccess().check(pinned)


def test_only_the_registries_that_are_named_are_spoken_to_in_the_clear() -> None:
    access = RegistryAccess(allowed_insecure=["http://localhost:5000", "10.0.0.1"])
    assert access.is_insecure("localhost:5000")
    assert access.is_insecure("10.0.0.1")
    assert not access.is_insecure("localhost")
    assert not access.is_insecure("localhost:5001")
