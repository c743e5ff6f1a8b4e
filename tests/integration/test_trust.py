"""Signed and unsigned code: what a host starts, what it says of it, and what it refuses."""

import sys
import time
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from host.settings import HostSettings
from lattice import subjects
from lattice.wire.control import ScaleComponent, UpdateComponent
from tests.support.cluster import Cluster, LocalHost
from tests.support.signing import Author, forged
from tests.support.wat import actor as assembled

PARROT = f"#!/bin/sh\nexec {sys.executable} -m providers.sdk parrot\n".encode()


@pytest.fixture
async def alpha(cluster: Cluster) -> LocalHost:
    (host,) = await cluster.start_hosts(1, allow_file_load=True)
    return host


@pytest.fixture
def author() -> Author:
    return Author()


async def test_a_signed_actor_runs_and_its_claims_are_told(
    cluster: Cluster, alpha: LocalHost, author: Author
) -> None:
    expires = int(time.time()) + 3600
    wasm = author.sign(
        assembled("echo"),
        name="Echo",
        revision=7,
        version="1.2.3",
        tags=("a", "b"),
        expires=expires,
    )
    started = await cluster.start_actor("echo", on=alpha, wasm=wasm)
    assert await cluster.call("echo", payload=b"hi") == b"hi"
    assert started.data["claims"] == {
        "call_alias": None,
        "issuer": author.id,
        "tags": ["a", "b"],
        "name": "Echo",
        "version": "1.2.3",
        "revision": 7,
        "not_before_human": "never",
        "expires_human": str(expires),
    }
    subject = started.data["public_key"]
    (component,) = (await cluster.control.inventory(alpha.id)).components
    assert (component.name, component.revision) == ("Echo", 7)
    assert await cluster.control.claims() == [
        {
            "call_alias": "",
            "iss": author.id,
            "issuer": author.id,
            "name": "Echo",
            "rev": "7",
            "revision": "7",
            "sub": subject,
            "subject": subject,
            "tags": "a,b",
            "version": "1.2.3",
        }
    ]
    bucket = await cluster.bus.bucket(subjects.state_bucket(cluster.lattice))
    assert await bucket.get(f"CLAIMS_{subject}") is not None
    stopped = await cluster.scale("echo", on=alpha, count=0)
    assert stopped.data["public_key"] == subject


async def test_an_unsigned_actor_says_nothing_of_claims(cluster: Cluster, alpha: LocalHost) -> None:
    started = await cluster.start_actor("echo", on=alpha)
    assert started.data.keys().isdisjoint({"claims", "public_key"})
    assert await cluster.control.claims() == []


@pytest.mark.parametrize(
    ("facts", "text"),
    [
        ({"expires": 1_000}, "expired"),
        ({"not_before": 4_000_000_000}, "not valid before"),
        (None, "was changed after"),
    ],
    ids=["expired", "not yet valid", "changed"],
)
async def test_an_actor_with_bad_claims_is_denied(
    cluster: Cluster, alpha: LocalHost, author: Author, facts: dict[str, Any] | None, text: str
) -> None:
    wasm = author.sign(assembled("echo"), **(facts or {}))
    reference = await cluster.upload("echo", wasm if facts else forged(wasm))
    failed = await cluster.scale("echo", on=alpha, component_ref=reference, count=1)
    assert (failed.name, failed.data["code"]) == ("component_scale_failed", "denied")
    assert text in failed.data["error"]
    assert (await cluster.control.inventory(alpha.id)).components == []
    assert await cluster.control.claims() == []


async def test_a_host_with_trusted_issuers_runs_nothing_else(
    cluster: Cluster, author: Author
) -> None:
    (host,) = await cluster.start_hosts(1, trusted_issuers=author.id)
    stranger = Author()
    await cluster.start_actor("ours", on=host, wasm=author.sign(assembled("echo")))
    refused = {
        "unsigned": (assembled("echo"), "not signed"),
        "foreign": (stranger.sign(assembled("echo")), stranger.id),
    }
    for name, (wasm, text) in refused.items():
        reference = await cluster.upload(name, wasm)
        failed = await cluster.scale(name, on=host, component_ref=reference, count=1)
        assert (failed.name, failed.data["code"]) == ("component_scale_failed", "denied")
        assert text in failed.data["error"]
        # Nor by the back door.
        failed = await cluster.scale(
            "ours", on=host, component_ref=reference, count=1, allow_update=True
        )
        assert failed.data["code"] == "denied"
        await cluster.control.update_component(
            UpdateComponent(component_id="ours", host_id=host.id, new_component_ref=reference)
        )
        await cluster.event(
            "component_scale_failed", component_id="ours", image_ref=reference, count=2
        )
    (component,) = (await cluster.control.inventory(host.id)).components
    assert component.id == "ours"
    assert await cluster.call("ours", payload=b"hi") == b"hi"


async def test_an_update_brings_its_own_claims(
    cluster: Cluster, alpha: LocalHost, author: Author
) -> None:
    first = author.sign(assembled("echo"), name="first", revision=1)
    second = author.sign(assembled("echo"), name="second", revision=2)
    await cluster.start_actor("echo", on=alpha, wasm=first)
    await cluster.control.scale_component(
        ScaleComponent(
            component_id="echo",
            host_id=alpha.id,
            component_ref=await cluster.upload("echo", second),
            count=1,
            allow_update=True,
        )
    )
    scaled = await cluster.event("component_scaled", max_instances=1)
    assert scaled.data["claims"]["name"] == "second"
    (component,) = (await cluster.control.inventory(alpha.id)).components
    assert (component.name, component.revision) == ("second", 2)
    assert [claims["name"] for claims in await cluster.control.claims()] in (
        ["first", "second"],
        ["second", "first"],
    )


async def test_a_signed_provider_runs_and_its_claims_are_told(
    cluster: Cluster, alpha: LocalHost, author: Author, tmp_path: Path
) -> None:
    archive = tmp_path / "parrot.par"
    archive.write_bytes(author.pack(PARROT, name="Parrot", revision=3, version="0.1.0"))
    started = await cluster.start_provider("bird", f"file://{archive}", on=alpha)
    assert started.data["claims"] == {
        "issuer": author.id,
        "tags": None,
        "name": "Parrot",
        "version": "0.1.0",
        "not_before_human": "never",
        "expires_human": "never",
    }
    assert {started.data[key] for key in ("provider_id", "instance_id", "public_key")} == {"bird"}
    (provider,) = (await cluster.control.inventory(alpha.id)).providers
    assert (provider.name, provider.revision) == ("Parrot", 3)
    (claims,) = await cluster.control.claims()
    assert (claims["name"], claims["config_schema"]) == ("Parrot", "")
    await cluster.link("tester", "bird")
    assert await cluster.call("bird", "Parrot.Repeat", b"hello") == b"hello"


@pytest.mark.parametrize("signed", [True, False], ids=["a stranger's", "unsigned"])
async def test_a_host_with_trusted_issuers_runs_no_other_provider(
    cluster: Cluster, author: Author, tmp_path: Path, signed: bool
) -> None:
    (host,) = await cluster.start_hosts(1, allow_file_load=True, trusted_issuers=author.id)
    program = tmp_path / "provider"
    program.write_bytes(Author().pack(PARROT) if signed else PARROT)
    program.chmod(0o700)
    failed = await cluster.start_provider(
        "bird", f"file://{program}", on=host, expected="provider_start_failed"
    )
    assert failed.data["code"] == "denied"
    # What is installed on the host was chosen by whoever runs it.
    await cluster.start_provider("bird", "lattice+builtin://parrot", on=host)


@pytest.mark.parametrize("issuer", ["A", "SAAB", "X" * 56])
def test_a_trusted_issuer_that_is_no_key_is_refused(issuer: str) -> None:
    with pytest.raises(ValidationError, match="not a public nkey"):
        HostSettings.model_validate({"trusted_issuers": issuer})


def test_trusted_issuers_are_joined_by_commas() -> None:
    issuers = (Author().id, Author().id)
    settings = HostSettings.model_validate({"trusted_issuers": ", ".join(issuers)})
    assert settings.trusted_issuers == issuers
