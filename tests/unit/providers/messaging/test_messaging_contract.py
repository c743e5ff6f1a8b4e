"""Both faces of the contract, byte for byte."""

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lattice import errors
from lattice.wire import codec
from providers.messaging import contract
from providers.messaging.contract import Message, Publish, Request

MESSAGE = Message(subject="a.b", body=b"\x01", reply_to="c")


@pytest.mark.parametrize(
    ("operation", "payload", "is_wit"),
    [
        ("Messaging.Publish", {"subject": "a.b", "replyTo": "c", "body": b"\x01"}, False),
        ("Messaging.Publish", {"subject": "a.b", "replyTo": "c", "body": [1]}, False),
        ("Messaging.Publish", ["a.b", "c", b"\x01"], False),
        ("consumer.publish", [{"subject": "a.b", "body": b"\x01", "reply-to": "c"}], True),
    ],
)
def test_a_publish_is_read_in_both_faces(operation: str, payload: Any, is_wit: bool) -> None:
    found = contract.decode(operation, codec.pack(payload))

    assert found == Publish(message=MESSAGE, is_wit=is_wit)


@pytest.mark.parametrize(
    ("operation", "payload", "is_wit"),
    [
        ("Messaging.Request", {"subject": "a", "body": b"x", "timeoutMs": 1500}, False),
        ("Messaging.Request", ["a", b"x", 1500], False),
        ("consumer.request", ["a", b"x", 1500], True),
    ],
)
def test_a_request_is_read_in_both_faces(operation: str, payload: Any, is_wit: bool) -> None:
    found = contract.decode(operation, codec.pack(payload))

    message = Message(subject="a", body=b"x")
    assert found == Request(message=message, timeout_s=1.5, is_wit=is_wit)


def test_an_older_guests_prefix_byte_and_empty_reply_are_understood() -> None:
    payload = b"\xc1" + codec.pack({"subject": "a", "replyTo": "", "body": b""})

    found = contract.decode("Messaging.Publish", payload)

    assert found.message == Message(subject="a", body=b"")


def test_results_are_those_of_the_face_that_asked() -> None:
    wit = Publish(message=MESSAGE, is_wit=True)
    smithy = Publish(message=MESSAGE, is_wit=False)
    asked = Request(message=MESSAGE, timeout_s=1, is_wit=True)
    asked_before = Request(message=MESSAGE, timeout_s=1, is_wit=False)

    assert contract.encode_published(wit) == codec.pack({"ok": None})
    assert contract.encode_published(smithy) == b""
    assert codec.unpack(contract.encode_answer(asked, MESSAGE)) == {
        "ok": {"subject": "a.b", "body": b"\x01", "reply-to": "c"}
    }
    assert codec.unpack(contract.encode_answer(asked_before, MESSAGE)) == {
        "subject": "a.b",
        "replyTo": "c",
        "body": b"\x01",
    }


def test_a_message_without_a_reply_subject_has_none_in_smithy_rather_than_nil() -> None:
    message = Message(subject="a", body=b"x")

    delivery = contract.encode_delivery(message, is_wit=False)

    assert codec.unpack(delivery.payload) == {"subject": "a", "body": b"x"}


def test_a_handler_says_in_wit_whether_it_has_handled_a_message() -> None:
    contract.check_handled(codec.pack({"ok": None}), is_wit=True)
    contract.check_handled(b"anything", is_wit=False)

    with pytest.raises(errors.ActorError, match="out of stock"):
        contract.check_handled(codec.pack({"err": "out of stock"}), is_wit=True)
    for answer in (b"", b"\xc1", codec.pack(None), codec.pack({"err": 7}), codec.pack([])):
        with pytest.raises(errors.ActorError):
            contract.check_handled(answer, is_wit=True)


@pytest.mark.parametrize(
    ("operation", "payload"),
    [
        ("Messaging.Publish", ["a"]),
        ("Messaging.Publish", {"body": b""}),
        ("Messaging.Publish", {"subject": 7, "body": b""}),
        ("Messaging.Publish", {"subject": "a"}),
        ("Messaging.Publish", {"subject": "a", "body": [256]}),
        ("Messaging.Publish", {"subject": "a", "body": b"", "replyTo": 7}),
        ("Messaging.Request", {"subject": "a", "body": b""}),
        ("Messaging.Request", {"subject": "a", "body": b"", "timeoutMs": -1}),
        ("Messaging.Request", {"subject": "a", "body": b"", "timeoutMs": True}),
        ("consumer.publish", {"subject": "a", "body": b""}),
        ("consumer.publish", []),
        ("consumer.request", ["a", b""]),
        ("consumer.request", ["a", b"", 2**32]),
        ("consumer.request", ["a", b"", 1.5]),
        ("Messaging.Nothing", None),
        ("handler.handle-message", []),
    ],
)
def test_what_is_not_in_the_contract_is_refused(operation: str, payload: Any) -> None:
    with pytest.raises(errors.InvalidRequest):
        contract.decode(operation, codec.pack(payload))


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(st.sampled_from(["Messaging.Publish", "Messaging.Request", "consumer.publish"]), JUNK)
def test_no_payload_does_more_than_be_refused(operation: str, payload: Any) -> None:
    with contextlib.suppress(errors.InvalidRequest):
        contract.decode(operation, codec.pack(payload))
