"""``lattice push`` and ``lattice pull`` as they are typed, against a real registry."""

import base64
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from lattice.registry import manifests
from tests.support import command_line
from tests.support.command_line import Outcome
from tests.support.registry import PASSWORD, USER, docker_registry

WASM = b"\0asm\x0d\0\1\0" + bytes(range(256)) * 400


@pytest.fixture
async def registry(tmp_path: Path) -> AsyncIterator[str]:
    async with docker_registry(tmp_path / "registry") as address:
        yield address


@pytest.fixture
async def closed_registry(tmp_path: Path) -> AsyncIterator[str]:
    """One that wants a password."""
    async with docker_registry(tmp_path / "registry", login=True) as address:
        yield address


@pytest.fixture
def module(tmp_path: Path) -> str:
    (tmp_path / "echo.wasm").write_bytes(WASM)
    return str(tmp_path / "echo.wasm")


async def run(*arguments: str, **environment: str) -> Outcome:
    # Nobody's own logins are for a test to use.
    return await command_line.run(
        *arguments, environment={"DOCKER_CONFIG": os.devnull} | environment
    )


async def test_what_was_pushed_is_pulled_again(registry: str, module: str, tmp_path: Path) -> None:
    url = f"{registry}/some/echo:1"
    pushed = await run("push", url, module, "--insecure", "-a", "a=b", "-o", "json")
    digest = manifests.digest_of(manifests.compose(WASM, annotations={"a": "b"}).manifest)
    assert pushed.json == {
        "success": True,
        "url": url,
        "digest": digest,
        "reference": f"{registry}/some/echo@{digest}",
        "tag": "1",
    }

    target = tmp_path / "pulled.wasm"
    pulled = await run("pull", url, "--insecure", "--destination", str(target), "-o", "json")
    assert pulled.json == {
        "success": True,
        "file": str(target),
        "digest": digest,
        "bytes": len(WASM),
        "annotations": {"a": "b"},
    }
    assert target.read_bytes() == WASM


async def test_people_see_the_digest_and_nothing_on_standard_error(
    registry: str, module: str, tmp_path: Path
) -> None:
    url = f"{registry}/echo:1"
    pushed = await run("push", url, module, "--insecure")
    assert pushed.output.splitlines()[0] == f"Successfully pushed {url}"
    assert pushed.output.splitlines()[1].startswith("digest: sha256:")
    assert pushed.errors == ""

    pulled = await command_line.run_shell(
        f"lattice pull {url} --insecure",
        environment={"DOCKER_CONFIG": os.devnull},
        directory=tmp_path,
    )
    assert pulled.output.splitlines()[0] == "Successfully pulled and validated echo.wasm"


async def test_a_registry_may_stand_apart_from_the_name(registry: str, module: str) -> None:
    outcome = await run("push", "echo:1", module, "-r", registry, "--insecure", "-o", "json")
    assert outcome.json["url"] == f"{registry}/echo:1"

    outcome = await run("push", "echo:1", module, "-o", "json")
    assert (outcome.status, outcome.json["code"]) == (2, "invalid_request")


async def test_a_password_is_given_or_known_to_docker(
    closed_registry: str, module: str, tmp_path: Path
) -> None:
    url = f"{closed_registry}/echo:1"
    nobody = await run("push", url, module, "--insecure", "-o", "json")
    assert (nobody.status, nobody.json["code"]) == (6, "denied")
    assert "docker login" in nobody.json["remedy"]

    login = {"auth": base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()}
    config = tmp_path / "docker"
    config.mkdir()
    (config / "config.json").write_text(json.dumps({"auths": {closed_registry: login}}))

    for arguments, environment in (
        (("-u", USER, "-p", PASSWORD), {}),
        ((), {"LATTICE_REG_USER": USER, "LATTICE_REG_PASSWORD": PASSWORD}),
        ((), {"WASH_REG_USER": USER, "WASH_REG_PASSWORD": PASSWORD}),
        ((), {"DOCKER_CONFIG": str(config)}),
    ):
        outcome = await run("push", url, module, "--insecure", *arguments, **environment)
        assert outcome.status == 0, outcome.errors
        assert PASSWORD not in outcome.output

    wrong = await run("push", url, module, "--insecure", "-u", USER, "-p", "hunter2")
    assert wrong.status == 6
    assert "hunter2" not in wrong.errors


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        (["pull", "{registry}/echo:latest", "--insecure"], 6, "--allow-latest"),
        (["pull", "{registry}/echo", "--insecure"], 6, "--allow-latest"),
        (["push", "{registry}/echo:latest", "{module}", "--insecure"], 6, "--allow-latest"),
        (["pull", "{registry}/echo:none", "--insecure"], 3, "does not have"),
        (["pull", "{registry}/echo:1", "--insecure", "-d", "sha256:beef"], 6, "not sha256:beef"),
        (["pull", "{registry}/echo:1"], 4, "--insecure"),
        (["pull", "echo:1"], 2, "REGISTRY/NAME:TAG"),
        (["pull", "{registry}/echo:1", "--insecure", "-u", "me"], 2, "want each other"),
        (
            ["pull", "{registry}/echo:1", "--insecure", "--destination", "/dev/null/x"],
            2,
            "can't write",
        ),
        (["push", "{registry}/echo:1", "/no/file", "--insecure"], 3, "there is no file"),
        (["push", "{registry}/echo:1", "/dev/zero", "--insecure"], 2, "not a file"),
        (["push", "{registry}/echo:1", "/bin/ls", "--insecure"], 2, "lattice par create"),
        (["push", "{registry}/echo:1", "{module}", "--insecure", "-a", "x"], 2, "key=value"),
        (["push", "{registry}/echo@sha256:" + "0" * 64, "{module}"], 2, "push to a tag"),
        (["pull", "127.0.0.1:1/echo:1", "--insecure"], 4, "127.0.0.1:1"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
async def test_what_can_not_be_done_says_why(
    registry: str, module: str, arguments: list[str], status: int, text: str
) -> None:
    await run("push", f"{registry}/echo:1", module, "--insecure")
    outcome = await run(
        *(argument.format(registry=registry, module=module) for argument in arguments)
    )
    assert outcome.status == status, outcome.errors
    assert text in outcome.errors
    assert "Traceback" not in outcome.errors


async def test_a_pull_has_as_long_as_it_is_given(module: str) -> None:
    # A documentation address: nobody answers there, and nobody refuses.
    outcome = await run("pull", "192.0.2.1:5000/echo:1", "--insecure", "-t", "200")
    assert outcome.status == 4, outcome.errors
