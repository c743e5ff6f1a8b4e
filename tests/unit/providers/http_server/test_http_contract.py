"""The payloads of wasmcloud:httpserver, and the problems that stand for failures."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lattice import errors, limits
from lattice.wire import codec
from providers.http_server import contract, cors, problems
from providers.http_server.contract import Response
from providers.http_server.problems import Refused
from providers.http_server.settings import Cors

PUBLIC = Cors(
    origins=None, methods=("GET",), headers=("x-a", "x-b"), exposed_headers=(), max_age_s=9
)
PRIVATE = Cors(
    origins=frozenset({"https://a.example"}),
    methods=("GET", "PUT"),
    headers=("x-a",),
    exposed_headers=("etag",),
    max_age_s=9,
)


def decode(**message: Any) -> Response:
    return contract.decode_response(codec.pack(message))


def test_a_request_is_a_named_map_with_wasmclouds_keys() -> None:
    payload = contract.encode_request("PUT", "/a%20b", "q=1", {"accept": ["x", "y"]}, b"\x00\xff")
    assert codec.unpack(payload) == {
        "method": "PUT",
        "path": "/a%20b",
        "queryString": "q=1",
        "header": {"accept": ["x", "y"]},
        "body": b"\x00\xff",
    }


def test_repeated_headers_keep_their_order_and_odd_bytes_survive() -> None:
    headers = [(b"a", b"1"), (b"b", b"\xe9"), (b"a", b"2")]
    assert contract.header_map(headers) == {"a": ["1", "2"], "b": ["é"]}


def test_a_response_is_read() -> None:
    response = decode(statusCode=201, header={"X-A": ["1", "2"]}, body=b"hi")
    assert response == Response(201, [(b"x-a", b"1"), (b"x-a", b"2")], b"hi")


@pytest.mark.parametrize("message", [{}, {"header": None, "body": None}])
def test_missing_fields_have_defaults(message: dict[str, None]) -> None:
    assert decode(**message) == Response(200, [], b"")


def test_a_response_may_be_a_list_of_its_fields() -> None:
    # So it comes from the Rust SDK of 0.78 to 0.82.
    payload = codec.pack([404, {"x-a": ["1"]}, b"none"])
    assert contract.decode_response(payload) == Response(404, [(b"x-a", b"1")], b"none")


def test_a_payload_with_the_newer_prefix_is_read() -> None:
    payload = b"\xc1" + codec.pack({"statusCode": 204})
    assert contract.decode_response(payload).status == 204


@pytest.mark.parametrize(
    ("body", "read"), [("é", "é".encode()), ([1, 255], b"\x01\xff"), ([], b"")]
)
def test_a_body_may_be_text_or_numbers(body: object, read: bytes) -> None:
    assert decode(body=body).body == read


def test_headers_of_the_connection_are_dropped() -> None:
    dropped = {name.decode().title(): ["x"] for name in contract.DROPPED_HEADERS}
    assert decode(header=dropped | {"X-Kept": ["1"]}).headers == [(b"x-kept", b"1")]


def test_the_length_of_an_answer_to_head_is_kept_aside() -> None:
    assert decode(header={"Content-Length": ["42"]}).length == b"42"
    assert decode(header={"Content-Length": ["-42"]}).length is None


@pytest.mark.parametrize(
    "message",
    [
        {"statusCode": 99},
        {"statusCode": 101},
        {"statusCode": 600},
        {"statusCode": "200"},
        {"statusCode": True},
        {"statusCode": 2**63},
        {"header": []},
        {"header": [["a", "b"]]},
        {"header": {"": ["a"]}},
        {"header": {"a b": ["a"]}},
        {"header": {"a:": ["a"]}},
        {"header": {"a\r\nb": ["a"]}},
        {"header": {"é": ["a"]}},
        {"header": {"x" * 300: ["a"]}},
        {"header": {"a": "b"}},
        {"header": {"a": [1]}},
        {"header": {"a": ["b\r\nset-cookie: c"]}},
        {"header": {"a": ["b\nc"]}},
        {"header": {"a": ["b\0"]}},
        {"header": {"a": ["b\x7f"]}},
        {"header": {"a": ["☃"]}},
        {"header": {"connection": ["b\nc"]}},
        {"body": 1},
        {"body": {"a": 1}},
        {"body": [256]},
        {"body": ["a"]},
    ],
    ids=str,
)
def test_a_malformed_response_is_the_actors_error(message: dict[str, Any]) -> None:
    with pytest.raises(errors.ActorError, match="malformed"):
        decode(**message)


@pytest.mark.parametrize("payload", [b"", b"\xc0", b"\x93\x01\x02\x03", b"{}", b"\x81\xa1a"])
def test_what_is_no_map_is_the_actors_error(payload: bytes) -> None:
    with pytest.raises(errors.ActorError, match="malformed"):
        contract.decode_response(payload)


@given(st.binary(max_size=200))
def test_no_payload_breaks_the_decoder(payload: bytes) -> None:
    try:
        response = contract.decode_response(payload)
    except errors.ActorError:
        return
    assert 200 <= response.status <= 599


@given(st.text(), st.text())
def test_no_header_breaks_out_of_its_line(name: str, value: str) -> None:
    try:
        response = decode(header={name: [value]})
    except errors.ActorError:
        return
    for key, line in response.headers:
        assert not {0, 10, 13} & set(key + line)


def test_every_code_has_a_status() -> None:
    assert problems.STATUS_BY_CODE.keys() == errors.BY_CODE.keys()


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("no_link", 503),
        ("not_running", 503),
        ("overloaded", 429),
        ("draining", 503),
        ("denied", 403),
        ("payload_too_large", 413),
        ("deadline_exceeded", 504),
        ("unavailable", 503),
        ("internal", 500),
        ("actor_error", 502),
        ("actor_trapped", 502),
        ("cpu_exceeded", 502),
        ("memory_exceeded", 502),
    ],
)
def test_a_failure_is_a_problem_document(code: str, status: int) -> None:
    error = errors.BY_CODE[code].from_parts("what happened", at="NHOST")
    response = problems.response(error)
    headers = dict(response.headers)
    assert response.status == status
    assert headers[b"content-type"] == b"application/problem+json"
    assert headers[b"lattice-error"] == code.encode()
    assert (b"retry-after" in headers) == (status in (429, 503))
    document = json.loads(response.body)
    assert document["type"] == f"urn:lattice:error:{code}"
    assert (document["status"], document["code"], document["at"]) == (status, code, "NHOST")
    assert document["detail"] == "what happened"
    assert document["title"]


def test_a_long_text_is_cut() -> None:
    response = problems.response(errors.ActorError("x" * 10_000))
    assert len(json.loads(response.body)["detail"]) == limits.ERROR_TEXT_CHARS


PREFLIGHT = {"origin": ["https://a.example"], "access-control-request-method": ["PUT"]}


def test_a_preflight_from_an_allowed_origin_is_answered() -> None:
    response = cors.preflight(PRIVATE, "OPTIONS", PREFLIGHT)
    assert response is not None
    headers = dict(cors.apply(PRIVATE, "https://a.example", response.headers))
    assert response.status == 204
    assert headers[b"access-control-allow-origin"] == b"https://a.example"
    assert headers[b"access-control-allow-methods"] == b"GET, PUT"
    assert headers[b"access-control-allow-headers"] == b"x-a"
    assert headers[b"access-control-max-age"] == b"9"
    assert headers[b"vary"] == b"origin"


def test_a_preflight_from_elsewhere_is_refused() -> None:
    with pytest.raises(Refused) as caught:
        cors.preflight(PRIVATE, "OPTIONS", PREFLIGHT | {"origin": ["https://b.example"]})
    assert (caught.value.status, caught.value.error.code) == (403, "denied")


@pytest.mark.parametrize(
    ("method", "header"),
    [
        ("GET", PREFLIGHT),
        ("OPTIONS", {"origin": ["https://a.example"]}),
        ("OPTIONS", {"access-control-request-method": ["PUT"]}),
    ],
)
def test_what_is_no_preflight_goes_to_the_actor(method: str, header: dict[str, list[str]]) -> None:
    assert cors.preflight(PRIVATE, method, header) is None


def test_any_origin_is_a_star_and_does_not_vary() -> None:
    assert cors.apply(PUBLIC, "https://x.example", []) == [(b"access-control-allow-origin", b"*")]


def test_another_origin_is_told_nothing_but_caches_are() -> None:
    assert cors.apply(PRIVATE, "https://x.example", []) == [(b"vary", b"origin")]
    assert cors.apply(PRIVATE, None, []) == [(b"vary", b"origin")]


def test_the_links_word_replaces_the_actors() -> None:
    headers = [(b"access-control-allow-origin", b"*"), (b"x", b"y")]
    assert cors.apply(PRIVATE, "https://x.example", headers) == [(b"x", b"y"), (b"vary", b"origin")]
