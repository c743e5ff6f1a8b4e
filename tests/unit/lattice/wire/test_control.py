"""The control interface's JSON: the golden files are wasmCloud 1.9.2's."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lattice import errors, limits
from lattice.wire import control
from lattice.wire.control import Wire

GOLDEN = Path(__file__).parent / "golden" / "control"

MODELS: dict[str, type[Wire]] = {
    "host_inventory": control.HostInventory,
    "scale_component": control.ScaleComponent,
    "start_provider": control.StartProvider,
    "stop_provider": control.StopProvider,
    "stop_host": control.StopHost,
    "component_auction": control.ComponentAuction,
    "component_bid": control.ComponentBid,
    "provider_auction": control.ProviderAuction,
    "provider_bid": control.ProviderBid,
    "link": control.Link,
    "delete_link": control.DeleteLink,
    "component_spec": control.ComponentSpec,
    "update_component": control.UpdateComponent,
    "put_label": control.PutLabel,
    "delete_label": control.DeleteLabel,
    "registry_credential": control.RegistryCredential,
    "component_claims": control.StoredClaims,
    "provider_claims": control.StoredClaims,
}


def golden(name: str) -> bytes:
    return (GOLDEN / f"{name}.json").read_bytes()


def test_every_golden_file_is_looked_at() -> None:
    assert {path.stem for path in GOLDEN.iterdir()} == {*MODELS, "host_ping_reply"}


@pytest.mark.parametrize("name", MODELS)
def test_what_wasmcloud_says_is_read_and_said_in_the_same_words(name: str) -> None:
    value = control.parse(MODELS[name], golden(name), what="golden file")

    # In the same order, too: what is sent is the same to the byte.
    assert json.dumps(value.to_json()) == json.dumps(json.loads(golden(name)))


@pytest.mark.parametrize("name", MODELS)
def test_unknown_fields_are_ignored(name: str) -> None:
    fields = json.loads(golden(name))
    more = json.dumps(fields | {"from_the_future": {"x": [1]}}).encode()

    assert control.parse(MODELS[name], more, what="x") == MODELS[name].model_validate(fields)


def test_a_ping_is_answered_in_wasmclouds_words() -> None:
    reply = json.loads(golden("host_ping_reply"))
    host = control.Host.model_validate(reply["response"])

    assert json.loads(control.accepted(host.to_json())) == reply


def test_what_is_not_known_is_left_out_of_a_ping() -> None:
    host = control.Host(id="N", friendly_name="x", labels={}, lattice="default", uptime_seconds=0)

    assert host.to_json() == {
        "id": "N",
        "friendly_name": "x",
        "labels": {},
        "lattice": "default",
        "uptime_seconds": 0,
    }


@pytest.mark.parametrize(
    ("model", "fields"),
    [
        (control.ScaleComponent, {"component_id": "x"}),
        (control.StartProvider, {"provider_id": "x", "provider_ref": "y"}),
        (control.ComponentAuction, {"component_ref": "x", "component_id": "y"}),
        (control.Host, {"id": "N", "friendly_name": "", "lattice": "", "uptime_seconds": 0}),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_map_that_is_null_or_absent_is_empty(model: type[Wire], fields: dict[str, Any]) -> None:
    (name,) = {"annotations", "constraints", "labels"} & set(model.model_fields)

    assert getattr(model.model_validate(fields | {name: None}), name) == {}
    if name != "labels":
        assert getattr(model.model_validate(fields), name) == {}


def test_older_names_are_understood() -> None:
    stop = control.parse(control.StopProvider, b'{"provider_ref":"kv","host_id":"N"}', what="x")
    assert stop.provider_id == "kv"

    inventory = json.loads(golden("host_inventory"))
    inventory["actors"] = inventory.pop("components")
    parsed = control.HostInventory.model_validate(inventory)
    assert [component.id for component in parsed.components] == ["http-hello", "plain"]


def test_only_a_component_id_is_needed_to_scale() -> None:
    command = control.parse(control.ScaleComponent, b'{"component_id":"x"}', what="x")

    assert (command.count, command.allow_update, command.config) == (0, False, [])


@pytest.mark.parametrize("count", [-1, 2**32, "many", None, 1.5])
def test_a_count_that_is_none_is_refused(count: object) -> None:
    body = json.dumps({"component_id": "x", "count": count}).encode()

    with pytest.raises(
        errors.InvalidRequest, match=r"^failed to deserialize component scale.*count"
    ):
        control.parse(control.ScaleComponent, body, what="component scale command")


@pytest.mark.parametrize(
    "data",
    [b"", b"null", b"[]", b'"x"', b"{", b"\xff", b"[" * 100_000, b"{}", b'{"component_id":5}'],
    ids=lambda data: repr(data[:12]),
)
def test_what_cannot_be_read_is_refused_in_wasmclouds_words(data: bytes) -> None:
    with pytest.raises(errors.InvalidRequest) as caught:
        control.parse(control.ScaleComponent, data, what="component scale command")

    assert caught.value.text.startswith("failed to deserialize component scale command: ")
    assert len(caught.value.text) < 300


def test_a_refusal_does_not_repeat_what_was_sent() -> None:
    with pytest.raises(errors.InvalidRequest) as caught:
        control.parse(control.StopHost, b'{"timeout":"geheim"}', what="stop command")

    assert "geheim" not in caught.value.text


@given(st.binary() | st.recursive(st.none() | st.text(), st.lists, max_leaves=5).map(json.dumps))
def test_no_bytes_do_worse_than_being_refused(data: bytes | str) -> None:
    body = data.encode() if isinstance(data, str) else data
    for model in MODELS.values():
        try:
            control.parse(model, body, what="x")
        except errors.InvalidRequest:
            continue


def test_a_request_over_the_limit_is_refused_unread() -> None:
    body = b" " * (limits.CONTROL_BYTES_MAX + 1)

    with pytest.raises(errors.PayloadTooLarge):
        control.parse(control.StopHost, body, what="stop command")


def test_a_refusal_has_its_code_and_a_success_none() -> None:
    assert json.loads(control.accepted()) == {"success": True, "message": ""}
    assert json.loads(control.accepted([], "done")) == {
        "success": True,
        "message": "done",
        "response": [],
    }
    error = errors.Conflict("the text")
    assert json.loads(control.refused(error)) == {
        "success": False,
        "message": "the text",
        "code": "conflict",
    }
    assert json.loads(control.refused(error, message="1.x's words"))["message"] == "1.x's words"


@pytest.mark.parametrize("code", sorted(errors.BY_CODE))
def test_a_refusal_is_raised_as_what_it_is(code: str) -> None:
    data = control.refused(errors.BY_CODE[code].from_parts("why"))

    with pytest.raises(errors.BY_CODE[code], match=r"^why$"):
        control.parse(control.ControlReply, data, what="reply").raise_for_failure()


@pytest.mark.parametrize(
    "data", [b'{"success":false}', b'{"success":false,"code":"from_tomorrow"}']
)
def test_a_refusal_of_a_host_without_codes_is_an_invalid_request(data: bytes) -> None:
    with pytest.raises(errors.InvalidRequest):
        control.parse(control.ControlReply, data, what="reply").raise_for_failure()


@pytest.mark.parametrize(
    "config", [{}, {"a": ""}, {"": "b"}, {"ü": "\U0001f600"}, {str(n): "x" for n in range(1000)}]
)
def test_a_map_of_strings_is_a_config(config: dict[str, str]) -> None:
    assert control.parse_config(json.dumps(config).encode()) == config


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"null", b"[]", b'{"a":1}', b'{"a":null}', b'{"a":{}}', b'{"a":"\\ud800"}', b"\xff"),
        *(b"[" * 100_000, b'{"a":' * 10_000, b'{"a":"x"'),
    ],
    ids=lambda data: repr(data[:12]),
)
def test_what_is_no_map_of_strings_is_refused_in_wasmclouds_words(data: bytes) -> None:
    with pytest.raises(errors.InvalidRequest) as caught:
        control.parse_config(data)

    assert caught.value.text == "config data should be a map of string -> string"


def test_a_config_over_the_limit_is_refused_unread() -> None:
    with pytest.raises(errors.PayloadTooLarge):
        control.parse_config(b" " * (limits.CONFIG_BYTES_MAX + 1))


def test_later_configs_win() -> None:
    assert control.merge_configs([{"a": "1", "b": "1"}, {}, {"b": "2"}]) == {"a": "1", "b": "2"}


def test_claims_are_listed_flat_and_some_things_twice() -> None:
    component = control.parse(control.StoredClaims, golden("component_claims"), what="x")
    assert component.to_map() == {
        "call_alias": "",
        "iss": component.issuer,
        "issuer": component.issuer,
        "name": "hello",
        "rev": "4",
        "revision": "4",
        "sub": component.subject,
        "subject": component.subject,
        "tags": "a,b",
        "version": "0.1.0",
    }
    provider = control.parse(control.StoredClaims, golden("provider_claims"), what="x")
    assert provider.to_map().keys() == component.to_map().keys() - {"call_alias", "tags"} | {
        "config_schema"
    }


def test_claims_of_older_hosts_are_read() -> None:
    older = b'{"call_alias":"","iss":"A","name":"x","rev":"1","sub":"M","tags":"a,b","version":""}'
    claims = control.parse(control.StoredClaims, older, what="x")

    assert (claims.issuer, claims.revision, claims.subject) == ("A", "1", "M")
    assert claims.tags == ["a", "b"]


@pytest.mark.parametrize(
    "data", [b"", b"[]", b'{"ghcr.io":5}', b'{"ghcr.io":{"password":5}}', b"[" * 100_000]
)
def test_credentials_that_are_none_are_refused_without_repeating_them(data: bytes) -> None:
    with pytest.raises(errors.InvalidRequest, match=r"^failed to deserialize registries put"):
        control.parse_registries(data)


def test_a_credential_does_not_show_its_secrets() -> None:
    (credential,) = control.parse_registries(b'{"x":{"username":"u","password":"geheim"}}').values()

    assert (credential.username, credential.registry_type) == ("u", "oci")
    assert "geheim" not in repr(credential)


def some_links(count: int) -> list[control.Link]:
    return [
        control.Link(source_id=f"source-{n}", target="x", wit_namespace="a", wit_package="b")
        for n in range(count)
    ]


@given(st.integers(0, 30), st.integers(1, 2_000), st.randoms())
def test_pages_of_links_are_all_of_them_once(count: int, size: int, rng: random.Random) -> None:
    links = some_links(count)
    rng.shuffle(links)
    taken: list[control.Link] = []
    page: control.LinkPage | None = control.LinkPage()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "LINK_PAGE_BYTES", size)
        while page is not None:
            reply = json.loads(control.list_links(links, page))
            taken += [control.Link.model_validate(link) for link in reply["response"]]
            after = reply.get("next")
            page = control.LinkPage(after=after) if after else None

    assert taken == sorted(links, key=lambda link: link.order)


REST = control.HostInventory(
    providers=[control.ProviderDescription(id="http-server")],
    host_id="N" * 56,
    friendly_name="alpha",
    labels={},
    version="1",
    uptime_human="1s",
    uptime_seconds=1,
)
"""All but the components."""


def components(count: int) -> list[control.ComponentDescription]:
    return [
        control.ComponentDescription(id=f"actor-{n:05}", image_ref="x" * 100, max_instances=1)
        for n in range(count)
    ]


def written(
    rest: list[control.ComponentDescription], bytes_max: int | None = None
) -> control.InventoryPart:
    writer = control.InventoryWriter(REST, bytes_max=bytes_max)
    for each in rest:
        if not writer.add(each):
            break
    return writer.finish(of=len(rest))


@pytest.mark.parametrize("count", [0, 1, 7, 50])
@pytest.mark.parametrize("bytes_max", [1, 500, 10**6], ids=["tiny", "a few", "all"])
def test_parts_of_an_inventory_are_all_of_it_once(count: int, bytes_max: int) -> None:
    whole, parts = components(count), 0
    taken: list[control.ComponentDescription] = []
    while True:
        part = written(whole[len(taken) :], bytes_max)
        inventory = control.HostInventory.model_validate_json(part.text)
        parts += 1
        taken += inventory.components
        if not part.left_out:
            break
        assert part.last == taken[-1].id
        assert part.left_out == count - len(taken)
    assert taken == whole
    assert (parts == 1) == (bytes_max == 10**6 or count <= 1)


def test_an_inventory_is_written_as_its_model_would_be() -> None:
    whole = components(3)
    answer = json.loads(control.list_inventory(written(whole)))
    model = REST.model_copy(update={"components": whole})
    assert answer == {"success": True, "message": "", "response": model.to_json()}


def test_a_page_of_an_inventory_says_where_it_goes_on() -> None:
    answer = json.loads(control.list_inventory(written(components(3), bytes_max=1)))
    assert answer["next"] == "actor-00000"


def test_who_asks_without_a_page_gets_all_links() -> None:
    links = some_links(10_000)
    reply = json.loads(control.list_links(links))

    assert reply.keys() == {"success", "message", "response"}
    assert len(reply["response"]) == 10_000


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (59, "59s"),
        (60, "1m"),
        (83, "1m 23s"),
        (3600, "1h"),
        (3723, "1h 2m 3s"),
        (86_400, "1day"),
        (2 * 86_400 + 1, "2days 1s"),
        (2_630_016, "1month"),
        (2 * 2_630_016 + 31_557_600, "1year 2months"),
    ],
)
def test_uptime_reads_as_humantime_prints_it(seconds: int, text: str) -> None:
    assert control.uptime_human(seconds) == text
