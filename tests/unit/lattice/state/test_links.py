"""Links as values, and the table against a model that is too simple to be wrong."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lattice import errors, limits
from lattice.names import Interface
from lattice.state import links
from lattice.state.links import LinkTable
from lattice.wire.control import ComponentSpec, DeleteLink, Link

few = st.sampled_from(["a", "b"])
interfaces = st.lists(st.sampled_from(["get", "set"]), unique=True)

any_link = st.builds(
    Link,
    source_id=few,
    target=st.sampled_from(["x", "y", "z"]),
    name=few,
    wit_namespace=st.just("wasi"),
    wit_package=few,
    interfaces=interfaces,
    target_config=st.lists(st.just("config"), max_size=1),
)
any_deletion = st.builds(
    DeleteLink,
    source_id=few,
    name=few,
    wit_namespace=st.just("wasi"),
    wit_package=few,
    target=st.none() | st.sampled_from(["x", "y", "z"]),
    interfaces=st.none() | interfaces,
)


def link(target: str = "x", name: str = "default", *exposed: str) -> Link:
    return Link(
        source_id="a",
        target=target,
        name=name,
        wit_namespace="wasi",
        wit_package="keyvalue",
        interfaces=list(exposed),
    )


def spec(*stored: Link) -> ComponentSpec:
    return ComponentSpec(url="image", links=list(stored))


def deletion(**changes: object) -> DeleteLink:
    fields: dict[str, object] = {
        "source_id": "a",
        "wit_namespace": "wasi",
        "wit_package": "keyvalue",
    }
    return DeleteLink.model_validate(fields | changes)


class TestPut:
    def test_a_link_is_added_and_the_rest_is_kept(self) -> None:
        assert links.put(spec(link("x", "one")), link("y", "two")) == spec(
            link("x", "one"), link("y", "two")
        )

    def test_a_link_to_the_same_target_is_replaced(self) -> None:
        before = spec(link("x", "default", "get"), link("y", "other"))

        assert links.put(before, link("x", "default", "set")) == spec(
            link("y", "other"), link("x", "default", "set")
        )

    @pytest.mark.parametrize(
        ("old", "new"), [(("get",), ("get",)), (("get",), ()), ((), ("get",)), ((), ())]
    )
    def test_overlapping_interfaces_to_another_target_conflict(
        self, old: tuple[str, ...], new: tuple[str, ...]
    ) -> None:
        with pytest.raises(errors.Conflict, match="link already exists with different target"):
            links.put(spec(link("x", "default", *old)), link("y", "default", *new))

    def test_other_interfaces_may_go_to_another_target(self) -> None:
        before = spec(link("x", "default", "get"))

        after = links.put(before, link("y", "default", "set"))

        assert [one.target for one in after.links] == ["x", "y"]

    def test_widening_a_link_over_anothers_interface_conflicts(self) -> None:
        before = spec(link("x", "default", "get"), link("y", "default", "set"))

        with pytest.raises(errors.Conflict):
            links.put(before, link("x", "default", "get", "set"))

    def test_the_number_of_links_is_bounded_but_replacing_is_not(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(limits, "LINKS_PER_SOURCE_MAX", 1)

        assert links.put(spec(link("x")), link("x", "default", "get"))
        with pytest.raises(errors.InvalidRequest):
            links.put(spec(link("x")), link("x", "other"))


class TestDelete:
    def test_the_link_that_matches_is_taken_out(self) -> None:
        before = spec(link("x", "one"), link("y", "two"))

        assert links.delete(before, deletion(name="one")) == (
            spec(link("y", "two")),
            link("x", "one"),
        )

    def test_nothing_that_matches_changes_nothing(self) -> None:
        assert links.delete(spec(link()), deletion(name="other")) == (spec(link()), None)

    def test_several_that_match_need_a_target(self) -> None:
        before = spec(link("x", "default", "get"), link("y", "default", "set"))

        with pytest.raises(errors.Conflict, match="x, y"):
            links.delete(before, deletion())
        assert links.delete(before, deletion(target="y"))[1] == link("y", "default", "set")
        assert links.delete(before, deletion(interfaces=["get"]))[1] == link("x", "default", "get")

    def test_the_order_of_interfaces_does_not_matter(self) -> None:
        before = spec(link("x", "default", "get", "set"))

        assert links.delete(before, deletion(interfaces=["set", "get"]))[1] is not None


class TestFind:
    def test_a_link_without_interfaces_is_for_all_of_them(self) -> None:
        table = LinkTable()
        table.replace("a", [link("x")])

        for name in ("get", None):
            assert table.find("a", "default", Interface("wasi", "keyvalue", name)) == link("x")

    def test_an_interface_finds_the_link_that_names_it(self) -> None:
        table = LinkTable()
        table.replace("a", [link("x", "default", "get"), link("y", "default", "set")])

        found = table.find("a", "default", Interface("wasi", "keyvalue", "set", "0.2.0"))

        assert found is not None
        assert found.target == "y"
        assert table.find("a", "default", Interface("wasi", "keyvalue", "watch")) is None

    @pytest.mark.parametrize(
        ("source", "name", "interface"),
        [
            ("b", "default", Interface("wasi", "keyvalue")),
            ("a", "other", Interface("wasi", "keyvalue")),
            ("a", "default", Interface("wasmcloud", "keyvalue")),
            ("a", "default", Interface("wasi", "messaging")),
        ],
    )
    def test_anything_else_finds_nothing(
        self, source: str, name: str, interface: Interface
    ) -> None:
        table = LinkTable()
        table.replace("a", [link("x")])

        assert table.find(source, name, interface) is None

    def test_links_of_an_entity_are_those_from_it_and_to_it(self) -> None:
        table = LinkTable()
        table.replace("a", [link("x"), link("y", "other")])

        assert table.of("a") == [link("x"), link("y", "other")]
        assert table.of("y") == [link("y", "other")]
        assert table.of("z") == []
        assert table.find_target("a", "other", "y") == link("y", "other")
        assert table.find_target("a", "default", "y") is None

    def test_links_stored_under_another_source_reach_nobody(self) -> None:
        table = LinkTable()
        table.replace("a", [link("x")])

        difference = table.replace("b", [link("thief")])

        assert (difference.put, difference.deleted) == ((), ())
        assert list(table) == [link("x")]
        assert table.find("a", "default", Interface("wasi", "keyvalue")) == link("x")


@given(st.lists(any_link | any_deletion, max_size=12))
def test_specs_follow_the_rules_whatever_happens(operations: list[Link | DeleteLink]) -> None:
    stored = ComponentSpec()
    for operation in operations:
        try:
            if isinstance(operation, Link):
                stored = links.put(stored, operation.model_copy(update={"source_id": "a"}))
                assert stored.links[-1].target == operation.target
            else:
                before = len(stored.links)
                stored, deleted = links.delete(stored, operation)
                assert len(stored.links) == before - (deleted is not None)
        except errors.Conflict:
            continue
        # No interface of a name and package leads to two targets.
        for one in stored.links:
            for other in stored.links:
                if one is not other and one.key == other.key:
                    assert one.target != other.target
                    assert one.interfaces
                    assert other.interfaces
                    assert not set(one.interfaces) & set(other.interfaces)


@given(st.lists(st.tuples(few, st.lists(any_link, max_size=5)), max_size=8))
def test_the_table_holds_what_it_was_last_told(steps: list[tuple[str, list[Link]]]) -> None:
    table = LinkTable()
    model: dict[tuple[str, ...], Link] = {}
    for source, given_links in steps:
        before = dict(model)
        model = {key: one for key, one in model.items() if one.source_id != source}
        for one in given_links:
            if one.source_id == source:
                model[(*one.key, one.target)] = one

        difference = table.replace(source, given_links)

        assert sorted(map(str, table)) == sorted(map(str, model.values()))
        assert set(map(str, difference.put)) == {
            str(one) for key, one in model.items() if before.get(key) != one
        }
        assert set(map(str, difference.deleted)) == {
            str(one) for key, one in before.items() if key not in model
        }
        for name in ("a", "b"):
            for package in ("a", "b"):
                for exposed in ("get", "set", None):
                    found = table.find(source, name, Interface("wasi", package, exposed))
                    candidates = [
                        one
                        for one in model.values()
                        if one.key == (source, name, "wasi", package)
                        and (not one.interfaces or exposed is None or exposed in one.interfaces)
                    ]
                    assert (found in candidates) if candidates else found is None
