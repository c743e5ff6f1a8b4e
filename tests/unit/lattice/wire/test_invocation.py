"""The envelopes of calls: the golden files are the protocol, changing one is a change of it."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lattice import errors, limits
from lattice.wire import codec, invocation
from lattice.wire.invocation import Invocation, PayloadRef, Reply, Usage

GOLDEN = Path(__file__).parent / "golden"
NOW = 1000.0
TOKEN = "0123456789abcdef-_ABCD"

REF = PayloadRef(name="abc.1.q", size=2_000_000, digest="00ff")
PLAIN = Invocation(
    id="abc.1",
    source="counter",
    target="kv",
    interface="wasmcloud:keyvalue",
    operation="KeyValue.Get",
    payload=b"\x01\x02",
    deadline=NOW + 1.5,
    hops=2,
)
FULL = Invocation(
    id="abc.1",
    source="counter",
    target="kv",
    interface="wasi:keyvalue/store",
    operation="get",
    link_name="fast",
    payload=b"",
    deadline=NOW + 1.5,
    hops=2,
    key="once",
    trace="00-aa-bb-01",
)
STREAMED = Invocation(
    id="abc.1",
    source="http",
    target="site",
    interface="wasi:http/incoming-handler",
    operation="incoming-handler.handle",
    payload=b"\x01\x02",
    deadline=NOW + 1.5,
    takes_stream=True,
    stream_token=TOKEN,
)
REQUESTS: dict[str, tuple[Invocation, PayloadRef | None]] = {
    "request": (PLAIN, None),
    "request_full": (FULL, REF),
}
REPLIES: dict[str, tuple[Reply, PayloadRef | None]] = {
    "reply": (Reply(b"\x01\x02"), None),
    "reply_with_usage": (
        Reply(b"", Usage(cpu_us=120, memory_bytes=65536, host_calls=3, queue_us=40)),
        None,
    ),
    "reply_by_reference": (Reply(b""), PayloadRef(name="abc.1.a", size=2_000_000, digest="00ff")),
}

REQUEST: dict[str, Any] = {
    "v": 1,
    "id": "x",
    "if": "a:b",
    "op": "c",
    "ln": "default",
    "ttl": 1000,
    "hop": 0,
    "msg": b"",
}


def golden(name: str) -> bytes:
    return bytes.fromhex((GOLDEN / f"{name}.hex").read_text())


def decode(envelope: object) -> tuple[Invocation, PayloadRef | None]:
    data = envelope if isinstance(envelope, bytes) else codec.pack(envelope)
    return invocation.decode_request(data, source="counter", target="kv", now=NOW)


@pytest.mark.parametrize("name", REQUESTS)
def test_requests_are_encoded_and_decoded_as_published(name: str) -> None:
    call, ref = REQUESTS[name]

    assert invocation.encode_request(call, now=NOW, ref=ref) == golden(name)
    assert decode(golden(name)) == (call, ref)


def test_the_token_of_a_stream_travels_beside_the_payload() -> None:
    data = invocation.encode_request(STREAMED, now=NOW, stream_token=TOKEN)
    call, _ = invocation.decode_request(data, source="http", target="site", now=NOW)
    assert call == STREAMED
    answer = invocation.encode_reply("abc.1", Reply(b"head"), stream_token=TOKEN)
    assert invocation.decode_reply(answer) == (Reply(b"head", stream_token=TOKEN), None)


@pytest.mark.parametrize("token", ["short", "0123456789abcdef.", "0123456789abcdef>", "x" * 65, 5])
def test_a_token_that_could_name_another_subject_is_refused(token: object) -> None:
    with pytest.raises(errors.InvalidRequest, match="'st'"):
        decode({**REQUEST, "st": token})


@pytest.mark.parametrize("name", REPLIES)
def test_replies_are_encoded_and_decoded_as_published(name: str) -> None:
    reply, ref = REPLIES[name]

    assert invocation.encode_reply("abc.1", reply, ref=ref) == golden(name)
    assert invocation.decode_reply(golden(name)) == (reply, ref)


def test_what_an_older_host_does_not_tell_of_a_call_is_nothing() -> None:
    data = codec.pack({"v": 1, "id": "x", "msg": b"", "use": {"cpu_us": 3, "fuel": None, "mem": 9}})

    reply, _ = invocation.decode_reply(data)

    assert reply.usage == Usage(cpu_us=3, memory_bytes=9, host_calls=0, queue_us=0)


def test_errors_are_encoded_and_decoded_as_published() -> None:
    error = errors.PayloadTooLarge("payload", 11, 10, at="NHOST")

    assert invocation.encode_error("abc.1", error) == golden("error")
    with pytest.raises(errors.PayloadTooLarge) as caught:
        invocation.decode_reply(golden("error"))
    assert (caught.value.text, caught.value.at, caught.value.detail) == (
        error.text,
        "NHOST",
        error.detail,
    )


def test_cancellations_are_encoded_and_decoded_as_published() -> None:
    assert invocation.encode_cancel("abc.1") == golden("cancel")
    assert invocation.decode_cancel(golden("cancel")) == "abc.1"


@given(st.binary(max_size=50))
def test_whatever_arrives_as_a_cancellation_is_one_or_is_refused(data: bytes) -> None:
    with suppress(errors.InvalidRequest):
        assert isinstance(invocation.decode_cancel(data), str)


def test_the_time_left_is_anchored_on_arrival() -> None:
    data = invocation.encode_request(PLAIN, now=NOW)

    call, _ = invocation.decode_request(data, source="a", target="b", now=5.0)

    assert call.deadline == 6.5


@pytest.mark.parametrize(
    ("ttl", "left_s"),
    [(0, 0), (-5, 0), (1, 0.001), (2**63, limits.CALL_TIMEOUT_S_MAX)],
)
def test_a_deadline_is_held_within_bounds(ttl: int, left_s: float) -> None:
    call, _ = decode(REQUEST | {"ttl": ttl})

    assert call.deadline == NOW + left_s


def test_a_deadline_that_has_passed_is_no_time_left() -> None:
    data = invocation.encode_request(PLAIN, now=NOW + 100)

    assert codec.unpack(data)["ttl"] == 0


def test_unknown_keys_are_ignored() -> None:
    assert decode(REQUEST | {"future": 1, 5: 6}) == decode(REQUEST)


@pytest.mark.parametrize("key", ["v", "id", "if", "op", "ln", "ttl", "hop"])
def test_a_missing_key_is_named(key: str) -> None:
    with pytest.raises(errors.InvalidRequest, match=repr(key)):
        decode({name: value for name, value in REQUEST.items() if name != key})


@pytest.mark.parametrize("key", [*REQUEST, "key", "tr", "ref"])
@pytest.mark.parametrize("value", [True, 1.0, [], {"x": 1}, "text", b"bytes", -1, 7])
def test_a_wrongly_typed_key_is_named(key: str, value: object) -> None:
    right = {"v": (), "msg": (bytes,), "ttl": (int,), "hop": (int,), "ref": ()}.get(key, (str,))
    if type(value) in right and not (key == "hop" and value == -1):
        decode(REQUEST | {key: value})
        return

    with pytest.raises(errors.InvalidRequest, match=f"{key!r}|version|'name'"):
        decode(REQUEST | {key: value})


@pytest.mark.parametrize("key", ["name", "size", "digest"])
@pytest.mark.parametrize("value", [None, True, -1, []])
def test_a_wrong_reference_is_refused(key: str, value: object) -> None:
    ref = {"name": "a", "size": 1, "digest": "00"} | {key: value}

    with pytest.raises(errors.InvalidRequest, match=repr(key)):
        decode(REQUEST | {"ref": ref})


@pytest.mark.parametrize("version", [0, 2, -1, 2**60])
def test_another_version_is_refused(version: int) -> None:
    with pytest.raises(errors.InvalidRequest, match=f"version {version} is not 1"):
        decode(REQUEST | {"v": version})


@given(st.binary())
def test_no_bytes_do_worse_than_being_an_invalid_request(data: bytes) -> None:
    with pytest.raises(errors.InvalidRequest):
        decode(data)
    with pytest.raises(errors.InternalError):
        invocation.decode_reply(data)


anything = st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3) | st.binary()


@given(
    st.dictionaries(
        st.sampled_from([*REQUEST, "ref", "key", "tr", "err", "use"]),
        anything
        | st.lists(anything)
        | st.dictionaries(
            st.sampled_from(
                [
                    "name",
                    "size",
                    "digest",
                    "code",
                    "text",
                    "cpu_us",
                    "fuel",
                    "mem",
                    "calls",
                    "queue_us",
                ]
            ),
            anything,
        ),
    )
)
def test_no_map_does_worse_than_a_typed_error(changes: dict[str, Any]) -> None:
    try:
        call, _ = decode(REQUEST | changes)
    except errors.InvalidRequest:
        pass
    else:
        assert call.hops >= 0
        assert NOW <= call.deadline <= NOW + limits.CALL_TIMEOUT_S_MAX
    try:
        invocation.decode_reply(codec.pack({"v": 1} | changes))
    except errors.LatticeError:
        return


@given(
    st.builds(
        Invocation,
        source=st.just("counter"),
        target=st.just("kv"),
        interface=st.text(),
        operation=st.text(),
        payload=st.binary(),
        deadline=st.just(NOW + 1),
        link_name=st.text(),
        id=st.text(),
        hops=st.integers(0, 100),
        key=st.none() | st.text(),
        trace=st.none() | st.text(),
    )
)
def test_every_invocation_is_decoded_as_it_was_encoded(call: Invocation) -> None:
    assert decode(invocation.encode_request(call, now=NOW)) == (call, None)


@pytest.mark.parametrize(
    "envelope",
    [
        {"v": 1, "err": 5},
        {"v": 1, "err": []},
        {"v": 1, "msg": "text"},
        {"v": 1, "use": {"cpu_us": "x"}},
        {"v": 2, "msg": b""},
        [],
    ],
    ids=str,
)
def test_a_malformed_answer_leaves_the_outcome_unknown(envelope: object) -> None:
    with pytest.raises(errors.InternalError, match="answer is malformed"):
        invocation.decode_reply(codec.pack(envelope))


@pytest.mark.parametrize(
    "error",
    [
        errors.ActorError("x" * 10**6),
        errors.ActorError("half a character: \ud800"),
        errors.ActorError("odd", detail={"object": object()}),
        errors.ActorError("huge", detail={"text": "x" * 10**6}),
        errors.ActorError("huge", detail={"number": 2**70}),
        errors.ActorError("half", detail={"text": "\udfff"}),
    ],
    ids=["long", "half a character", "object", "large", "number", "half in detail"],
)
def test_an_error_always_arrives(error: errors.LatticeError) -> None:
    data = invocation.encode_error("x", error)

    assert len(data) < limits.INLINE_PAYLOAD_BYTES
    with pytest.raises(errors.ActorError) as caught:
        invocation.decode_reply(data)
    assert 0 < len(caught.value.text) <= limits.ERROR_TEXT_CHARS


def test_ids_are_unique() -> None:
    assert len({invocation.new_id() for _ in range(1000)}) == 1000
