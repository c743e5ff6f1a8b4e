"""The provider handshake of wasmCloud 1.x: what a host tells a provider, at start and later.

Source: ``crates/core/src/{host,link}.rs`` and ``crates/provider-sdk/src/provider.rs`` of v1.9.2.
"""

import base64
import binascii
from typing import Any

from pydantic import Field, ValidationError, model_validator

from lattice import errors
from lattice.wire.control import Link, Wire, first_fault


class ResolvedLink(Wire):
    """A link as a provider sees it: with the values of its configs in place of their names."""

    source_id: str
    target: str
    name: str = "default"
    wit_namespace: str
    wit_package: str
    interfaces: list[str] = []
    source_config: dict[str, str] = {}
    target_config: dict[str, str] = {}
    source_secrets: list[int] | None = None
    target_secrets: list[int] | None = None

    @property
    def key(self) -> tuple[str, str, str, str, str]:
        """Two definitions of one key are the same link, the later one in force."""
        return (self.source_id, self.target, self.name, self.wit_namespace, self.wit_package)


def resolve(link: Link, source: dict[str, str], target: dict[str, str]) -> ResolvedLink:
    """The link with its merged source and target configs."""
    return ResolvedLink(
        **link.model_dump(exclude={"source_config", "target_config"}),
        source_config=source,
        target_config=target,
    )


class HostData(Wire):
    """What a provider reads from standard input when it starts."""

    host_id: str
    lattice_rpc_prefix: str
    """Name of the lattice."""
    link_name: str = "default"
    lattice_rpc_user_jwt: str = ""
    lattice_rpc_user_seed: str = ""
    lattice_rpc_url: str
    """Where NATS is; several servers are joined by commas."""
    provider_key: str
    """The provider's id."""
    env_values: dict[str, str] = {}
    instance_id: str
    link_definitions: list[ResolvedLink] = []
    cluster_issuers: list[str] = []
    config: dict[str, str] = {}
    secrets: dict[str, Any] = {}
    host_xkey_public_key: str = ""
    provider_xkey_private_key: str = ""
    default_rpc_timeout_ms: int = Field(default=2000, ge=1)
    structured_logging: bool = False
    log_level: str = "info"
    otel_config: dict[str, Any] = {"enable_observability": False, "protocol": "Http"}
    host_scoped: bool = False
    """Not in 1.x: links and configuration are told on subjects that end in the host's id, which
    the copies on other hosts, and other hosts, have no part in."""

    @property
    def telling_host(self) -> str | None:
        """What ``subjects.link_put`` and the like want to know."""
        return self.host_id if self.host_scoped else None

    def to_line(self) -> bytes:
        """The handshake: base64 of the JSON, and CRLF."""
        return base64.b64encode(self.model_dump_json().encode()) + b"\r\n"

    @classmethod
    def from_line(cls, line: bytes) -> "HostData":
        """Read the handshake.

        Raises:
            InvalidRequest: not base64, not JSON, or a field is wrong.
        """
        try:
            return cls.model_validate_json(base64.b64decode(line.strip(), validate=True))
        except binascii.Error as error:
            raise errors.InvalidRequest(
                f"standard input is not a host's handshake: {error}"
            ) from None
        except ValidationError as error:
            raise errors.InvalidRequest(
                f"standard input is not a host's handshake: {first_fault(error)}"
            ) from None

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, fields: object) -> object:
        """Some of 1.x's fields are optional there, and null when they are not set."""
        if not isinstance(fields, dict):
            return fields
        return {name: value for name, value in fields.items() if value is not None}


class Health(Wire):
    """A provider's answer to a health check."""

    healthy: bool
    message: str | None = None


class Shutdown(Wire):
    """Asks the copy of a provider on one host to end; the answer is ``SHUTDOWN_REPLY``."""

    host_id: str
    drain_ms: int | None = Field(default=None, ge=0)
    """Not in 1.x: how long what runs there has to end."""


SHUTDOWN_REPLY = b"shutting down"
