"""What an operator may set on a reconciler that runs alone; a host has its own settings."""

import socket
from typing import Annotated, Literal

from pydantic import Field, FilePath, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from lattice import errors, limits, names, subjects
from lattice.bus import NatsSettings


class ReconcilerSettings(BaseSettings):
    """Every field is given as an environment variable, ``LATTICE_`` and its name, as a host's."""

    model_config = SettingsConfigDict(env_prefix="LATTICE_", extra="ignore", frozen=True)

    lattice: str = names.DEFAULT_LATTICE

    nats_url: Annotated[tuple[str, ...], NoDecode, Field(min_length=1)] = ("nats://127.0.0.1:4222",)
    """NATS servers, joined by commas; they may carry user and password."""

    nats_credentials: FilePath | None = None

    nats_ca: FilePath | None = None

    replicas: int = Field(default=1, ge=1, le=limits.REPLICAS_MAX)
    """NATS servers that keep a copy of apps, when this is the first to make their buckets."""

    name: str = Field(
        default_factory=lambda: f"reconciler-{socket.gethostname()}"[: names.NAME_CHARS_MAX],
        max_length=names.NAME_CHARS_MAX,
    )
    """Shown where people look."""

    ctl_topic_prefix: str = subjects.CONTROL_PREFIX

    log_level: Literal["debug", "info", "warning", "error", "critical"] = "info"

    log_format: Literal["text", "json"] = "text"

    @field_validator("nats_url", mode="before")
    @classmethod
    def _split_commas(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

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
