"""What an operator may set on every program that joins a lattice by itself."""

from typing import Annotated, Literal

from pydantic import Field, FilePath, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from lattice import errors, limits, names, subjects
from lattice.bus import NatsSettings


def split_commas(value: object) -> object:
    """A setting of several values from its text, where it is text."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


class MemberSettings(BaseSettings):
    """Every field can be given as an environment variable, ``LATTICE_`` and its name."""

    model_config = SettingsConfigDict(env_prefix="LATTICE_", extra="ignore", frozen=True)

    lattice: str = names.DEFAULT_LATTICE
    """The lattice to join; lattices on one NATS system don't see each other."""

    nats_url: Annotated[tuple[str, ...], NoDecode, Field(min_length=1)] = (names.DEFAULT_NATS_URL,)
    """NATS servers, joined by commas; they may carry user and password."""

    nats_credentials: FilePath | None = None
    """A NATS credentials file (JWT and seed)."""

    nats_ca: FilePath | None = None
    """Certificates of the authority that signed the NATS servers'; system ones when absent."""

    replicas: int = Field(default=1, ge=1, le=limits.REPLICAS_MAX)
    """NATS servers that keep a copy of links, configs, apps and artefacts, when this program is the
    first to make their buckets; 3 on a cluster of three, to survive the loss of any one."""

    ctl_topic_prefix: str = subjects.CONTROL_PREFIX
    """Beginning of the control subjects; wasmCloud's ``WASMCLOUD_CTL_TOPIC_PREFIX``."""

    log_level: Literal["debug", "info", "warning", "error", "critical"] = "info"

    log_format: Literal["text", "json"] = "text"

    @field_validator("nats_url", mode="before")
    @classmethod
    def _split_servers(cls, value: object) -> object:
        return split_commas(value)

    @field_validator("lattice")
    @classmethod
    def _check_lattice(cls, value: str) -> str:
        try:
            return names.parse_lattice(value)
        except errors.InvalidRequest as error:
            raise ValueError(error.text) from None

    @field_validator("ctl_topic_prefix")
    @classmethod
    def _check_prefix(cls, value: str) -> str:
        try:
            return names.parse_control_prefix(value)
        except errors.InvalidRequest as error:
            raise ValueError(error.text) from None

    @property
    def nats(self) -> NatsSettings:
        return NatsSettings(
            servers=self.nats_url,
            credentials_file=str(self.nats_credentials) if self.nats_credentials else None,
            tls_ca_file=str(self.nats_ca) if self.nats_ca else None,
            replicas=self.replicas,
        )
