import pytest
from hypothesis import given
from hypothesis import strategies as st

from lattice import errors, names
from lattice.identity import keys
from lattice.names import Interface

PARSERS = [names.parse_lattice, names.parse_entity, names.parse_link_name, names.parse_config_name]


@pytest.mark.parametrize("parse", PARSERS)
@pytest.mark.parametrize("text", ["a", "default", "http-server", "A_b-9", "-", "x" * 128])
def test_a_token_is_a_name(parse: type[str], text: str) -> None:
    assert parse(text) == text


@pytest.mark.parametrize("parse", PARSERS)
@pytest.mark.parametrize(
    "text",
    ["", "a.b", "*", ">", "a b", "a\n", "\n", "ü", "a\x00", "x" * 129, "x" * 10**6, "٣"],
    ids=lambda text: repr(text[:10]),
)
def test_everything_else_is_refused_in_few_words(parse: type[str], text: str) -> None:
    with pytest.raises(errors.InvalidRequest) as caught:
        parse(text)

    assert len(caught.value.text) < 300


@given(st.text())
def test_no_text_does_worse_than_being_refused(text: str) -> None:
    for parse in (*PARSERS, names.parse_host, names.parse_interface):
        try:
            parse(text)
        except errors.InvalidRequest:
            continue


def test_a_host_id_is_a_server_key() -> None:
    host = keys.host_id(keys.new_host_seed())

    assert names.parse_host(host) == host
    for wrong in ("", host[:-1], host + "A", "U" + host[1:], host[:-1] + "."):
        with pytest.raises(errors.InvalidRequest):
            names.parse_host(wrong)


@pytest.mark.parametrize(
    ("text", "interface"),
    [
        ("wasmcloud:keyvalue", Interface("wasmcloud", "keyvalue")),
        ("wasi:keyvalue/store", Interface("wasi", "keyvalue", "store")),
        ("wasi:http/types@0.2.0", Interface("wasi", "http", "types", "0.2.0")),
        ("wasi:keyvalue@0.2.0-draft", Interface("wasi", "keyvalue", None, "0.2.0-draft")),
        ("wasmcloud:builtin:logging", Interface("wasmcloud", "builtin:logging")),
    ],
)
def test_interfaces_are_taken_apart(text: str, interface: Interface) -> None:
    assert names.parse_interface(text) == interface


@pytest.mark.parametrize(
    "text",
    [
        *("", "wasi", ":", "wasi:", ":http", "wasi:http/", "wasi:http/a/b", "wasi:http@", "9:x"),
        *("wasi:http\n", "wa si:http", "wasi:*", "wasi:http/types@x", "a:" + "b" * 200),
    ],
)
def test_what_is_no_interface_is_refused(text: str) -> None:
    with pytest.raises(errors.InvalidRequest):
        names.parse_interface(text)


@pytest.mark.parametrize("text", ["wasmbus.ctl", "acme", "a.b-c.d_e"])
def test_a_control_prefix_is_tokens_joined_by_dots(text: str) -> None:
    assert names.parse_control_prefix(text) == text


@pytest.mark.parametrize("text", ["", ".", "a.", ".a", "a..b", "a.*", "a.>", "a b", "é"])
def test_a_control_prefix_that_is_no_subject_is_refused(text: str) -> None:
    with pytest.raises(errors.InvalidRequest):
        names.parse_control_prefix(text)
