"""What an operator says of registries, and what becomes of it."""

from typing import Any

import pytest
from pydantic import ValidationError

from host.settings import HostSettings
from lattice.registry.credentials import Credentials

LOGIN = {"oci_registry": "ghcr.io", "oci_user": "alice", "oci_password": "secret"}


async def test_credentials_are_for_the_registry_that_is_named() -> None:
    settings = HostSettings(docker_config="/dev/null", **LOGIN)  # type: ignore[arg-type]
    known = await settings.registries.credentials("ghcr.io")
    assert known == Credentials(username="alice", password="secret")
    assert await settings.registries.credentials("docker.io") is None


@pytest.mark.parametrize("missing", LOGIN)
def test_half_a_login_is_refused(missing: str) -> None:
    given: dict[str, Any] = {key: value for key, value in LOGIN.items() if key != missing}
    with pytest.raises(ValidationError, match="want each other"):
        HostSettings(**given)


def test_the_password_is_in_no_log_line() -> None:
    settings = HostSettings(**LOGIN)  # type: ignore[arg-type]
    assert "secret" not in str(settings.model_dump(mode="json"))
    assert "secret" not in repr(settings)


def test_registries_without_tls_come_joined_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LATTICE_ALLOWED_INSECURE", "localhost:5000, 10.0.0.1")
    registries = HostSettings().registries
    assert registries.is_insecure("localhost:5000")
    assert registries.is_insecure("10.0.0.1")
    assert not registries.is_insecure("ghcr.io")
    assert not registries.allow_latest
