"""What a project wants around its actor, and how one such state becomes another."""

from pathlib import Path

import pytest

from lattice import errors, project, workbench
from lattice.workbench import Workbench

HEAD = """
[actor]
name = "shop"
language = "c"
kind = "{kind}"
abi = "{abi}"
output = "build/shop.wasm"
"""


def laid_out(text: str = "", *, kind: str = "custom", abi: str = "wapc") -> Workbench:
    content = HEAD.format(kind=kind, abi=abi) + text
    return workbench.lay_out(project.parse(content.encode(), folder=Path("/shop")))


STORE = """
[[dev.links]]
interface = "wasmcloud:keyvalue"
provider = "keyvalue"
provider_config = { backend = "memory" }
config = { bucket = "goods" }
"""


def test_a_bare_actor_has_nothing_around_it_but_its_own_config() -> None:
    bench = laid_out()

    assert bench.configs == {"shop-dev": {}}
    assert (bench.providers, bench.links, bench.url) == ((), (), None)


@pytest.mark.parametrize(
    ("abi", "package", "interfaces"),
    [
        ("wapc", ("wasmcloud", "httpserver"), []),
        ("component", ("wasi", "http"), ["incoming-handler"]),
    ],
)
def test_an_http_actor_is_linked_from_a_server_of_its_own_by_its_abi(
    abi: str, package: tuple[str, str], interfaces: list[str]
) -> None:
    bench = laid_out('[dev]\nhttp = "127.0.0.1:9000"\n', kind="http", abi=abi)

    (server,), (link,) = bench.providers, bench.links
    assert (server.id, server.reference) == ("shop-http-server", "lattice+builtin://http-server")
    assert (link.source_id, link.target) == (server.id, "shop")
    assert (link.wit_namespace, link.wit_package) == package
    assert link.interfaces == interfaces
    assert bench.configs[link.source_config[0]] == {"address": "127.0.0.1:9000"}
    assert bench.url == "http://127.0.0.1:9000/"
    assert workbench.http_address(bench) == "127.0.0.1:9000"


def test_a_message_handler_is_linked_from_a_provider_that_subscribes_for_it() -> None:
    bench = laid_out('[dev]\nsubscriptions = ["orders.>", "news"]\n', kind="messaging")

    (link,) = bench.links
    assert (link.source_id, link.target) == ("shop-messaging", "shop")
    assert bench.configs[link.source_config[0]] == {"subscriptions": "orders.>,news"}


def test_a_link_gets_its_provider_and_both_their_configs() -> None:
    bench = laid_out(STORE)

    (store,), (link,) = bench.providers, bench.links
    assert store.id == "shop-keyvalue"
    assert bench.configs[store.config] == {"backend": "memory"}
    assert (link.source_id, link.target) == ("shop", store.id)
    assert bench.configs[link.target_config[0]] == {"bucket": "goods"}


def test_links_share_a_provider_unless_they_start_it_differently() -> None:
    other = STORE.replace("memory", "nats")
    names = ('name = "first"\n', 'name = "second"\n', 'name = "third"\n')
    bench = laid_out("".join(s + n for s, n in zip((STORE, STORE, other), names, strict=True)))

    assert [provider.id for provider in bench.providers] == ["shop-keyvalue", "shop-keyvalue-2"]
    assert [link.target for link in bench.links] == [
        "shop-keyvalue", "shop-keyvalue", "shop-keyvalue-2"
    ]  # fmt: skip


def test_a_link_to_something_that_runs_already_starts_nothing() -> None:
    bench = laid_out('[[dev.links]]\ninterface = "acme:math/ops"\ntarget = "calculator"\n')

    (link,) = bench.links
    assert bench.providers == ()
    assert (link.target, link.interfaces) == ("calculator", ["ops"])


def test_interfaces_of_one_package_are_one_link() -> None:
    pair = "".join(
        f'[[dev.links]]\ninterface = "wasi:keyvalue/{name}"\nprovider = "keyvalue"\n'
        for name in ("store", "atomics")
    )

    (link,) = laid_out(pair).links
    assert link.interfaces == ["atomics", "store"]


def test_a_foreign_provider_is_named_after_the_last_part_of_its_reference() -> None:
    bench = laid_out(
        '[[dev.links]]\ninterface = "acme:db"\nprovider = "ghcr.io/acme/data.base:1.2"\n'
    )

    assert bench.providers[0].id == "shop-data-base"


def test_reused_instances_are_asked_for_in_the_actor_s_config() -> None:
    bench = laid_out('[dev]\ninstances = "reuse"\nconfig = { greeting = "hello" }\n')

    assert bench.configs[bench.actor_config] == {
        "greeting": "hello",
        "lattice.dev/instances": "reuse",
    }


def test_a_name_that_becomes_too_long_is_refused() -> None:
    name = "x" * 120
    content = HEAD.format(kind="http", abi="wapc").replace("shop", name, 1)
    parsed = project.parse(content.encode(), folder=Path("/shop"))

    with pytest.raises(errors.InvalidRequest):
        workbench.lay_out(parsed)


def test_an_unchanged_project_asks_for_no_steps() -> None:
    steps = workbench.steps(laid_out(STORE, kind="http"), laid_out(STORE, kind="http"))

    assert not any(
        (steps.delete_links, steps.stop_providers, steps.put_configs, steps.start_providers)
    )
    assert not any((steps.put_links, steps.delete_configs))


def test_a_changed_config_is_put_and_nothing_is_restarted() -> None:
    steps = workbench.steps(laid_out(STORE), laid_out(STORE.replace("goods", "wares")))

    assert steps.put_configs == {"shop-dev-keyvalue-default": {"bucket": "wares"}}
    assert not any((steps.stop_providers, steps.put_links, steps.delete_links))


def test_what_is_taken_out_of_the_project_is_taken_down() -> None:
    steps = workbench.steps(laid_out(STORE), laid_out())

    assert [link.wit_package for link in steps.delete_links] == ["keyvalue"]
    assert [provider.id for provider in steps.stop_providers] == ["shop-keyvalue"]
    assert steps.delete_configs == ("shop-dev-keyvalue-default", "shop-keyvalue-dev")


def test_everything_is_put_up_from_nothing_and_taken_down_to_nothing() -> None:
    bench = laid_out(STORE, kind="http")

    up, down = workbench.steps(None, bench), workbench.steps(bench, None)
    assert (up.start_providers, up.put_links) == (bench.providers, bench.links)
    assert up.put_configs == bench.configs
    assert (down.stop_providers, down.delete_links) == (bench.providers, bench.links)
    assert set(down.delete_configs) == set(bench.configs)
