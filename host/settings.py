"""What an operator may set on a host; parsed once, printed at start, passed down as values."""

import re
import secrets
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, FilePath, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from lattice import errors, limits, names
from lattice.bus import NatsSettings
from lattice.identity import keys

_ADJECTIVES = ("amber", "brisk", "calm", "dapper", "eager", "frosty", "gentle", "hardy", "quiet")
_NOUNS = ("badger", "comet", "delta", "falcon", "harbor", "island", "juniper", "otter", "willow")


def friendly_name() -> str:
    """``amber-otter-1234``, as wasmCloud names hosts."""
    number = secrets.randbelow(9000) + 1000
    return f"{secrets.choice(_ADJECTIVES)}-{secrets.choice(_NOUNS)}-{number}"


class HostSettings(BaseSettings):
    """Every field can be given as an environment variable, ``LATTICE_`` and its name."""

    model_config = SettingsConfigDict(env_prefix="LATTICE_", extra="ignore", frozen=True)

    lattice: str = names.DEFAULT_LATTICE
    """The lattice to join; lattices on one NATS system don't see each other."""

    nats_url: Annotated[tuple[str, ...], NoDecode, Field(min_length=1)] = ("nats://127.0.0.1:4222",)
    """NATS servers, joined by commas; they may carry user and password."""

    nats_credentials: FilePath | None = None
    """A NATS credentials file (JWT and seed)."""

    nats_ca: FilePath | None = None
    """Certificates of the authority that signed the NATS servers'; system ones when absent."""

    host_seed: str | None = Field(default=None, repr=False)
    """nkey seed of the host (``SN…``); a new one at each start when absent."""

    name: str = Field(default_factory=friendly_name, max_length=names.NAME_CHARS_MAX)
    """Friendly name, shown beside the id."""

    labels: dict[str, str] = {}
    """What auctions and requirements match on, beside ``hostcore.*``."""

    data_dir: Path = Path("~/.cache/lattice")
    """Cache of compiled modules; may be deleted at any time."""

    allow_file_load: bool = False
    """Whether ``file://`` references may be started: whoever may send control requests could then
    run any file this host can read."""

    log_level: Literal["debug", "info", "warning", "error", "critical"] = "info"

    log_format: Literal["text", "json"] = "text"

    heartbeat_s: float = Field(default=limits.HEARTBEAT_S, gt=0)
    """Seconds between ``host_heartbeat`` events; wadm forgets a host after 70 s without."""

    instances_max: int = Field(default=limits.INSTANCES_MAX, ge=1)
    """Running instances of all actors together; lowered to what the kernel allows."""

    memory_bytes: int = Field(default=limits.MEMORY_BYTES, ge=limits.KIB * 64)
    """Memory of one instance."""

    cpu_time_s: float = Field(default=limits.CPU_TIME_S, gt=0)
    """CPU time of one call."""

    mailbox_calls: int = Field(default=limits.MAILBOX_CALLS, ge=0)
    """Calls that may wait for one actor; beyond it ``overloaded``."""

    fuel: bool = False
    """Count instructions: exact and reproducible, and about half as fast on tight loops."""

    @field_validator("nats_url", mode="before")
    @classmethod
    def _split_servers(cls, value: object) -> object:
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

    @field_validator("host_seed")
    @classmethod
    def _check_host_seed(cls, value: str | None) -> str | None:
        try:
            keys.host_id(value or keys.new_host_seed())
        except errors.InvalidRequest as error:
            raise ValueError(error.text) from None
        return value

    @field_validator("labels")
    @classmethod
    def _check_labels(cls, value: dict[str, str]) -> dict[str, str]:
        for key in value:
            if key.lower().startswith("hostcore."):
                raise ValueError(f"{key}: hostcore.* labels are the host's own")
        return value

    @field_validator("name")
    @classmethod
    def _check_name(cls, value: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9_.-]+", value):
            raise ValueError("want letters, digits, '_', '.' and '-'")
        return value

    @property
    def nats(self) -> NatsSettings:
        return NatsSettings(
            servers=self.nats_url,
            credentials_file=str(self.nats_credentials) if self.nats_credentials else None,
            tls_ca_file=str(self.nats_ca) if self.nats_ca else None,
        )
