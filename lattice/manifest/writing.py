"""Manifests as text again: other images in one that a person wrote, and one that came as JSON."""

import copy
import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

import yaml

from lattice import errors
from lattice.manifest.parsing import document_of, nodes_of
from lattice.manifest.schema import Manifest

_SILENT = frozenset({"labels", "policies", "config", "secrets", "spread", "traits"})
"""Names of what wadm leaves out when there is nothing in it."""

COLUMNS_MAX = 1_000_000
"""Long texts stay on one line: a folded image reference can't be searched for."""


def to_json(manifest: Manifest) -> dict[str, Any]:
    """A manifest as wadm gives it back: in its order, and without what is empty."""
    fields = manifest.model_dump(mode="json", by_alias=True, exclude_none=True)
    without = _without_empty(fields)
    assert isinstance(without, dict)
    return without


def _without_empty(value: object) -> object:
    if isinstance(value, list):
        return [_without_empty(item) for item in value]
    if isinstance(value, dict):
        return {
            name: _without_empty(item)
            for name, item in value.items()
            if item not in ([], {}) or name not in _SILENT
        }
    return value


def to_yaml(document: Mapping[str, Any]) -> str:
    """A document as YAML, in its own order."""
    return yaml.dump(
        dict(document),
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=False,
        width=COLUMNS_MAX,
    )


def with_images(text: str, images: Mapping[str, str]) -> str:
    """A manifest with each image that ``images`` names replaced by what it stands for.

    The rest of the text stays as it was written, comments too, unless it is written in a way that
    does not allow it, as one image standing for another; then it is written anew.

    Raises:
        InvalidRequest, PayloadTooLarge: it is no document; see ``document_of``.
    """
    document = document_of(text.encode())
    wanted = copy.deepcopy(document)
    for properties in _properties(wanted):
        image = properties.get("image")
        if isinstance(image, str):
            properties["image"] = images.get(image, image)
    if wanted == document:
        return text
    changed = _replaced(text, images)
    with suppress(errors.LatticeError):
        if document_of(changed.encode()) == wanted:
            return changed
    return to_yaml(wanted)


def _properties(document: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The properties of every component, of a document that may have any shape."""
    spec = document.get("spec")
    components = spec.get("components") if isinstance(spec, dict) else None
    for component in components if isinstance(components, list) else ():
        properties = component.get("properties") if isinstance(component, dict) else None
        if isinstance(properties, dict):
            yield properties


def _replaced(text: str, images: Mapping[str, str]) -> str:
    """The text with images replaced where they stand, the last one first."""
    places: dict[int, tuple[int, str]] = {}
    for component in _items(_value(_value(nodes_of(text), "spec"), "components")):
        node = _value(_value(component, "properties"), "image")
        if isinstance(node, yaml.ScalarNode) and node.value in images:
            places[node.start_mark.index] = (node.end_mark.index, images[node.value])
    for start, (end, image) in sorted(places.items(), reverse=True):
        # A JSON string is a YAML string, too.
        text = f"{text[:start]}{json.dumps(image)}{text[end:]}"
    return text


def _value(node: yaml.Node | None, name: str) -> yaml.Node | None:
    if not isinstance(node, yaml.MappingNode):
        return None
    return next((value for key, value in node.value if key.value == name), None)


def _items(node: yaml.Node | None) -> list[yaml.Node]:
    return node.value if isinstance(node, yaml.SequenceNode) else []


class _Dumper(yaml.SafeDumper):
    """Indents the items of a list, and writes nothing by reference."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002 - its signature
        super().increase_indent(flow, indentless=False)

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - its signature
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    """Quote what would be read as a number: the dumper's dialect has fewer of them than ours."""
    try:
        float(value)
    except ValueError:
        style = "|" if "\n" in value else None
    else:
        style = '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)
