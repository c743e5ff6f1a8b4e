"""Bytes to manifest: what is taken, what is refused, and that refusing is all that ever happens."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lattice import errors, limits
from lattice.manifest import parse
from lattice.manifest.schema import DaemonTrait, LinkTrait, SpreadTrait

HELLO = """
apiVersion: core.oam.dev/v1beta1
kind: Application
metadata:
  name: hello
  annotations:
    version: v0.1.0
    description: Says hello
spec:
  components:
    - name: greeter
      type: component
      properties:
        image: ghcr.io/acme/greeter:0.1.0
        config: [{name: words, properties: {polite: yes, retries: "3"}}]
      traits:
        - type: spreadscaler
          properties: {instances: 10, spread: [{name: eu, weight: 80, requirements: {zone: eu}}]}
        - type: link
          properties:
            namespace: wasi
            package: keyvalue
            interfaces: [store]
            target: {name: kv, config: [{name: url}]}
    - name: kv
      type: capability
      properties: {image: "ghcr.io/acme/kv:1", id: kv-store}
      traits: [{type: daemonscaler, properties: {replicas: 1}}]
"""


def spec(*components: dict[str, Any]) -> bytes:
    return json.dumps(
        {
            "apiVersion": "core.oam.dev/v1beta1",
            "kind": "Application",
            "metadata": {"name": "app"},
            "spec": {"components": list(components)},
        }
    ).encode()


def test_a_manifest_is_read() -> None:
    manifest = parse(HELLO.encode())

    assert (manifest.name, manifest.version, manifest.description) == (
        "hello",
        "v0.1.0",
        "Says hello",
    )
    [greeter, kv] = manifest.components
    scaler, link = greeter.traits
    assert isinstance(scaler, SpreadTrait)
    assert scaler.properties.spread[0].requirements == {"zone": "eu"}
    assert isinstance(link, LinkTrait)
    assert link.properties.target.config[0].properties is None
    assert isinstance(kv.traits[0], DaemonTrait)
    assert kv.properties.id == "kv-store"


def test_yes_is_a_word_as_it_is_for_wadm() -> None:
    [greeter, _] = parse(HELLO.encode()).components

    assert greeter.properties.config[0].properties == {"polite": "yes", "retries": "3"}


def test_json_is_taken_as_well_even_indented_by_tabs() -> None:
    component = {"name": "a", "type": "component", "properties": {"image": "x"}}
    document = json.loads(spec(component))

    assert parse(json.dumps(document, indent="\t").encode()) == parse(spec(component))


def test_an_actor_is_a_component_by_its_older_name() -> None:
    manifest = parse(spec({"name": "a", "type": "actor", "properties": {"image": "x"}}))

    assert manifest.components[0].type == "component"


def test_links_of_the_older_form_are_read() -> None:
    older = {
        "namespace": "wasi",
        "package": "http",
        "interfaces": ["incoming-handler"],
        "target": "b",
        "source_config": [{"name": "s", "properties": {"a": "1"}}],
        "target_config": [{"name": "t"}],
    }
    manifest = parse(
        spec(
            {
                "name": "a",
                "type": "capability",
                "properties": {"image": "x"},
                "traits": [{"type": "link", "properties": older}],
            }
        )
    )

    [link] = manifest.components[0].links
    assert link.source is not None
    assert link.source.config[0].name == "s"
    assert link.target.name == "b"
    assert link.target.config[0].name == "t"
    assert link.outdated == ("source_config", "target_config")


def test_a_trait_of_somebody_elses_is_read_and_means_nothing() -> None:
    manifest = parse(
        spec(
            {
                "name": "a",
                "type": "component",
                "properties": {"image": "x"},
                "traits": [{"type": "autoscaler", "properties": {"instances": {"min": 1}}}],
            }
        )
    )

    assert list(manifest.components[0].scalers) == []


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("instances: 10", "instances: many", "instances"),
        ("instances: 10", "instances: -1", "instances"),
        ("instances: 10", "instances: true", "instances"),
        ("instances: 10", "instances: 4294967296", "instances"),
        ('retries: "3"', "retries: 3", "retries"),
        ("type: component", "type: gadget", "type"),
        ("image: ghcr.io/acme/greeter:0.1.0", "imagination: x", "imagination"),
        ("namespace: wasi", "", "namespace"),
        ("kind: Application", "kind: Application\nkind: Twice", "'kind' is there twice"),
        ("spec:", "spec: !!python/object:os.system", "not YAML"),
        ("name: hello", "name: [hello", "line"),
    ],
)
def test_what_is_wrong_is_refused_and_named(old: str, new: str, complaint: str) -> None:
    assert old in HELLO

    with pytest.raises(errors.InvalidRequest) as caught:
        parse(HELLO.replace(old, new, 1).encode())

    assert complaint in caught.value.text


def test_a_secret_value_is_not_in_the_complaint() -> None:
    with pytest.raises(errors.InvalidRequest) as caught:
        parse(HELLO.replace('retries: "3"', "password: 31337").encode())

    assert "31337" not in caught.value.text


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"just words",
        b"\xff\xfe",
        b"a: b: c",
        b"\x00",
        b"--- a\n--- b\n",
        b"? [a]\n: b",
        b"&a [*a]",
        b"a: &a {b: *a}",
        b"{" * 10_000,
        b"[" * 10_000,
        b"- " * 10_000,
        b"a: " + b"9" * 10_000,
        b"a: !!int x",
        b"a: !!bool x",
        b"a: !!float x",
        b"a: !!timestamp x",
        b"a: !!set {b}",
        b"<<: {a: b}",
        b'{"a":1,"a":2}',
    ],
)
def test_rubbish_is_refused(data: bytes) -> None:
    with pytest.raises(errors.InvalidRequest):
        parse(data)


def test_aliases_that_would_fill_the_memory_are_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]

    with pytest.raises(errors.InvalidRequest, match="values"):
        parse("\n".join(lines).encode())


def test_aliases_are_fine() -> None:
    text = HELLO.replace("requirements: {zone: eu}", "requirements: &eu {zone: eu}").replace(
        "replicas: 1", "replicas: 1, spread: [{name: eu, requirements: *eu}]"
    )

    [_, kv] = parse(text.encode()).components
    [scaler] = kv.scalers
    assert scaler.properties.spread[0].requirements == {"zone": "eu"}


def test_a_manifest_over_the_limit_is_refused_unread() -> None:
    with pytest.raises(errors.PayloadTooLarge):
        parse(b"a" * (limits.MANIFEST_BYTES_MAX + 1))


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode()))
def test_no_bytes_do_anything_but_be_refused(data: bytes) -> None:
    with pytest.raises(errors.InvalidRequest):
        parse(data)


@given(at=st.integers(0, len(HELLO)), char=st.sampled_from(list("\t\n:[]{}&*!|>'\"#%@`-?, ~x")))
def test_a_slip_of_the_finger_is_taken_or_refused(at: int, char: str) -> None:
    with suppress(errors.InvalidRequest):
        parse((HELLO[:at] + char + HELLO[at:]).encode())
