"""What is wrong with manifests that can be read."""

import copy
from typing import Any

import pytest

from lattice.manifest import validate
from lattice.manifest.schema import Manifest

LINK: dict[str, Any] = {
    "namespace": "wasi",
    "package": "keyvalue",
    "interfaces": ["store"],
    "target": {"name": "kv"},
}
GOOD: dict[str, Any] = {
    "apiVersion": "core.oam.dev/v1beta1",
    "kind": "Application",
    "metadata": {"name": "good", "annotations": {"version": "v1"}},
    "spec": {
        "components": [
            {
                "name": "counter",
                "type": "component",
                "properties": {"image": "x"},
                "traits": [
                    {"type": "spreadscaler", "properties": {"instances": 1}},
                    {"type": "link", "properties": LINK},
                ],
            },
            {"name": "kv", "type": "capability", "properties": {"image": "y"}},
        ]
    },
}


def findings(*changes: tuple[str, object]) -> list[tuple[str, str]]:
    """What is found when values of the good manifest are replaced, or added."""
    document = copy.deepcopy(GOOD)
    for path, value in changes:
        where: Any = document
        *steps, last = path.split(".")
        for step in steps:
            where = where[int(step)] if isinstance(where, list) else where.setdefault(step, {})
        if isinstance(where, list):
            where.append(value) if int(last) == len(where) else where.__setitem__(int(last), value)
        else:
            where[last] = value
    manifest = Manifest.model_validate(document)
    return [(finding.level, finding.message) for finding in validate(manifest)]


def test_nothing_is_wrong_with_a_good_one() -> None:
    assert findings() == []


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            ("metadata.name", "my.manifest"),
            (
                "error",
                "manifest name [my.manifest] is not allowed (should match regex [^[-\\w]+$])",
            ),
        ),
        (
            ("metadata.annotations.version", "latest"),
            ("error", "latest is not allowed in wadm"),
        ),
        (
            ("metadata.labels", {"bad key": "v"}),
            ("error", 'Invalid OAM label: ("bad key", "v")'),
        ),
        (
            ("metadata.annotations", {"a/b/c": "v"}),
            ("error", 'Invalid OAM annotation: ("a/b/c", "v")'),
        ),
        (
            (
                "spec.components.2",
                {"name": "kv", "type": "component", "properties": {"image": "z"}},
            ),
            ("error", "Duplicate component name in manifest: kv"),
        ),
        (
            ("spec.components.0.properties", {}),
            ("error", "Component must have either 'image' or 'application' property"),
        ),
        (
            (
                "spec.components.0.properties.application",
                {"name": "other", "component": "x"},
            ),
            ("error", "Component cannot have both 'image' and 'application' properties"),
        ),
        (
            (
                "spec.components.0.properties",
                {"application": {"name": "other", "component": "x"}},
            ),
            ("error", "Shared component 'other' cannot include a scaler trait"),
        ),
        (
            (
                "spec.components.1.properties",
                {"application": {"name": "other", "component": "x"}, "config": [{"name": "c"}]},
            ),
            ("error", "Shared component 'other' cannot specify additional 'config'"),
        ),
        (
            ("spec.components.0.traits.1.properties.interfaces", ["stor"]),
            ("warning", "unrecognized interface [wasi:keyvalue/stor]"),
        ),
        (
            ("spec.components.0.traits.1.properties.package", "keyvalues"),
            ("warning", "unrecognized interface [wasi:keyvalues/store]"),
        ),
        (
            ("spec.components.0.traits.2", {"type": "link", "properties": LINK}),
            (
                "error",
                "Duplicate link found inside component 'counter': default (wasi:keyvalue/store)",
            ),
        ),
        (
            (
                "spec.components.0.properties.secrets",
                [{"name": "s", "properties": {"policy": "p", "key": "k"}}],
            ),
            ("error", "secret 's' is mapped to unknown policy 'p'"),
        ),
        (
            ("metadata.annotations", {"lattice.dev/rollout-gate-seconds": "soon"}),
            (
                "error",
                "lattice.dev/rollout-gate-seconds is 'soon': want seconds, 86400 at most",
            ),
        ),
    ],
)
def test_what_is_wrong_is_said_in_wadms_words(
    change: tuple[str, object], expected: tuple[str, str]
) -> None:
    assert expected in findings(change)


def test_a_target_that_is_not_there_is_an_error() -> None:
    found = findings(("spec.components.0.traits.1.properties.target.name", "nobody"))

    assert (
        "error",
        'The following capability component(s) are missing from the manifest: ["nobody"]',
    ) in found


def test_an_id_that_stands_twice_is_an_error() -> None:
    found = findings(
        ("spec.components.0.properties.id", "same"), ("spec.components.1.properties.id", "same")
    )

    assert found == [("error", "Duplicate component identifier in manifest: same")]


def test_an_id_that_is_none_is_an_error() -> None:
    [(level, message)] = findings(("spec.components.0.properties.id", "a.b"))

    assert level == "error"
    assert message.startswith("'a.b' is no id")


def test_outdated_fields_are_warned_about() -> None:
    older = LINK | {"target": "kv", "target_config": []}
    found = findings(("spec.components.0.traits.1.properties", older))

    [(level, message)] = found
    assert level == "warning"
    assert message == (
        "one of the components' link trait contains a target_config key,"
        " please use target:config: rather"
    )


def test_a_deadline_that_no_gate_fits_into_is_an_error() -> None:
    found = findings(
        (
            "metadata.annotations",
            {
                "lattice.dev/rollout-gate-seconds": "60",
                "lattice.dev/rollout-deadline-seconds": "30",
            },
        )
    )

    assert [level for level, _ in found] == ["error"]
