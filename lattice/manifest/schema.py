"""The format of a manifest: wadm's, an application of the Open Application Model.

Source: ``crates/wadm-types/src/lib.rs`` of wadm 0.21. Where wadm refuses unknown fields, so do we:
a misspelt field would otherwise be an application that silently is not what was meant. We are
milder in one thing: maps that wadm demands though they may be empty are optional.
"""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    model_validator,
)

API_VERSION = "core.oam.dev/v1beta1"
KIND = "Application"
LATEST = "latest"
"""No version may be called so: it stands for whatever was put last."""

VERSION_ANNOTATION = "version"
DESCRIPTION_ANNOTATION = "description"
SHARED_ANNOTATION = "experimental.wasmcloud.dev/shared"

WEIGHT = 100
"""Weight of a spread that names none."""

COUNT_MAX = 2**32 - 1
"""Counts travel as unsigned 32-bit numbers."""


class Part(BaseModel):
    """A piece of a manifest; unknown fields are errors unless a piece says otherwise."""

    model_config = ConfigDict(
        defer_build=True, extra="forbid", frozen=True, populate_by_name=True, strict=True
    )


def _none_as_empty_map(value: object) -> object:
    return {} if value is None else value


def _none_as_empty_list(value: object) -> object:
    return [] if value is None else value


StringMap = Annotated[dict[str, str], BeforeValidator(_none_as_empty_map)]


class Config(Part):
    """A named config: to be made with these properties, or, without any, one that exists."""

    name: str
    properties: dict[str, str] | None = Field(default=None, repr=False)


class SecretSource(Part):
    model_config = ConfigDict(extra="ignore")

    policy: str
    key: str
    field: str | None = None
    version: str | None = None


class Secret(Part):
    """A reference into a secrets backend; never the secret itself."""

    model_config = ConfigDict(extra="ignore")

    name: str
    properties: SecretSource


Configs = Annotated[list[Config], BeforeValidator(_none_as_empty_list)]
Secrets = Annotated[list[Secret], BeforeValidator(_none_as_empty_list)]


class SharedComponent(Part):
    """A component of another application."""

    model_config = ConfigDict(extra="ignore")

    name: str
    component: str


class Properties(Part):
    """What an actor or a provider is."""

    image: str | None = None
    application: SharedComponent | None = None
    id: str | None = None
    config: Configs = []
    secrets: Secrets = []


class Spread(Part):
    """A group of hosts by their labels, and its share."""

    name: str = "default"
    requirements: StringMap = {}
    weight: int | None = Field(default=None, ge=0, le=COUNT_MAX)


class Scale(Part):
    """How many, and where."""

    instances: int = Field(
        validation_alias=AliasChoices("instances", "replicas"), ge=0, le=COUNT_MAX
    )
    spread: Annotated[list[Spread], BeforeValidator(_none_as_empty_list)] = []


class LinkSide(Part):
    """Configuration for one end of a link."""

    model_config = ConfigDict(extra="ignore")

    config: Configs = []
    secrets: Secrets = []


class LinkTarget(LinkSide):
    name: str
    """A component of this manifest."""


class LinkProperties(Part):
    """A link from the component that has the trait. Unknown fields are ignored, as wadm does."""

    model_config = ConfigDict(extra="ignore")

    namespace: str
    package: str
    interfaces: list[str]
    source: LinkSide | None = None
    target: LinkTarget
    name: str = "default"
    outdated: tuple[str, ...] = Field(default=(), exclude=True)
    """Fields of before wadm 0.13 that were used."""

    @model_validator(mode="before")
    @classmethod
    def _of_older_form(cls, fields: object) -> object:
        """Take ``target`` as a name, with the configs beside it; ``source`` wins over both."""
        if not isinstance(fields, Mapping):
            return fields
        used = tuple(name for name in ("source_config", "target_config") if name in fields)
        new: dict[str, object] = {**fields, "outdated": used}
        if isinstance(target := fields.get("target"), str):
            new["target"] = {"name": target, "config": fields.get("target_config")}
        if fields.get("source") is None and "source_config" in fields:
            new["source"] = {"config": fields["source_config"]}
        if fields.get("name") is None:
            new.pop("name", None)
        return new


class LinkTrait(Part):
    type: Literal["link"]
    properties: LinkProperties


class SpreadTrait(Part):
    type: Literal["spreadscaler"]
    properties: Scale


class DaemonTrait(Part):
    type: Literal["daemonscaler"]
    properties: Scale


class CustomTrait(Part):
    """A trait of somebody else's; it means nothing here."""

    type: str
    properties: Any = None


def _kind_of_trait(value: object) -> str:
    kind = value.get("type") if isinstance(value, Mapping) else getattr(value, "type", None)
    return kind if kind in ("link", "spreadscaler", "daemonscaler") else "custom"


Trait = Annotated[
    Annotated[LinkTrait, Tag("link")]
    | Annotated[SpreadTrait, Tag("spreadscaler")]
    | Annotated[DaemonTrait, Tag("daemonscaler")]
    | Annotated[CustomTrait, Tag("custom")],
    Discriminator(_kind_of_trait),
]


def _actor_as_component(value: object) -> object:
    return "component" if value == "actor" else value


class Component(Part):
    """An actor or a provider of an application."""

    model_config = ConfigDict(extra="ignore")

    name: str
    type: Annotated[Literal["component", "capability"], BeforeValidator(_actor_as_component)]
    properties: Properties
    traits: Annotated[list[Trait], BeforeValidator(_none_as_empty_list)] = []

    @property
    def links(self) -> Iterator[LinkProperties]:
        return (trait.properties for trait in self.traits if isinstance(trait, LinkTrait))

    @property
    def scalers(self) -> Iterator[SpreadTrait | DaemonTrait]:
        return (trait for trait in self.traits if isinstance(trait, SpreadTrait | DaemonTrait))

    @property
    def secrets(self) -> Iterator[Secret]:
        """Its own and its links'."""
        for link in self.links:
            yield from link.target.secrets
            yield from link.source.secrets if link.source else ()
        yield from self.properties.secrets


class Policy(Part):
    model_config = ConfigDict(extra="ignore")

    name: str
    properties: StringMap = {}
    type: str


class Metadata(Part):
    model_config = ConfigDict(extra="ignore")

    name: str
    annotations: StringMap = {}
    labels: StringMap = {}


class Specification(Part):
    model_config = ConfigDict(extra="ignore")

    components: list[Component]
    policies: Annotated[list[Policy], BeforeValidator(_none_as_empty_list)] = []


class Manifest(Part):
    """An application: its actors and providers, how many of them where, and their links."""

    api_version: str = Field(alias="apiVersion")
    kind: str
    metadata: Metadata
    spec: Specification

    @property
    def name(self) -> str:
        return self.metadata.name

    @property
    def version(self) -> str | None:
        """The version that it says it is; None when it leaves that to whoever stores it."""
        return self.metadata.annotations.get(VERSION_ANNOTATION) or None

    @property
    def description(self) -> str | None:
        return self.metadata.annotations.get(DESCRIPTION_ANNOTATION)

    @property
    def shared(self) -> bool:
        """Whether other applications may use its components."""
        return self.metadata.annotations.get(SHARED_ANNOTATION) == "true"

    @property
    def components(self) -> list[Component]:
        return self.spec.components

    def component(self, name: str) -> Component | None:
        return next((part for part in self.components if part.name == name), None)
