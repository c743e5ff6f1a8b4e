"""Choosing and showing links."""

import pytest

from lattice.cli import links
from lattice.wire.control import Link


def link(source: str, target: str, *interfaces: str) -> Link:
    return Link(
        source_id=source,
        target=target,
        wit_namespace="wasi",
        wit_package="keyvalue",
        interfaces=list(interfaces),
    )


@pytest.mark.parametrize(
    ("source", "target", "found"),
    [
        (None, None, [("a", "x"), ("a", "y"), ("b", "x")]),
        ("a", None, [("a", "x"), ("a", "y")]),
        (None, "x", [("a", "x"), ("b", "x")]),
        ("b", "y", []),
    ],
    ids=["all", "from a", "to x", "from b to y"],
)
def test_links_are_chosen_by_source_and_target_in_an_order_that_stays(
    source: str | None, target: str | None, found: list[tuple[str, str]]
) -> None:
    everything = [link("b", "x"), link("a", "y"), link("a", "x")]

    chosen = links.chosen(everything, source=source, target=target)

    assert [(link.source_id, link.target) for link in chosen] == found


def test_interfaces_are_shown_after_their_package() -> None:
    assert links.interfaces(link("a", "x")) == "wasi:keyvalue"
    assert links.interfaces(link("a", "x", "atomics", "store")) == "wasi:keyvalue/atomics,store"
