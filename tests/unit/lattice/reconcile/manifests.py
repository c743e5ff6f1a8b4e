"""Manifests for tests, short to write."""

import json
from typing import Any


def actor(
    name: str = "counter",
    *,
    image: str = "file:///counter.wasm",
    instances: int = 1,
    daemon: bool = False,
    spread: list[dict[str, Any]] | None = None,
    config: dict[str, dict[str, str] | None] | None = None,
    links: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """An actor of an app."""
    scale = {"instances": instances, "spread": spread or []}
    return {
        "name": name,
        "type": "component",
        "properties": {"image": image, "config": configs(config)},
        "traits": [
            {"type": "daemonscaler" if daemon else "spreadscaler", "properties": scale},
            *({"type": "link", "properties": link} for link in links or []),
        ],
    }


def provider(
    name: str = "kv",
    *,
    image: str = "lattice+builtin://keyvalue",
    instances: int | None = None,
    daemon: bool = False,
    spread: list[dict[str, Any]] | None = None,
    config: dict[str, dict[str, str] | None] | None = None,
    links: list[dict[str, Any]] | None = None,
    entity: str | None = None,
) -> dict[str, Any]:
    """A provider of an app."""
    traits: list[dict[str, Any]] = [{"type": "link", "properties": link} for link in links or []]
    if instances is not None:
        scale = {"instances": instances, "spread": spread or []}
        traits.append({"type": "daemonscaler" if daemon else "spreadscaler", "properties": scale})
    properties = {"image": image, "config": configs(config)}
    if entity is not None:
        properties["id"] = entity
    return {"name": name, "type": "capability", "properties": properties, "traits": traits}


def link(
    target: str,
    *,
    package: str = "keyvalue",
    name: str = "default",
    config: dict[str, dict[str, str] | None] | None = None,
) -> dict[str, Any]:
    return {
        "namespace": "wasmcloud",
        "package": package,
        "interfaces": [],
        "name": name,
        "target": {"name": target, "config": configs(config)},
    }


def configs(values: dict[str, dict[str, str] | None] | None) -> list[dict[str, Any]]:
    return [
        {"name": name} if properties is None else {"name": name, "properties": properties}
        for name, properties in (values or {}).items()
    ]


def app(*components: dict[str, Any], name: str = "shop", **annotations: str) -> str:
    """A manifest; annotations are a rollout's, with underscores."""
    return json.dumps(
        {
            "apiVersion": "core.oam.dev/v1beta1",
            "kind": "Application",
            "metadata": {
                "name": name,
                "annotations": {
                    f"lattice.dev/{key.replace('_', '-')}": value
                    for key, value in annotations.items()
                },
            },
            "spec": {"components": list(components)},
        }
    )
