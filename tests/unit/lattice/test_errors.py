"""Every error survives the wire, and nothing a peer sends does harm."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lattice import errors
from lattice.wire import codec

CODES = {
    "no": "no_link not_running overloaded draining denied invalid_request payload_too_large"
    " hop_limit conflict not_found already_exists",
    "unknown": "deadline_exceeded cancelled unavailable internal",
    "yes": "actor_error actor_trapped cpu_exceeded memory_exceeded provider_error",
}

MADE = [
    errors.NoLink("counter", "default", "wasi:keyvalue/store"),
    errors.NotRunning("nobody"),
    errors.PayloadTooLarge("payload", 11, 10),
    errors.HopLimit(33, 32, at="N"),
    errors.ActorTrapped("unreachable", backtrace="main", memory_bytes=5),
    errors.CpuExceeded(6, 5),
    errors.MemoryExceeded(6, 5),
]


def test_the_list_of_codes_is_the_protocols() -> None:
    found = {
        executed: {code for code, cls in errors.BY_CODE.items() if cls.executed == executed}
        for executed in CODES
    }

    assert found == {executed: set(codes.split()) for executed, codes in CODES.items()}


def test_only_three_codes_are_repeated_by_the_runtime_and_none_that_may_have_had_an_effect() -> (
    None
):
    repeated = {cls for cls in errors.BY_CODE.values() if cls.retryable}

    assert repeated == {errors.NotRunning, errors.Overloaded, errors.Draining}
    assert all(cls.executed == "no" for cls in repeated)


@pytest.mark.parametrize("error", MADE, ids=lambda error: error.code)
def test_an_error_made_here_is_the_same_on_the_other_side(error: errors.LatticeError) -> None:
    rebuilt = errors.from_wire(codec.unpack(codec.pack(error.to_wire())))

    assert type(rebuilt) is type(error)
    assert (str(rebuilt), rebuilt.at, rebuilt.detail) == (str(error), error.at, error.detail)


@pytest.mark.parametrize("code", sorted(errors.BY_CODE))
def test_every_code_is_rebuilt(code: str) -> None:
    rebuilt = errors.from_wire({"code": code, "text": "what", "at": "N", "detail": {"a": 1}})

    assert type(rebuilt) is errors.BY_CODE[code]
    assert (rebuilt.text, rebuilt.at, rebuilt.detail) == ("what", "N", {"a": 1})


@pytest.mark.parametrize("code", ["from_the_future", "", None, 5, b"no_link", ["no_link"]])
def test_an_unknown_code_is_internal_and_keeps_what_it_said(code: object) -> None:
    rebuilt = errors.from_wire({"code": code, "text": "what"})

    assert type(rebuilt) is errors.InternalError
    assert "what" in rebuilt.text
    assert repr(code) in rebuilt.text


@pytest.mark.parametrize(
    "wire",
    [{}, {"code": "denied"}, {"code": "denied", "text": 5, "at": 5, "detail": 5}],
    ids=["nothing", "code only", "wrong types"],
)
def test_missing_and_wrongly_typed_fields_are_passed_over(wire: Mapping[str, Any]) -> None:
    rebuilt = errors.from_wire(wire)

    assert (rebuilt.text.partition(":")[2].strip(), rebuilt.at, rebuilt.detail) == ("", None, {})


def test_a_detail_that_json_cannot_say_is_left_out() -> None:
    rebuilt = errors.from_wire(
        {"code": "denied", "text": "", "detail": {"a": 1, b"b": 2, "c": b"x", "d": None}}
    )

    assert rebuilt.detail == {"a": 1, "d": None}


values = st.none() | st.integers() | st.binary() | st.text() | st.lists(st.binary())


@given(st.dictionaries(st.text() | st.sampled_from(["code", "text", "at"]), values))
def test_whatever_a_peer_sends_becomes_an_error_that_can_be_shown(wire: dict[str, Any]) -> None:
    rebuilt = errors.from_wire(wire | {"detail": wire})

    json.dumps(rebuilt.to_wire())


def test_a_missing_link_comes_with_the_command_that_puts_it() -> None:
    assert errors.NoLink("a", "default", "wasi:keyvalue/store", target="b").text.endswith(
        "lattice link put a b wasi keyvalue"
    )
    assert errors.NoLink("a", "fast", "wasmcloud:keyvalue").text.endswith(
        "lattice link put a TARGET wasmcloud keyvalue --link-name fast"
    )


def test_figures_are_in_the_text_and_in_the_detail() -> None:
    error = errors.PayloadTooLarge("payload", 11, 10)

    assert str(error) == "payload is 11 bytes, over the limit of 10"
    assert error.detail == {"size": 11, "limit": 10}


def test_nats_is_only_blamed_by_who_can_not_reach_it() -> None:
    told = errors.from_wire(errors.NatsAway("redis at 127.0.0.1 does not answer").to_wire())
    assert type(told) is errors.Unavailable
    assert "NATS" not in told.remedy
    assert "LATTICE_NATS_URL" in errors.NatsAway("not connected to NATS").remedy
