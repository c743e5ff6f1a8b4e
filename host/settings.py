"""What an operator may set on a host; parsed once, printed at start, passed down as values."""

import re
import secrets
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, FilePath, SecretStr, field_validator, model_validator
from pydantic_settings import NoDecode

from host.actors.world import Allowed, parse_allowed
from host.labels import is_own
from lattice import errors, limits, names
from lattice.identity import keys
from lattice.registry.credentials import DOCKER_CONFIG, Credentials, RegistryAccess
from lattice.settings import MemberSettings, split_commas

_ADJECTIVES = ("amber", "brisk", "calm", "dapper", "eager", "frosty", "gentle", "hardy", "quiet")
_NOUNS = ("badger", "comet", "delta", "falcon", "harbor", "island", "juniper", "otter", "willow")


def friendly_name() -> str:
    """``amber-otter-1234``, as wasmCloud names hosts."""
    number = secrets.randbelow(9000) + 1000
    return f"{secrets.choice(_ADJECTIVES)}-{secrets.choice(_NOUNS)}-{number}"


class HostSettings(MemberSettings):
    """Every field can be given as an environment variable, ``LATTICE_`` and its name."""

    host_seed: str | None = Field(default=None, repr=False)
    """nkey seed of the host (``SN…``); a new one at each start when absent."""

    name: str = Field(default_factory=friendly_name, max_length=names.NAME_CHARS_MAX)
    """Friendly name, shown beside the id."""

    labels: dict[str, str] = {}
    """What auctions and requirements match on, beside ``hostcore.*``."""

    trusted_issuers: Annotated[tuple[str, ...], NoDecode] = ()
    """Public keys (``A…``) of the accounts whose actors and providers this host starts, joined by
    commas; when empty it starts everybody's, and unsigned ones."""

    component_auction: bool = True
    """Whether this host bids in auctions for actors; it starts what it is told to in any case."""

    provider_auction: bool = True
    """Whether this host bids in auctions for providers."""

    reconcile: bool = True
    """Whether this host takes part in keeping the deployed apps as they shall be."""

    data_dir: Annotated[Path, Field(validate_default=True)] = Path("~/.cache/lattice")
    """Cache of compiled modules; may be deleted at any time."""

    allow_file_load: bool = False
    """Whether ``file://`` references may be started: whoever may send control requests could then
    run any file this host can read."""

    preopen: str = ""
    """Directories of this machine that actors may be given by name, joined by commas:
    ``media=/srv/media,scratch=/srv/scratch:rw``; read-only without ``:rw``."""

    allow_latest: bool = False
    """Whether a registry's ``latest``, said or unsaid, may be started: what that is may change from
    one start to the next."""

    allowed_insecure: Annotated[tuple[str, ...], NoDecode] = ()
    """Registries, joined by commas, that are spoken to without TLS: ``localhost:5000``."""

    oci_registry: str | None = None
    """The registry that ``oci_user`` and ``oci_password`` are for."""

    oci_user: str | None = None

    oci_password: SecretStr | None = None

    oci_ca: FilePath | None = None
    """Certificates of authorities that sign registries', besides the system's."""

    docker_config: Path = DOCKER_CONFIG
    """Where ``docker login`` keeps credentials: the last place they are looked for."""

    artefact_cache_bytes: int = Field(default=limits.ARTEFACT_CACHE_BYTES, ge=limits.MIB)
    """Fetched artefacts on disk; beyond it those go that were not used for longest."""

    heartbeat_s: float = Field(default=limits.HEARTBEAT_S, gt=0)
    """Seconds between ``host_heartbeat`` events; wadm forgets a host after 70 s without."""

    instances_max: int = Field(default=limits.INSTANCES_MAX, ge=1)
    """Running instances of all actors together; lowered to what the kernel allows."""

    memory_bytes: int = Field(default=limits.MEMORY_BYTES, ge=limits.KIB * 64)
    """Memory of one instance."""

    cpu_time_s: float = Field(default=limits.CPU_TIME_S, gt=0)
    """CPU time of one call."""

    guest_memory_bytes: int | None = Field(default=None, ge=limits.MIB)
    """Memory of all running instances together, beyond which no further one starts; three quarters
    of the machine's, or of its control group's, when absent."""

    throttle_traps: int = Field(default=limits.THROTTLE_TRAPS, ge=0)
    """Calls in a row, ended by a trap or a limit, until an actor is throttled; 0 for never."""

    throttle_s_max: float = Field(default=limits.THROTTLE_S_MAX, gt=0)
    """Longest time for which a throttled actor is not called."""

    provider_restarts_max: int = Field(default=limits.PROVIDER_RESTARTS_MAX, ge=0, le=1_000)
    """Restarts of one provider within ``provider_restart_window_s``; then it is given up."""

    provider_restart_window_s: float = Field(default=limits.PROVIDER_RESTART_WINDOW_S, gt=0)
    """Seconds for which a provider's crash counts."""

    mailbox_calls: int = Field(default=limits.MAILBOX_CALLS, ge=0)
    """Calls that may wait for one actor; beyond it ``overloaded``."""

    code_bytes: int = Field(default=limits.CODE_BYTES, ge=limits.MIB)
    """Memory of the compiled code of all actors; beyond it that of idle ones is dropped, and loaded
    again when they are called."""

    fuel: bool = False
    """Count instructions: exact and reproducible, and about half as fast on tight loops."""

    @field_validator("trusted_issuers", "allowed_insecure", mode="before")
    @classmethod
    def _split_commas(cls, value: object) -> object:
        return split_commas(value)

    @field_validator("data_dir")
    @classmethod
    def _expand_data_dir(cls, value: Path) -> Path:
        try:
            return value.expanduser()
        except RuntimeError:
            raise ValueError(f"there is no home directory for {value}") from None

    @field_validator("preopen")
    @classmethod
    def _check_preopen(cls, value: str) -> str:
        try:
            parse_allowed(value)
        except errors.InvalidRequest as error:
            raise ValueError(error.text) from None
        return value

    @field_validator("trusted_issuers")
    @classmethod
    def _check_issuers(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        try:
            for issuer in value:
                keys.parse_public(issuer, what="trusted issuer")
        except errors.InvalidRequest as error:
            raise ValueError(error.text) from None
        return value

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
            if is_own(key):
                raise ValueError(f"{key}: hostcore.* labels are the host's own")
        return value

    @field_validator("name")
    @classmethod
    def _check_name(cls, value: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9_.-]+", value):
            raise ValueError("want letters, digits, '_', '.' and '-'")
        return value

    @property
    def auctions(self) -> tuple[str, ...]:
        """The nouns of the auctions in which the host bids."""
        switches = {"component": self.component_auction, "provider": self.provider_auction}
        return tuple(noun for noun, on in switches.items() if on)

    @model_validator(mode="after")
    def _check_registry(self) -> Self:
        given = [self.oci_registry, self.oci_user, self.oci_password]
        if any(given) and not all(given):
            raise ValueError("oci_registry, oci_user and oci_password want each other")
        return self

    @property
    def preopens(self) -> dict[str, Allowed]:
        """Directories that actors may be given, by name."""
        return parse_allowed(self.preopen)

    @property
    def registries(self) -> RegistryAccess:
        """What this host may do at which registry, before the control plane tells it more."""
        own = {}
        if self.oci_registry and self.oci_password:
            own[self.oci_registry] = Credentials(
                username=self.oci_user, password=self.oci_password.get_secret_value()
            )
        return RegistryAccess(
            own=own,
            docker_config=self.docker_config,
            allowed_insecure=self.allowed_insecure,
            allow_latest=self.allow_latest,
            certificates=self.oci_ca,
        )
