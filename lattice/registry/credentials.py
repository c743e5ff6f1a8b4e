"""Who we are to which registry, and what we allow ourselves there."""

import asyncio
import base64
import binascii
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from lattice import errors, limits
from lattice.registry import references

log = structlog.get_logger()

DOCKER_CONFIG = Path("~/.docker/config.json")
"""Where ``docker login`` keeps what it was told."""

DOCKER_CONFIG_BYTES_MAX = limits.MIB
"""Far above what logins make of it; a wrong path must not be read whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """User and password, or a token; neither is ever in a log line or an error."""

    username: str | None = None
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    """Sent as it is, as a bearer token; where there is one, user and password are not used."""

    @property
    def basic(self) -> str | None:
        """User and password as HTTP wants them, if there are both."""
        if self.username is None or self.password is None:
            return None
        return base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


class RegistryAccess:
    """Credentials by registry, and which registries may be spoken to without TLS.

    What was ``put`` comes before what was set at the start, and that before docker's configuration.
    """

    def __init__(
        self,
        *,
        own: Mapping[str, Credentials] | None = None,
        docker_config: Path | None = None,
        allowed_insecure: Iterable[str] = (),
        allow_latest: bool = False,
        certificates: Path | None = None,
    ) -> None:
        """``own``: credentials set at the start. ``certificates``: of authorities to trust besides
        the system's.
        """
        self._own = {references.normal_registry(name): own for name, own in (own or {}).items()}
        self._put: dict[str, Credentials] = {}
        self._docker_config = docker_config
        self._insecure = frozenset(map(references.normal_registry, allowed_insecure))
        self.allow_latest = allow_latest
        """Whether references may leave it to the registry which version they mean."""
        self.certificates = certificates

    def put(self, given: Mapping[str, Credentials]) -> None:
        """Use these, by registry, from now on: all of them or, when one is refused, none.

        Raises:
            InvalidRequest: not the name of a registry.
            Overloaded: there are as many as may be.
        """
        accepted = {}
        for registry, credentials in given.items():
            name = references.normal_registry(registry)
            if not references.is_registry(name):
                raise errors.InvalidRequest(f"{registry[:200]!r} is not the name of a registry")
            accepted[name] = credentials
        if len(self._put | accepted) > limits.REGISTRIES_MAX:
            raise errors.Overloaded(
                f"a host has credentials of {limits.REGISTRIES_MAX} registries at the most"
            )
        self._put |= accepted

    def is_insecure(self, registry: str) -> bool:
        """Whether it is spoken to without TLS, in the clear."""
        return registry in self._insecure

    async def credentials(self, registry: str) -> Credentials | None:
        """Those in force for a registry; None means: as anybody."""
        found = self._put.get(registry) or self._own.get(registry)
        if found is None and self._docker_config is not None:
            # Read each time: somebody may have logged in meanwhile.
            found = await asyncio.to_thread(_from_docker, self._docker_config, registry)
        return found

    def check(self, reference: references.Reference) -> None:
        """Refuse what leaves the version to the registry, unless that is allowed.

        Raises:
            Denied: it is.
        """
        if reference.is_latest and not self.allow_latest:
            raise errors.Denied(
                f"{reference} names no version, and what {references.LATEST!r} is may change at"
                " any time: name a tag or a digest, or allow it with --allow-latest"
            )


def _from_docker(path: Path, registry: str) -> Credentials | None:
    try:
        path = path.expanduser()
        if path.stat().st_size > DOCKER_CONFIG_BYTES_MAX:
            raise ValueError("too large")
        config = json.loads(path.read_bytes())
        entries = config.get("auths") or {}
        for name, entry in entries.items():
            if references.normal_registry(name) == registry:
                return _entry(entry)
    except FileNotFoundError:
        return None
    except (OSError, RuntimeError, RecursionError, ValueError, AttributeError) as error:
        log.warning("docker's configuration can't be read", path=str(path), reason=str(error))
    return None


def _entry(entry: Mapping[str, Any]) -> Credentials | None:
    """One login; what a credential helper keeps is not there, and not asked for."""
    username, password = entry.get("username"), entry.get("password")
    if isinstance(auth := entry.get("auth"), str) and auth:
        try:
            username, _, password = base64.b64decode(auth, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            # Its text would show a part of the secret.
            raise ValueError("a login is not base64") from None
    token = entry.get("registrytoken")
    if isinstance(token, str) and token:
        return Credentials(token=token)
    if isinstance(username, str) and isinstance(password, str) and username and password:
        return Credentials(username=username, password=password)
    return None
