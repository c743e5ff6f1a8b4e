"""What a manifest means: wadm's ids, names and annotations."""

import hashlib
import json
from typing import Any

import pytest

from lattice import errors
from lattice.manifest import desired, missing_shared
from lattice.manifest.resolution import RolloutPolicy
from lattice.manifest.schema import Manifest
from lattice.wire.control import Link


def manifest(*components: dict[str, Any], **more: Any) -> Manifest:
    return Manifest.model_validate(
        {
            "apiVersion": "core.oam.dev/v1beta1",
            "kind": "Application",
            "metadata": {
                "name": more.get("name", "My-App"),
                "annotations": more.get("annotations", {}),
            },
            "spec": {"components": list(components), "policies": more.get("policies", [])},
        }
    )


def component(name: str, **properties: Any) -> dict[str, Any]:
    return {
        "name": name,
        "type": "component",
        "properties": {"image": "x", **properties},
        "traits": [{"type": "spreadscaler", "properties": {"instances": 2}}],
    }


def test_ids_are_made_as_wadm_makes_them() -> None:
    app = desired(manifest(component("thing.wasm"), component("b", id="given")), "v1")

    assert [scaler.entity for scaler in app.scalers] == ["my_app-thing_wasm", "given"]


def test_a_scaler_has_the_id_that_it_would_have_under_wadm() -> None:
    configs = [{"name": "c", "properties": {"k": "v"}}, {"name": "theirs"}]
    [scaler] = desired(manifest(component("a", config=configs)), "v1").scalers

    text = "SpreadScalerMy-Appamy_app-axmy_app-ctheirs"
    assert scaler.id == hashlib.sha256(text.encode()).hexdigest()
    assert scaler.config == ("my_app-c", "theirs")


def test_another_count_is_the_same_scaler_and_another_image_is_another() -> None:
    def scaler_id(image: str, instances: int) -> str:
        one = component("a", image=image)
        one["traits"][0]["properties"]["instances"] = instances
        return desired(manifest(one), "v1").scalers[0].id

    assert scaler_id("x", 1) == scaler_id("x", 2) != scaler_id("y", 1)


def test_annotations_are_wadms() -> None:
    [scaler] = desired(manifest(component("a")), "v1").scalers

    assert scaler.annotations("eu") == {
        "wasmcloud.dev/managed-by": "wadm",
        "wasmcloud.dev/appspec": "My-App",
        "wasmcloud.dev/scaler": scaler.id,
        "wasmcloud.dev/spread_name": "eu",
    }


def test_a_provider_without_a_scaler_runs_once_and_an_actor_does_not() -> None:
    app = desired(
        manifest(
            {"name": "p", "type": "capability", "properties": {"image": "x"}},
            {"name": "c", "type": "component", "properties": {"image": "y"}},
        ),
        "v1",
    )

    assert [(scaler.kind, scaler.entity, scaler.instances) for scaler in app.scalers] == [
        ("provider", "my_app-p", 1)
    ]


def test_a_link_names_ids_and_configs_as_they_are_in_the_lattice() -> None:
    source = component("a")
    source["traits"].append(
        {
            "type": "link",
            "properties": {
                "namespace": "wasi",
                "package": "keyvalue",
                "interfaces": ["store"],
                "source": {"config": [{"name": "theirs"}]},
                "target": {
                    "name": "kv",
                    "config": [{"name": "u", "properties": {"url": "redis://"}}],
                    "secrets": [{"name": "pw", "properties": {"policy": "p", "key": "k"}}],
                },
            },
        }
    )
    policy = {
        "name": "p",
        "type": "policy.secret.wasmcloud.dev/v1alpha1",
        "properties": {"backend": "nats-kv", "region": "eu"},
    }
    target = {"name": "kv", "type": "capability", "properties": {"image": "y", "id": "kv-store"}}
    app = desired(manifest(source, target, policies=[policy]), "v1")

    [link] = app.links
    assert link.link == Link(
        source_id="my_app-a",
        target="kv-store",
        wit_namespace="wasi",
        wit_package="keyvalue",
        interfaces=["store"],
        source_config=["theirs"],
        target_config=["my_app-u", "SECRET_my_app-pw"],
    )
    assert link.name == "my_app-a -(wasi:keyvalue)-> kv-store"
    values = {config.name: config.values for config in app.configs}
    assert values["theirs"] is None
    assert values["my_app-u"] == {"url": "redis://"}
    secret = values["SECRET_my_app-pw"]
    assert secret is not None
    assert json.loads(secret["policy"]) == {
        "type": "properties.secret.wasmcloud.dev/v1alpha1",
        "properties": {"region": "eu"},
    }
    assert {key: value for key, value in secret.items() if key != "policy"} == {
        "name": "pw",
        "type": "secret.wasmcloud.dev/v1alpha1",
        "backend": "nats-kv",
        "key": "k",
    }


def test_a_component_of_another_app_is_linked_to_and_not_run() -> None:
    user = component("a")
    user["traits"].append(
        {
            "type": "link",
            "properties": {
                "namespace": "n",
                "package": "p",
                "interfaces": ["i"],
                "target": {"name": "theirs"},
            },
        }
    )
    theirs = {
        "name": "theirs",
        "type": "capability",
        "properties": {"application": {"name": "Platform", "component": "kv"}},
    }
    kv = {"name": "kv", "type": "capability", "properties": {"image": "y"}}
    shared = {"experimental.wasmcloud.dev/shared": "true"}
    app = desired(manifest(user, theirs), "v1")
    platform = desired(manifest(kv, name="Platform", annotations=shared), "v1")
    private = desired(manifest(kv, name="Platform"), "v1")

    assert [scaler.entity for scaler in app.scalers] == ["my_app-a"]
    assert app.links[0].link.target == platform.scalers[0].entity == "platform-kv"
    assert missing_shared(app, [platform]) == []
    assert missing_shared(app, [private]) == ["theirs"]


def test_rollouts_are_set_by_annotations() -> None:
    annotations = {
        "lattice.dev/rollout": "at-once",
        "lattice.dev/rollout-gate-seconds": "2.5",
        "lattice.dev/rollout-deadline-seconds": "10",
        "lattice.dev/rollout-max-unavailable": "3",
        "lattice.dev/rollout-failures-allowed": "7",
    }

    assert desired(manifest(annotations=annotations), "v1").rollout == RolloutPolicy(
        strategy="at-once", gate_s=2.5, deadline_s=10.0, max_unavailable=3, failures_allowed=7
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("rollout", "blue-green"),
        ("rollout-gate-seconds", "-1"),
        ("rollout-gate-seconds", "nan"),
        ("rollout-deadline-seconds", "inf"),
        ("rollout-max-unavailable", "0"),
        ("rollout-max-unavailable", "٣"),
        ("rollout-failures-allowed", "1e3"),
    ],
)
def test_a_rollout_annotation_that_makes_no_sense_is_refused(key: str, value: str) -> None:
    with pytest.raises(errors.InvalidRequest, match=f"lattice.dev/{key}"):
        desired(manifest(annotations={f"lattice.dev/{key}": value}), "v1")
