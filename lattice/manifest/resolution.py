"""What an application means in a lattice: ids, configs, links and how many of what run where.

Names, ids and annotations are wadm's to the letter (``crates/wadm/src/scaler/convert.rs`` of wadm
0.21), so that an application which a wadm deployed is taken over as it runs.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from lattice import errors
from lattice.manifest import schema
from lattice.manifest.schema import Component, Config, Manifest, Policy, Secret
from lattice.wire.control import Link

MANAGED_BY_ANNOTATION = "wasmcloud.dev/managed-by"
MANAGED_BY = "wadm"
"""Value of the annotation above; also ours, as stock tools look for it."""
APP_ANNOTATION = "wasmcloud.dev/appspec"
SCALER_ANNOTATION = "wasmcloud.dev/scaler"
SPREAD_ANNOTATION = "wasmcloud.dev/spread_name"

SECRET_TYPE = "secret.wasmcloud.dev/v1alpha1"  # noqa: S105 - a type, not a secret
SECRET_PROPERTIES_TYPE = "properties.secret.wasmcloud.dev/v1alpha1"  # noqa: S105

ROLLOUT = "lattice.dev/rollout"
ROLLOUT_GATE = "lattice.dev/rollout-gate-seconds"
ROLLOUT_DEADLINE = "lattice.dev/rollout-deadline-seconds"
ROLLOUT_UNAVAILABLE = "lattice.dev/rollout-max-unavailable"
ROLLOUT_FAILURES = "lattice.dev/rollout-failures-allowed"

SECONDS_MAX = 86_400.0
"""Longest time that a rollout's annotation may name: a day."""

EntityKind = Literal["component", "provider"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutPolicy:
    """How another version of an application replaces the one that runs; set by annotations."""

    strategy: Literal["rolling", "at-once"] = "rolling"
    """``lattice.dev/rollout``: host by host behind a health gate, or everywhere and unwatched."""
    gate_s: float = 5.0
    """``…-gate-seconds``: how long what is new must stay well before the next host follows."""
    deadline_s: float = 120.0
    """``…-deadline-seconds``: how long one host may take, its gate included."""
    max_unavailable: int = 1
    """``…-max-unavailable``: hosts that are changed at the same time."""
    failures_allowed: int = 0
    """``…-failures-allowed``: failed calls of a new actor that one host's gate lets pass."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Hosts that have certain labels, and their share."""

    name: str = "default"
    requirements: Mapping[str, str] = field(default_factory=dict)
    weight: int = schema.WEIGHT

    def takes(self, labels: Mapping[str, str]) -> bool:
        if not self.requirements:
            return True
        return all(labels.get(key) == value for key, value in self.requirements.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class DesiredScaler:
    """An actor or a provider, how many of it, and where."""

    id: str
    """wadm's: another image or other configs make it another scaler, another count does not."""
    app: str
    component: str
    """Its name in the manifest."""
    kind: EntityKind
    entity: str
    """The actor's or provider's id."""
    reference: str
    config: tuple[str, ...] = ()
    """Names of configs and of references to secrets, in order."""
    daemon: bool = False
    """Whether ``instances`` run on every host that a group takes."""
    instances: int = 1
    groups: tuple[Group, ...] = (Group(),)

    @property
    def type(self) -> str:
        return "DaemonScaler" if self.daemon else "SpreadScaler"

    def annotations(self, group: str) -> dict[str, str]:
        """What marks an instance as one of this scaler's."""
        return {
            MANAGED_BY_ANNOTATION: MANAGED_BY,
            APP_ANNOTATION: self.app,
            SCALER_ANNOTATION: self.id,
            SPREAD_ANNOTATION: group,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class DesiredLink:
    id: str
    link: Link

    @property
    def name(self) -> str:
        """What wadm calls it where people look."""
        link = self.link
        return f"{link.source_id} -({link.wit_namespace}:{link.wit_package})-> {link.target}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DesiredConfig:
    """A named config."""

    name: str
    values: Mapping[str, str] | None = field(default=None, repr=False)
    """None for one that somebody else keeps: it has to be there, and is not ours to change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedReference:
    """A component of another application that this one uses."""

    name: str
    """What it is called here."""
    app: str
    component: str
    kind: EntityKind


@dataclass(frozen=True, slots=True, kw_only=True)
class DesiredApp:
    """Everything that one version of an application wants."""

    name: str
    version: str
    scalers: tuple[DesiredScaler, ...] = ()
    links: tuple[DesiredLink, ...] = ()
    configs: tuple[DesiredConfig, ...] = ()
    uses: tuple[SharedReference, ...] = ()
    shares: Mapping[str, EntityKind] = field(default_factory=dict)
    """Its components by name, when other applications may use them."""
    rollout: RolloutPolicy = RolloutPolicy()


def desired(manifest: Manifest, version: str) -> DesiredApp:
    """What a version of an application wants.

    Raises:
        InvalidRequest: the manifest has an error that ``validate`` finds as well.
    """
    policies = {policy.name: policy for policy in manifest.spec.policies}
    configs: dict[str, DesiredConfig] = {}
    scalers: list[DesiredScaler] = []
    links: list[DesiredLink] = []
    uses: list[SharedReference] = []

    def wanted(some: Iterable[Config], secrets: Iterable[Secret]) -> tuple[str, ...]:
        """Note down configs and references, and give their names."""
        wanted_configs = [
            *(
                DesiredConfig(name=config_name(manifest, one), values=one.properties)
                for one in some
            ),
            *(_secret(manifest, secret, policies) for secret in secrets),
        ]
        for config in wanted_configs:
            # One that is made here wins over a mention of it.
            if config.values is not None or config.name not in configs:
                configs[config.name] = config
        return tuple(config.name for config in wanted_configs)

    for component in manifest.components:
        if shared := component.properties.application:
            uses.append(
                SharedReference(
                    name=component.name,
                    app=shared.name,
                    component=shared.component,
                    kind=_kind(component),
                )
            )
        else:
            config = wanted(component.properties.config, component.properties.secrets)
            scalers += _scalers(manifest, component, config)
        for link in component.links:
            target = manifest.component(link.target.name)
            if target is None:
                raise errors.InvalidRequest(f"{link.target.name!r} is not a component of the app")
            if _kind(component) == _kind(target) == "provider":
                # They don't call each other, in wadm nor here.
                continue
            side = link.source or schema.LinkSide()
            links.append(
                _link(
                    manifest,
                    Link(
                        source_id=identify(manifest, component),
                        target=identify(manifest, target),
                        name=link.name,
                        wit_namespace=link.namespace,
                        wit_package=link.package,
                        interfaces=link.interfaces,
                        source_config=list(wanted(side.config, side.secrets)),
                        target_config=list(wanted(link.target.config, link.target.secrets)),
                    ),
                )
            )
    return DesiredApp(
        name=manifest.name,
        version=version,
        scalers=tuple(scalers),
        links=tuple(links),
        configs=tuple(configs.values()),
        uses=tuple(uses),
        shares={part.name: _kind(part) for part in manifest.components} if manifest.shared else {},
        rollout=rollout_policy(manifest),
    )


def missing_shared(app: DesiredApp, deployed: Iterable[DesiredApp]) -> list[str]:
    """The components by which an app uses others' that no deployed app shares."""
    shared = {
        (other.name, component): kind
        for other in deployed
        for component, kind in other.shares.items()
    }
    return [use.name for use in app.uses if shared.get((use.app, use.component)) != use.kind]


def identify(manifest: Manifest, component: Component) -> str:
    """The id of the actor or provider that a component stands for, here or in another app."""
    if component.properties.id is not None:
        return component.properties.id
    if shared := component.properties.application:
        return _joined(shared.name, shared.component)
    return _joined(manifest.name, component.name)


def config_name(manifest: Manifest, config: Config) -> str:
    """What a config is called in the lattice: its own name when somebody else keeps it."""
    return config.name if config.properties is None else _joined(manifest.name, config.name)


def configs_of(component: Component) -> Iterator[Config]:
    """Every config that a component mentions, in its links as well."""
    yield from component.properties.config
    for link in component.links:
        yield from link.target.config
        yield from link.source.config if link.source else ()


def rollout_policy(manifest: Manifest) -> RolloutPolicy:
    """How the manifest wants to be rolled out.

    Raises:
        InvalidRequest: an annotation's value makes no sense.
    """
    annotations = manifest.metadata.annotations
    plain = RolloutPolicy()
    strategy: Literal["rolling", "at-once"]
    match annotations.get(ROLLOUT, plain.strategy):
        case "rolling":
            strategy = "rolling"
        case "at-once":
            strategy = "at-once"
        case other:
            raise errors.InvalidRequest(f"{ROLLOUT} is {other!r}: want rolling or at-once")
    policy = RolloutPolicy(
        strategy=strategy,
        gate_s=_seconds(annotations, ROLLOUT_GATE, plain.gate_s),
        deadline_s=_seconds(annotations, ROLLOUT_DEADLINE, plain.deadline_s),
        max_unavailable=_count(annotations, ROLLOUT_UNAVAILABLE, plain.max_unavailable, least=1),
        failures_allowed=_count(annotations, ROLLOUT_FAILURES, plain.failures_allowed, least=0),
    )
    if policy.deadline_s <= policy.gate_s:
        raise errors.InvalidRequest(
            f"{ROLLOUT_DEADLINE} must be more than {ROLLOUT_GATE}, or no host could pass"
        )
    return policy


def _kind(component: Component) -> EntityKind:
    return "provider" if component.type == "capability" else "component"


def _joined(app: str, name: str) -> str:
    return f"{_sanitised(app)}-{_sanitised(name)}"


def _sanitised(text: str) -> str:
    return "".join(char if char.isascii() and char.isalnum() else "_" for char in text.lower())


def _fingerprint(parts: Sequence[str]) -> str:
    return hashlib.sha256("".join(parts).encode()).hexdigest()


def _scalers(
    manifest: Manifest, component: Component, config: tuple[str, ...]
) -> Iterator[DesiredScaler]:
    reference = component.properties.image
    if not reference:
        raise errors.InvalidRequest("Component must have either 'image' or 'application' property")
    traits: list[tuple[bool, schema.Scale]] = [
        (isinstance(trait, schema.DaemonTrait), trait.properties) for trait in component.scalers
    ]
    if not traits and _kind(component) == "provider":
        # Only providers run without being told how many.
        traits = [(False, schema.Scale(instances=1))]
    entity = identify(manifest, component)
    for daemon, scale in traits:
        kind = "DaemonScaler" if daemon else "SpreadScaler"
        yield DesiredScaler(
            id=_fingerprint([kind, manifest.name, component.name, entity, reference, *config]),
            app=manifest.name,
            component=component.name,
            kind=_kind(component),
            entity=entity,
            reference=reference,
            config=config,
            daemon=daemon,
            instances=scale.instances,
            groups=tuple(_group(spread) for spread in scale.spread) or (Group(),),
        )


def _group(spread: schema.Spread) -> Group:
    return Group(
        name=spread.name,
        requirements=spread.requirements,
        weight=schema.WEIGHT if spread.weight is None else spread.weight,
    )


def _link(manifest: Manifest, link: Link) -> DesiredLink:
    parts = [
        "LinkScaler",
        manifest.name,
        link.name,
        link.source_id,
        link.target,
        link.wit_namespace,
        link.wit_package,
        *link.interfaces,
        *link.source_config,
        *link.target_config,
    ]
    return DesiredLink(id=_fingerprint(parts), link=link)


def _secret(manifest: Manifest, secret: Secret, policies: Mapping[str, Policy]) -> DesiredConfig:
    """A reference into a secrets backend, as the bucket of configs keeps it."""
    source = secret.properties
    policy = policies.get(source.policy)
    if policy is None or "backend" not in policy.properties:
        raise errors.InvalidRequest(f"secret {secret.name!r} has no policy that names a backend")
    properties = dict(policy.properties)
    values = {
        "name": secret.name,
        "type": SECRET_TYPE,
        "backend": properties.pop("backend"),
        "key": source.key,
        "policy": json.dumps(
            {"type": SECRET_PROPERTIES_TYPE, "properties": properties}, separators=(",", ":")
        ),
    }
    if source.field is not None:
        values["field"] = source.field
    if source.version is not None:
        values["version"] = source.version
    return DesiredConfig(name=f"SECRET_{_joined(manifest.name, secret.name)}", values=values)


def _seconds(annotations: Mapping[str, str], key: str, default_s: float) -> float:
    if (text := annotations.get(key)) is None:
        return default_s
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds <= SECONDS_MAX:
        raise errors.InvalidRequest(f"{key} is {text!r}: want seconds, {SECONDS_MAX:.0f} at most")
    return seconds


def _count(annotations: Mapping[str, str], key: str, default: int, *, least: int) -> int:
    text = annotations.get(key)
    if text is None:
        return default
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and int(text) >= least):
        raise errors.InvalidRequest(f"{key} is {text!r}: want a number, {least} or more")
    return int(text)
