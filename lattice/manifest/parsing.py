"""From bytes to a manifest, with everything bounded that YAML leaves open.

The dialect is YAML 1.2's core, as in wadm: ``yes`` and ``on`` are text, not truth. A key given
twice is an error, and aliases are fine as long as what they stand for stays small when written out.
"""

import json
import re
from contextlib import suppress
from typing import Any, ClassVar

import yaml
from pydantic import ValidationError
from yaml.composer import ComposerError
from yaml.constructor import ConstructorError, SafeConstructor

from lattice import errors, limits
from lattice.manifest.schema import Manifest
from lattice.wire.control import first_fault

NESTING_MAX = 50
"""Levels of a document; a manifest needs ten."""

VALUES_MAX = 50_000
"""Values of a document once its aliases are written out: an application of thousands of parts."""


def parse(data: bytes) -> Manifest:
    """Read a manifest, YAML or JSON.

    Raises:
        InvalidRequest: not a manifest; says where and why, without values that may be secret.
        PayloadTooLarge: over the limit for manifests.
    """
    try:
        return Manifest.model_validate(document_of(data))
    except ValidationError as error:
        raise errors.InvalidRequest(f"the manifest is malformed: {first_fault(error)}") from None


def document_of(data: bytes) -> dict[str, Any]:
    """The plain values of a manifest, whatever they are.

    Raises:
        InvalidRequest: neither YAML nor JSON, or no map.
        PayloadTooLarge: as ``parse``.
    """
    if len(data) > limits.MANIFEST_BYTES_MAX:
        raise errors.PayloadTooLarge("the manifest", len(data), limits.MANIFEST_BYTES_MAX)
    document = _load(data)
    if not isinstance(document, dict):
        raise errors.InvalidRequest("the manifest is not a map: want apiVersion, kind, …")
    return document


def nodes_of(text: str) -> yaml.Node | None:
    """The same with the place in the text of every value, of what ``document_of`` has taken.

    None when it is JSON that is no YAML.
    """
    loader = _Loader(text)
    try:
        node: yaml.Node | None = loader.get_single_node()
    except yaml.YAMLError:
        node = None
    finally:
        loader.dispose()
    return node


def _load(data: bytes) -> object:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise errors.InvalidRequest("the manifest is not UTF-8") from None
    document: object = None
    # JSON is almost YAML: not when it is indented by tabs.
    if text.lstrip().startswith("{"):
        with suppress(json.JSONDecodeError, RecursionError):
            document = json.loads(text, object_pairs_hook=_without_twins)
    if document is None:
        document = _load_yaml(text)
    _check_size(document)
    return document


def _without_twins(pairs: list[tuple[str, object]]) -> dict[str, object]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        twin = next(name for name in names if names.count(name) > 1)
        raise errors.InvalidRequest(f"the manifest is malformed: {twin!r} is there twice")
    return fields


def _load_yaml(text: str) -> object:
    try:
        loader = _Loader(text)
        try:
            document: object = loader.get_single_data()
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise errors.InvalidRequest(
            f"the manifest is not YAML: {where}{error.problem or error.context}"
        ) from None
    except (yaml.YAMLError, ValueError, KeyError):
        # A character that YAML does not allow, or a value that is not what its tag says.
        raise errors.InvalidRequest("the manifest is not YAML") from None
    return document


def _check_size(document: object) -> None:
    """Count values as if every alias were written out.

    Raises:
        InvalidRequest: too many, or nested too deep, as in an alias that stands within itself.
    """
    values = 0
    waiting = [(document, 0)]
    while waiting:
        value, depth = waiting.pop()
        values += 1
        if values > VALUES_MAX:
            raise errors.InvalidRequest(f"the manifest has more than {VALUES_MAX} values")
        if depth > NESTING_MAX:
            raise errors.InvalidRequest(f"the manifest nests deeper than {NESTING_MAX} levels")
        if isinstance(value, dict):
            waiting += ((child, depth + 1) for child in value.values())
        elif isinstance(value, list):
            waiting += ((child, depth + 1) for child in value)


class _Loader(yaml.SafeLoader):
    """Builds nothing but maps, lists, text, numbers, truth and null.

    No merge keys either: wadm knows none, and a few nested ones fill the memory.
    """

    # Its own, not SafeLoader's: those have YAML 1.1's rules and types, shared by everybody.
    yaml_implicit_resolvers: dict[str, Any] = {}
    yaml_constructors: ClassVar[dict[Any, Any]] = {}

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self._depth += 1
        if self._depth > NESTING_MAX:
            raise ComposerError(None, None, f"nested deeper than {NESTING_MAX} levels", None)
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Merge nothing; called for every map, with what stands in it."""
        keys: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise ConstructorError(None, None, "a key must be text", key.start_mark)
            if key.value in keys:
                raise ConstructorError(None, None, f"{key.value!r} is there twice", key.start_mark)
            keys.add(key.value)


def _int(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    """Decimal only: YAML 1.1 takes 010 for eight, and 1:30 for ninety."""
    return int(loader.construct_scalar(node))


_TAG = "tag:yaml.org,2002:"

for _name, _pattern, _first in (
    ("bool", r"(?:true|True|TRUE|false|False|FALSE)\Z", [*"tTfF"]),
    ("null", r"(?:~|null|Null|NULL|)\Z", [*"~nN", ""]),
    ("int", r"(?:[-+]?[0-9]+)\Z", [*"-+0123456789"]),
    (
        "float",
        r"(?:[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*)(?:[eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+)\Z",
        [*"-+0123456789."],
    ),
):
    _Loader.add_implicit_resolver(_TAG + _name, re.compile(_pattern), _first)

for _name, _construct in (
    ("null", SafeConstructor.construct_yaml_null),
    ("bool", SafeConstructor.construct_yaml_bool),
    ("int", _int),
    ("float", SafeConstructor.construct_yaml_float),
    ("str", SafeConstructor.construct_yaml_str),
    ("seq", SafeConstructor.construct_yaml_seq),
    ("map", SafeConstructor.construct_yaml_map),
):
    _Loader.add_constructor(_TAG + _name, _construct)
# Of any other tag.
_Loader.yaml_constructors[None] = SafeConstructor.construct_undefined
