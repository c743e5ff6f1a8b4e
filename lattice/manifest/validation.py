"""What is wrong with a manifest that can be read: wadm's rules, in its words, and a few of ours.

Source: ``crates/wadm-types/src/validation.rs`` of wadm 0.21. An error keeps a manifest from being
stored; a warning does not.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from lattice import errors, names
from lattice.manifest import resolution, schema
from lattice.manifest.schema import Component, LinkProperties, Manifest

Level = Literal["warning", "error"]

SECRET_POLICY = "policy.secret.wasmcloud.dev/v1alpha1"  # noqa: S105 - a type, not a secret

NAME = r"^[-\w]+$"
"""What the name of an application looks like; wadm's expression, and its text in the message."""

KNOWN_INTERFACES = {
    "wrpc": {
        "blobstore": {"blobstore"},
        "keyvalue": {"atomics", "store"},
        "http": {"incoming-handler", "outgoing-handler"},
    },
    "wasi": {
        "blobstore": {"blobstore"},
        "config": {"runtime"},
        "keyvalue": {"atomics", "store", "batch", "watch"},
        "http": {"incoming-handler", "outgoing-handler"},
        "logging": {"logging"},
    },
}
"""Interfaces of namespaces in which an unknown one is most likely a slip of the pen. wadm counts
``wasmcloud`` among them; there, the contracts of wasmCloud 0.x are at home."""

_LABEL_CHARS_MAX = 63
_DOMAIN_CHARS_MAX = 253
_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
_DOMAIN_PART = re.compile(r"[A-Za-z](?:[A-Za-z0-9-]*[A-Za-z0-9])?")


@dataclass(frozen=True, slots=True)
class Finding:
    level: Level
    message: str
    path: str = ""
    """Where in the manifest; empty for all of it."""


def validate(manifest: Manifest) -> list[Finding]:
    """Everything that is wrong with a manifest; it may be deployed when nothing is an error."""
    return [
        *_head(manifest),
        *_identities(manifest),
        *_missing_targets(manifest),
        *_interfaces(manifest),
        *_policies(manifest),
        *_sources_of_components(manifest),
        *_twin_links(manifest),
        *_twin_configs(manifest),
        *_outdated_fields(manifest),
        *_providers_linked_to_providers(manifest),
        *_rollout(manifest),
    ]


def _error(message: str, path: str = "") -> Finding:
    return Finding("error", message, path)


def _warning(message: str, path: str = "") -> Finding:
    return Finding("warning", message, path)


def _parts(manifest: Manifest) -> Iterator[tuple[str, Component]]:
    for index, component in enumerate(manifest.components):
        yield f"spec.components[{index}]", component


def _links(manifest: Manifest) -> Iterator[tuple[str, Component, LinkProperties]]:
    for path, component in _parts(manifest):
        for index, trait in enumerate(component.traits):
            if isinstance(trait, schema.LinkTrait):
                yield f"{path}.traits[{index}]", component, trait.properties


def _head(manifest: Manifest) -> Iterator[Finding]:
    if manifest.api_version != schema.API_VERSION:
        yield _warning(
            f"apiVersion is {manifest.api_version!r}; known is {schema.API_VERSION}", "apiVersion"
        )
    if manifest.kind != schema.KIND:
        yield _warning(f"kind is {manifest.kind!r}; known is {schema.KIND}", "kind")
    # wadm takes any letter of any script; a bucket's key does not.
    if not re.fullmatch(NAME.strip("^$"), manifest.name, re.ASCII):
        yield _error(
            f"manifest name [{manifest.name}] is not allowed (should match regex [{NAME}])",
            "metadata.name",
        )
    elif len(manifest.name) > names.NAME_CHARS_MAX:
        yield _error(
            f"manifest name is longer than {names.NAME_CHARS_MAX} characters", "metadata.name"
        )
    if manifest.version == schema.LATEST:
        yield _error(f"{schema.LATEST} is not allowed in wadm", "metadata.annotations.version")
    for key, value in sorted(manifest.metadata.labels.items()):
        if not _is_label(key):
            yield _error(f"Invalid OAM label: {_pair(key, value)}", "metadata.labels")
    for key, value in sorted(manifest.metadata.annotations.items()):
        if not _is_label(key):
            yield _error(f"Invalid OAM annotation: {_pair(key, value)}", "metadata.annotations")


def _pair(key: str, value: str) -> str:
    """A pair as Rust prints one."""
    return f'("{key}", "{value}")'


def _is_label(key: str) -> bool:
    """Whether a key is a label's: a name, or a domain, a slash and a name."""
    domain, slash, name = key.rpartition("/") if key.count("/") == 1 else ("", "", key)
    if slash and not (
        len(domain) <= _DOMAIN_CHARS_MAX
        and all(
            len(part) <= _LABEL_CHARS_MAX and _DOMAIN_PART.fullmatch(part)
            for part in domain.split(".")
        )
    ):
        return False
    return len(name) <= _LABEL_CHARS_MAX and _LABEL.fullmatch(name) is not None


def _identities(manifest: Manifest) -> Iterator[Finding]:
    seen_names: set[str] = set()
    seen_ids: set[str] = set()
    for path, component in _parts(manifest):
        if component.name in seen_names:
            yield _error(f"Duplicate component name in manifest: {component.name}", path)
        seen_names.add(component.name)
        given = component.properties.id
        if given is not None:
            if given in seen_ids:
                yield _error(f"Duplicate component identifier in manifest: {given}", path)
            seen_ids.add(given)
        identity = resolution.identify(manifest, component)
        try:
            names.parse_entity(identity)
        except errors.InvalidRequest as error:
            yield _error(error.text, f"{path}.properties.id" if given else f"{path}.name")
        if len(list(component.scalers)) > 1:
            yield _error(
                f"component {component.name!r} has several scalers; they would contradict each"
                " other: give one several spreads",
                f"{path}.traits",
            )


def _missing_targets(manifest: Manifest) -> Iterator[Finding]:
    known = {component.name for component in manifest.components}
    missing = sorted({link.target.name for _, _, link in _links(manifest)} - known)
    if missing:
        listed = ", ".join(f'"{name}"' for name in missing)
        yield _error(
            f"The following capability component(s) are missing from the manifest: [{listed}]",
            "spec.components",
        )
    for path, _, link in _links(manifest):
        if link.target.name in missing:
            identity = (
                f"(name [{link.name}])"
                if link.name != "default"
                else f"(target [{link.target.name}])"
            )
            yield _warning(
                f"link {identity} target [{link.target.name}] is not a listed component", path
            )


def _interfaces(manifest: Manifest) -> Iterator[Finding]:
    for path, _, link in _links(manifest):
        packages = KNOWN_INTERFACES.get(link.namespace)
        for interface in link.interfaces:
            if packages is not None and interface not in packages.get(link.package, ()):
                yield _warning(
                    f"unrecognized interface [{link.namespace}:{link.package}/{interface}]", path
                )
        try:
            names.parse_link_name(link.name)
            names.parse_interface(f"{link.namespace}:{link.package}")
            for interface in link.interfaces:
                names.parse_interface(f"{link.namespace}:{link.package}/{interface}")
        except errors.InvalidRequest as error:
            yield _error(error.text, path)


def _policies(manifest: Manifest) -> Iterator[Finding]:
    policies = {policy.name: policy for policy in manifest.spec.policies}
    for path, component in _parts(manifest):
        for secret in component.secrets:
            policy = policies.get(secret.properties.policy)
            mapped = f"secret '{secret.name}' is mapped to"
            if policy is None:
                yield _error(f"{mapped} unknown policy '{secret.properties.policy}'", path)
            elif policy.type != SECRET_POLICY:
                yield _error(
                    f"{mapped} policy '{policy.name}' which is not a secret policy."
                    f" Expected type '{SECRET_POLICY}'",
                    path,
                )
            elif "backend" not in policy.properties:
                yield _error(
                    f"{mapped} policy '{policy.name}' which does not include a 'backend' property",
                    path,
                )


def _sources_of_components(manifest: Manifest) -> Iterator[Finding]:
    for path, component in _parts(manifest):
        properties = component.properties
        shared = properties.application
        if properties.image is not None and shared is not None:
            yield _error("Component cannot have both 'image' and 'application' properties", path)
        elif properties.image is None and shared is None:
            yield _error("Component must have either 'image' or 'application' property", path)
        elif shared is not None:
            start = f"Shared component '{shared.name}' cannot"
            if properties.config:
                yield _error(f"{start} specify additional 'config'", path)
            elif properties.secrets:
                yield _error(f"{start} specify additional 'secrets'", path)
            elif any(component.scalers):
                yield _error(f"{start} include a scaler trait", path)
        if properties.image == "":
            yield _error("image is empty", f"{path}.properties.image")


def _twin_links(manifest: Manifest) -> Iterator[Finding]:
    seen: set[tuple[str, str, str, str, str]] = set()
    for path, component, link in _links(manifest):
        for interface in link.interfaces:
            key = (component.name, link.name, link.namespace, link.package, interface)
            if key in seen:
                yield _error(
                    f"Duplicate link found inside component '{component.name}': {link.name}"
                    f" ({link.namespace}:{link.package}/{interface})",
                    path,
                )
            seen.add(key)


def _twin_configs(manifest: Manifest) -> Iterator[Finding]:
    """Two configs of one name with properties: one would silently win over the other."""
    in_links: set[str] = set()
    for path, _, link in _links(manifest):
        for config in [*link.target.config, *(link.source.config if link.source else ())]:
            if config.properties is None:
                continue
            if config.name in in_links:
                yield _error(f"Duplicate link config name found: '{config.name}'", path)
            in_links.add(config.name)
    values: dict[str, dict[str, str]] = {}
    for path, component in _parts(manifest):
        for config in resolution.configs_of(component):
            if config.properties is None:
                continue
            name = resolution.config_name(manifest, config)
            if values.setdefault(name, config.properties) != config.properties:
                yield _error(f"config '{config.name}' is there twice, with different values", path)
            if len(name) > names.NAME_CHARS_MAX:
                yield _error(f"the name of config '{config.name}' is too long", path)


def _outdated_fields(manifest: Manifest) -> Iterator[Finding]:
    for path, _, link in _links(manifest):
        for field in link.outdated:
            side = field.removesuffix("_config")
            yield _warning(
                f"one of the components' link trait contains a {field} key,"
                f" please use {side}:config: rather",
                path,
            )


def _providers_linked_to_providers(manifest: Manifest) -> Iterator[Finding]:
    for path, component, link in _links(manifest):
        target = manifest.component(link.target.name)
        if component.type == "capability" and target and target.type == "capability":
            yield _warning(
                f"Provider {component.name} cannot link to provider {target.name}, only components",
                path,
            )


def _rollout(manifest: Manifest) -> Iterator[Finding]:
    try:
        resolution.rollout_policy(manifest)
    except errors.InvalidRequest as error:
        yield _error(error.text, "metadata.annotations")
