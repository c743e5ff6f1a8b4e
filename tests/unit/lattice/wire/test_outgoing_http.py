"""Outgoing requests and what comes of them, as calls carry them."""

from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lattice import errors
from lattice.wire import http
from lattice.wire.http import Options, Request, Response

headers = st.lists(st.tuples(st.text("abc-", min_size=1), st.binary(max_size=9)), max_size=3)
milliseconds = st.none() | st.integers(0, 10**9).map(lambda number: number / 1_000)


@given(
    st.builds(
        Request,
        method=st.text(min_size=1),
        path=st.none() | st.text(),
        scheme=st.none() | st.text(),
        authority=st.none() | st.text(),
        headers=headers,
        body=st.binary(),
        trailers=headers,
    ),
    st.builds(
        Options,
        connect_timeout_s=milliseconds,
        first_byte_timeout_s=milliseconds,
        between_bytes_timeout_s=milliseconds,
    ),
)
def test_a_request_and_its_options_come_back(request: Request, options: Options) -> None:
    payload = http.pack_outgoing_request(request, options)

    again, options_again = http.unpack_outgoing_request(payload)
    assert again == request
    for name in ("connect_timeout_s", "first_byte_timeout_s", "between_bytes_timeout_s"):
        assert getattr(options_again, name) == pytest.approx(getattr(options, name), abs=1e-6)


@given(
    st.builds(
        Response, status=st.integers(100, 999), headers=headers, body=st.binary(), trailers=headers
    )
    | st.sampled_from([{"DNS-timeout": None}, {"HTTP-request-body-size": 7}])
)
def test_an_outcome_comes_back(outcome: Response | http.ErrorCode) -> None:
    assert http.unpack_outcome(http.pack_outcome(outcome)) == outcome


def test_durations_are_nanoseconds_on_the_wire() -> None:
    payload = http.pack_outgoing_request(
        Request(method="GET", path="/"), Options(connect_timeout_s=0.25, first_byte_timeout_s=1e99)
    )

    [content] = msgpack.unpackb(payload)
    assert content["connect-timeout"] == 250_000_000
    assert content["first-byte-timeout"] == 2**64 - 1
    assert content["between-bytes-timeout"] is None


@pytest.mark.parametrize("duration", [-1, 2**64 - 1 + 1e9, 0.5, "1", True, []])
def test_a_duration_is_a_number_of_nanoseconds(duration: Any) -> None:
    with pytest.raises(errors.InvalidRequest, match=r"connect-timeout .* nanoseconds"):
        http.unpack_outgoing_request(msgpack.packb([{"connect-timeout": duration}]))


@pytest.mark.parametrize("arguments", [None, [], {}, [{}, {}], [7], 7])
def test_what_is_no_list_of_one_request_is_refused(arguments: Any) -> None:
    with pytest.raises(errors.InvalidRequest):
        http.unpack_outgoing_request(msgpack.packb(arguments))


@pytest.mark.parametrize(
    "outcome",
    [
        None,
        {},
        [],
        {"ok": None},
        {"ok": {"status": 7}},
        {"err": None},
        {"err": {}},
        {"err": {"a": 1, "b": 2}},
        {"ok": {"status": 200}, "err": {"a": 1}},
    ],
)
def test_what_is_neither_a_response_nor_an_error_code_is_refused(outcome: Any) -> None:
    with pytest.raises(errors.InvalidRequest):
        http.unpack_outcome(msgpack.packb(outcome))
