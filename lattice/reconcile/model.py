"""What the reconciler sees, remembers and decides: values only, no I/O and no clock.

A decision is a function of the apps, of the lattice as observed and of the memory. The memory
holds everything that must outlive a leader: whoever reads it back decides as the one before would
have. Times are wall-clock seconds, because they are compared across machines.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict

from lattice.manifest import DesiredApp
from lattice.wire import control
from lattice.wire.control import Link, LinkKey

HostState = Literal["alive", "suspect", "dead"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedComponent:
    """An actor on one host."""

    reference: str
    count: int
    annotations: Mapping[str, str] = field(default_factory=dict)
    calls: int | None = None
    """Calls ended since it started, None where nobody counts."""
    failures: int | None = None
    """How many of them failed by the actor's own fault."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedProvider:
    """A provider on one host."""

    reference: str
    annotations: Mapping[str, str] = field(default_factory=dict)
    healthy: bool | None = None
    """What its last health check said, None when there was none."""
    given_up: str | None = None
    """Why its host has ceased to start it again: then it does not run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedHost:
    """A host whose inventory is known; one that is not must not be observed at all."""

    id: str
    name: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    state: HostState = "alive"
    draining: bool = False
    components: Mapping[str, ObservedComponent] = field(default_factory=dict)
    """By id."""
    providers: Mapping[str, ObservedProvider] = field(default_factory=dict)
    """By id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """The lattice as it is known to be."""

    hosts: Mapping[str, ObservedHost] = field(default_factory=dict)
    """By id."""
    links: tuple[Link, ...] = ()
    configs: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """By name, references to secrets among them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleComponent:
    """Have a host run an actor with this image, these configs and this count; 0 stops it.

    Where it runs with another image it is updated, and no call fails by it.
    """

    host: str
    component: str
    reference: str
    count: int
    annotations: Mapping[str, str]
    config: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        return component_key(self.host, self.component)

    @property
    def request(self) -> control.ScaleComponent:
        return control.ScaleComponent(
            component_ref=self.reference,
            component_id=self.component,
            annotations=dict(self.annotations),
            count=self.count,
            host_id=self.host,
            config=list(self.config),
            allow_update=True,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StartProvider:
    host: str
    provider: str
    reference: str
    annotations: Mapping[str, str]
    config: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        return provider_key(self.host, self.provider)

    @property
    def request(self) -> control.StartProvider:
        return control.StartProvider(
            provider_id=self.provider,
            provider_ref=self.reference,
            host_id=self.host,
            config=list(self.config),
            annotations=dict(self.annotations),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StopProvider:
    host: str
    provider: str

    @property
    def key(self) -> str:
        return provider_key(self.host, self.provider)

    @property
    def request(self) -> control.StopProvider:
        return control.StopProvider(host_id=self.host, provider_id=self.provider)


@dataclass(frozen=True, slots=True, kw_only=True)
class PutLink:
    link: Link

    @property
    def key(self) -> str:
        return link_key(self.link.order)

    @property
    def request(self) -> Link:
        return self.link


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteLink:
    link: Link

    @property
    def key(self) -> str:
        return link_key(self.link.order)

    @property
    def request(self) -> control.DeleteLink:
        return control.DeleteLink(
            source_id=self.link.source_id,
            name=self.link.name,
            wit_namespace=self.link.wit_namespace,
            wit_package=self.link.wit_package,
            target=self.link.target,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PutConfig:
    name: str
    values: Mapping[str, str] = field(repr=False)

    @property
    def key(self) -> str:
        return config_key(self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteConfig:
    name: str

    @property
    def key(self) -> str:
        return config_key(self.name)


Command = (
    ScaleComponent | StartProvider | StopProvider | PutLink | DeleteLink | PutConfig | DeleteConfig
)
"""Every one says what shall be, never what shall change, so that repeating it is harmless."""


def component_key(host: str, component: str) -> str:
    """What attempts at an actor on a host are remembered by."""
    return f"component/{host}/{component}"


def provider_key(host: str, provider: str) -> str:
    """What attempts at a provider on a host are remembered by."""
    return f"provider/{host}/{provider}"


def link_key(order: LinkKey) -> str:
    return "link/" + "/".join(order)


def config_key(name: str) -> str:
    return f"config/{name}"


def digest(*values: object) -> str:
    """A short fingerprint of values that JSON can tell, links among them."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _plain(value: object) -> object:
    if isinstance(value, BaseModel):
        return value.model_dump()
    assert isinstance(value, Mapping)
    return dict(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A command to carry out now, for an app, and why: a sentence for a person."""

    command: Command
    reason: str
    app: str


class Status(StrEnum):
    """How far an app or one of its parts is, in wadm's words; the gravest first."""

    FAILED = "failed"
    UNDEPLOYED = "undeployed"
    WAITING = "waiting"
    RECONCILING = "reconciling"
    UNHEALTHY = "unhealthy"
    DEPLOYED = "deployed"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalerStatus:
    """How far one part of an app is."""

    id: str
    kind: str
    """``SpreadScaler``, ``DaemonScaler`` or ``LinkScaler``, as wadm calls them."""
    name: str
    status: Status
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AppStatus:
    """How far an app is: the gravest status of its parts."""

    status: Status
    message: str = ""
    scalers: tuple[ScalerStatus, ...] = ()
    version: str | None = None
    """Which version is in force: the one before while and after rolling back."""
    gone: bool = False
    """Nothing of it is left in the lattice, so that its record may be deleted."""


class Stored(BaseModel):
    """A value that is stored as JSON; unknown fields of a newer version are ignored."""

    model_config = ConfigDict(defer_build=True, extra="ignore")


class ManifestVersion(Stored):
    version: str
    manifest: str
    """The text as it was put."""


class AppRecord(Stored):
    """What is stored of an app."""

    name: str
    versions: list[ManifestVersion] = []
    """Oldest first."""
    deployed: str | None = None
    """The version that was deployed; None when the app is undeployed."""
    previous: str | None = None
    """The version that was deployed before; what a rollout falls back to when nothing better is
    remembered."""
    generation: int = 0
    """Grows with every deploy and undeploy: deploying a version again gives it another chance."""
    deleting: bool = False
    """To be undeployed, and then forgotten."""

    def manifest(self, version: str | None) -> str | None:
        """The text of a version, None when there is none."""
        return next((kept.manifest for kept in self.versions if kept.version == version), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class App:
    """An app to decide for: what shall be, and what was."""

    name: str
    generation: int = 0
    desired: DesiredApp | None = None
    """None when it is undeployed."""
    previous: str | None = None
    """The version that was deployed before."""
    fallbacks: Mapping[str, DesiredApp] = field(default_factory=dict)
    """Versions by name, for a rollout to go back to."""
    error: str | None = None
    """Why ``desired`` can't be told, though a version is deployed; then nothing is touched."""
    deleting: bool = False


class Attempt(Stored):
    """A command that was sent and whose effect has not been seen."""

    command: str
    """Fingerprint: another command for the same key is sent at once."""
    until: float
    """When it may be sent again."""
    count: int = 0
    """How many instances there will be on that host once it took effect."""
    tries: int = 1
    failures: int = 0
    """How often in a row it was refused."""
    refused: bool = False
    """Whether the last try was, so that nothing of it is under way."""
    error: str = ""
    """What the last refusal said."""


class Seen(Stored):
    """A changed entity that has come up on a host of the current batch."""

    since: float
    calls: int | None = None
    failures: int | None = None


class Rollout(Stored):
    """A change of version under way, or one that failed."""

    generation: int
    target: str
    base: str
    """The version to fall back to."""
    phase: Literal["configs", "rolling", "rolled_back"] = "rolling"
    hosts: list[str] = []
    """The batch that is being changed."""
    started: float = 0.0
    """When the batch was begun."""
    seen: dict[str, Seen] = {}
    """By attempt key, for the batch."""
    passed: list[str] = []
    """Hosts behind the gate."""
    reason: str = ""
    """Why it was rolled back."""


class AppMemory(Stored):
    """What is remembered of one app."""

    generation: int = -1
    stable: str | None = None
    """The version that was last deployed in full."""
    rollout: Rollout | None = None
    links: dict[str, str] = {}
    """Links it owns, by key: fingerprint of the link and of the configs it was put with."""
    configs: list[str] = []
    """Configs it owns."""
    deleting: bool = False
    """Whether it was told to go; an app whose record is missing without that is left alone."""
    gone_at: float | None = None
    """Since when its record is gone; hosts that return later may still bring some of it back."""


class Memory(Stored):
    """Everything a decision knows but what is desired and observed. Never changed in place."""

    apps: dict[str, AppMemory] = {}
    attempts: dict[str, Attempt] = {}
    """By ``Command.key``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What to do now. The memory is to be stored before the steps are carried out."""

    steps: list[Step]
    memory: Memory
    statuses: Mapping[str, AppStatus]
    wake_at: float | None = None
    """When to decide again though nothing changed; None for not before something does."""


def aggregate(statuses: Sequence[Status]) -> Status:
    """The gravest; of nothing, ``undeployed``."""
    return next((status for status in Status if status in statuses), Status.UNDEPLOYED)
