"""Which link a guest's call takes."""

import pytest

from host.hostcalls.outward import find_link
from lattice import errors
from lattice.state.links import LinkTable
from lattice.wire.control import Link


def link(target: str, interface: str, name: str = "default", *interfaces: str) -> Link:
    namespace, _, package = interface.partition(":")
    return Link(
        source_id="shop",
        target=target,
        name=name,
        wit_namespace=namespace,
        wit_package=package,
        interfaces=list(interfaces),
    )


@pytest.fixture
def table() -> LinkTable:
    table = LinkTable()
    table.replace(
        "shop",
        [
            link("kv", "wasmcloud:keyvalue"),
            link("kv-cache", "wasmcloud:keyvalue", "cache"),
            link("store", "wasi:keyvalue", "default", "store"),
            link("atomics", "wasi:keyvalue", "default", "atomics"),
            link("orders", "acme:orders"),
            link("nested", "wasmcloud:builtin:special"),
            link("ponger-2", "acme:ponger"),
            link("books", "acme:shop:order-book"),
        ],
    )
    return table


@pytest.mark.parametrize(
    ("link_name", "namespace", "target"),
    [
        ("default", "wasmcloud:keyvalue", "kv"),
        ("cache", "wasmcloud:keyvalue", "kv-cache"),
        ("default", "wasi:keyvalue/store", "store"),
        ("default", "wasi:keyvalue/store@0.2.0-draft", "store"),
        ("default", "wasi:keyvalue/atomics", "atomics"),
        ("default", "wasmcloud:builtin:special", "nested"),
        ("default", "orders", "orders"),
        ("default", "kv", "kv"),
        ("cache", "kv-cache", "kv-cache"),
        ("default", "acme/ponger", "ponger-2"),
        ("default", "acme/shop/order_book", "books"),
    ],
)
def test_a_link_is_found_by_name_and_interface_or_by_the_targets_alias_or_id(
    table: LinkTable, link_name: str, namespace: str, target: str
) -> None:
    assert find_link(table, "shop", link_name, namespace).target == target


@pytest.mark.parametrize(
    ("link_name", "namespace"),
    [
        ("other", "wasmcloud:keyvalue"),
        ("default", "wasmcloud:blobstore"),
        ("default", "wasi:keyvalue/watcher"),
        ("cache", "kv"),
        ("default", "kv-cache"),
        ("default", "nobody"),
        ("cache", "nobody"),
    ],
)
def test_without_a_link_the_error_names_what_is_missing(
    table: LinkTable, link_name: str, namespace: str
) -> None:
    with pytest.raises(errors.NoLink) as missing:
        find_link(table, "shop", link_name, namespace)
    assert missing.value.detail == {
        "source": "shop",
        "link_name": link_name,
        "interface": namespace,
    }
    assert "lattice link put shop " in missing.value.text


@pytest.mark.parametrize(
    ("link_name", "namespace", "command"),
    [
        ("default", "acme:mail/send@1.0.0", "lattice link put shop TARGET acme mail"),
        ("default", "acme/mail_box", "lattice link put shop TARGET acme mail-box"),
        ("default", "mail", "lattice link put shop mail NAMESPACE PACKAGE"),
        ("cache", "mail", "lattice link put shop mail NAMESPACE PACKAGE --link-name cache"),
    ],
)
def test_without_a_link_the_error_says_how_to_put_one(
    table: LinkTable, link_name: str, namespace: str, command: str
) -> None:
    with pytest.raises(errors.NoLink) as missing:
        find_link(table, "shop", link_name, namespace)
    assert missing.value.text.endswith(f"; put one with: {command}")


def test_a_source_cannot_use_the_links_of_another(table: LinkTable) -> None:
    with pytest.raises(errors.NoLink):
        find_link(table, "thief", "default", "wasmcloud:keyvalue")


@pytest.mark.parametrize(
    "namespace",
    [
        *("", "a b", "x:", ":y", "a:b/", "a.b", "*", "é", "x" * 10_000),
        *("/", "a/", "/a", "a//b", "A/b", "1/b", "a/b c", "a/b.c", "a/" + "x" * 10_000),
    ],
)
def test_a_namespace_that_is_neither_interface_nor_alias_nor_id_is_refused(
    table: LinkTable, namespace: str
) -> None:
    with pytest.raises(errors.InvalidRequest) as refusal:
        find_link(table, "shop", "default", namespace)
    assert len(refusal.value.text) < 400
