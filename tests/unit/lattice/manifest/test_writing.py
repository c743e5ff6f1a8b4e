"""Manifests as text again: what a person wrote stays as it was written."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lattice import errors
from lattice.manifest.parsing import document_of, parse
from lattice.manifest.writing import to_json, to_yaml, with_images

WRITTEN = """\
# the counter
spec:
  components:
    - name: counter   # ours
      properties: {image: ./counter.wasm, id: c}
    - name: kv
      properties:
        image: 'kv.par.gz'  # a provider
    - name: http
      properties:
        image: lattice+builtin://http-server
"""

text = st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\ufeff"))
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**12), 10**12) | text,
    lambda children: st.lists(children, max_size=4) | st.dictionaries(text, children, max_size=4),
    max_leaves=20,
)


def test_images_are_replaced_where_they_stand_and_nothing_else_is_touched() -> None:
    changed = with_images(
        WRITTEN, {"./counter.wasm": "lattice://counter@sha256:12", "kv.par.gz": "r.io/kv:1"}
    )

    assert changed == WRITTEN.replace("./counter.wasm", '"lattice://counter@sha256:12"').replace(
        "'kv.par.gz'", '"r.io/kv:1"'
    )


def test_a_manifest_without_such_images_is_left_as_it_is() -> None:
    assert with_images(WRITTEN, {"other.wasm": "x"}) == WRITTEN
    assert with_images(WRITTEN, {}) == WRITTEN


def test_text_that_looks_like_an_image_is_left_as_it_is() -> None:
    manifest = "x: a.wasm\nspec:\n  components:\n    - name: a.wasm\n      properties: {image: b}\n"

    assert with_images(manifest, {"a.wasm": "no"}) == manifest


@pytest.mark.parametrize(
    "manifest",
    [
        '{"spec":\t{"components":[\n\t{"properties":{"image":"a.wasm"}}]}}',
        '{"spec":{"components":[{"properties":{"image":"a.wasm"}}]}}',
        "spec:\n  components:\n  - properties: {image: &it a.wasm}\n  - properties: {image: *it}",
        "spec:\n  components:\n    - &it\n      properties: {image: a.wasm}\n    - *it\n",
        "spec:\n  components:\n    - properties:\n        image: >-\n          a.wasm\n",
    ],
    ids=["JSON with tabs", "JSON", "an aliased image", "an aliased component", "a folded image"],
)
def test_however_an_image_is_written_it_is_replaced(manifest: str) -> None:
    wanted = document_of(manifest.replace("a.wasm", "b.wasm").encode())

    assert document_of(with_images(manifest, {"a.wasm": "b.wasm"}).encode()) == wanted


@pytest.mark.parametrize(
    "manifest",
    ["spec: 5", "spec: {components: 5}", "spec: {components: [5, {properties: 5}]}", "x: y"],
)
def test_a_document_of_another_shape_has_no_images(manifest: str) -> None:
    assert with_images(manifest, {"5": "6"}) == manifest


def test_what_is_no_document_is_refused() -> None:
    for rubbish in ("", "a: [", "- x"):
        with pytest.raises(errors.InvalidRequest):
            with_images(rubbish, {})


@given(document=st.dictionaries(text, values, max_size=5))
def test_a_document_written_as_yaml_reads_as_itself(document: dict[str, object]) -> None:
    assert document_of(to_yaml(document).encode()) == document


@pytest.mark.parametrize("word", ["1e3", "010", "yes", "1:30", "0x10", ".5", "~", "null", "1_000"])
def test_text_that_looks_like_another_value_stays_text_for_every_reader(word: str) -> None:
    written = to_yaml({"value": word})

    assert document_of(written.encode()) == {"value": word}
    assert yaml.safe_load(written) == {"value": word}


def test_lists_are_indented_as_people_write_them() -> None:
    assert to_yaml({"spec": {"components": [{"name": "a", "config": {"k": "v"}}]}}) == (
        "spec:\n  components:\n    - name: a\n      config:\n        k: v\n"
    )


def test_a_manifest_is_given_back_without_what_nobody_said() -> None:
    said = {
        "apiVersion": "core.oam.dev/v1beta1",
        "kind": "Application",
        "metadata": {"name": "a", "annotations": {"version": "v1"}},
        "spec": {
            "components": [
                {
                    "name": "c",
                    "type": "component",
                    "properties": {
                        "image": "x",
                        # Not the same as a config without properties, which somebody else keeps.
                        "config": [{"name": "empty", "properties": {}}, {"name": "other"}],
                    },
                }
            ]
        },
    }

    assert to_json(parse(to_yaml(said).encode())) == said
