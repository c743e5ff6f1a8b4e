"""Components of ``wasmcloud:messaging`` 0.3: messages that are resources, over the calls of 0.2."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from host.engine import Engine, EngineSettings
from lattice import errors
from lattice.wire import codec
from tests.support.components import guest
from tests.support.engines import idle_engine
from tests.support.host_calls import Host, Request, execution, run

PUBLISHED = codec.pack({"ok": None})


class Broker:
    """Notes what is sent, and answers as the test says."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, list[Any]]] = []
        self.answer: bytes | errors.LatticeError = PUBLISHED

    def take(self, request: Request) -> bytes:
        binding, namespace, operation, payload = request
        assert (binding, namespace) == ("", "wasmcloud:messaging")
        self.sent.append((operation, codec.unpack(payload)))
        if operation == "consumer.publish" and self.answer is not PUBLISHED and len(self.sent) > 1:
            return PUBLISHED
        if isinstance(self.answer, errors.LatticeError):
            raise self.answer
        return self.answer


Deliver = Callable[..., Awaitable[Any]]


@pytest.fixture
def broker() -> Broker:
    return Broker()


@pytest.fixture
async def deliver(broker: Broker, compiled: Path) -> AsyncIterator[Deliver]:
    async with idle_engine(instances_max=8, cache_dir=compiled) as engine:
        component = await engine.load(guest("capabilities"))

        async def deliver(body: bytes, *, reply_to: str | None = "inbox") -> Any:
            payload = codec.pack([{"subject": "orders", "body": body, "reply-to": reply_to}])
            call = execution(
                component, payload, operation="handler.handle-message", host=Host(broker.take)
            )
            return codec.unpack(await run(call))

        yield deliver


def published(subject: str, body: bytes) -> tuple[str, list[Any]]:
    return ("consumer.publish", [{"subject": subject, "body": body, "reply-to": None}])


async def test_a_message_is_handled_and_answered(deliver: Deliver, broker: Broker) -> None:
    assert await deliver(b"\x00any") == {"ok": None}
    assert broker.sent == [published("inbox", b"\x00any")]


async def test_who_wants_no_answer_gets_none(deliver: Deliver, broker: Broker) -> None:
    assert await deliver(b"any", reply_to=None) == {"ok": None}
    assert broker.sent == []


async def test_a_message_is_sent_to_a_topic(deliver: Deliver, broker: Broker) -> None:
    assert await deliver(b"send") == {"ok": None}
    assert broker.sent == [published("elsewhere", b"orders")]


async def test_a_request_is_asked_where_the_message_came_from(
    deliver: Deliver, broker: Broker
) -> None:
    broker.answer = codec.pack({"ok": {"subject": "x", "body": b"yes", "reply-to": None}})
    assert await deliver(b"ask") == {"ok": None}
    assert broker.sent == [
        ("consumer.request", ["orders", b"ask", 700]),
        published("inbox", b"yes"),
    ]


async def test_what_a_message_is_given_stays_with_it(deliver: Deliver, broker: Broker) -> None:
    assert await deliver(b"describe") == {"ok": None}
    assert broker.sent == [published("inbox", b'Some("text/plain") Some([("a", "3")])')]


async def test_a_message_without_a_topic_can_not_be_asked(deliver: Deliver) -> None:
    assert "no topic" in (await deliver(b"ask-nobody"))["err"]


async def test_a_handler_that_fails_says_so_in_words(deliver: Deliver) -> None:
    assert await deliver(b"fail") == {"err": "it was asked to"}
    assert await deliver(b"wait") == {"err": "timeout"}


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (errors.DeadlineExceeded("too late"), "timeout"),
        (errors.Denied("not there"), "denied: not there"),
        (errors.Unavailable("gone"), "unavailable: gone"),
        (codec.pack({"err": "denied: the link does not allow it"}), "denied: the link does not"),
        (codec.pack({"err": "no code"}), "provider_error: no code"),
        (b"\xc1", "the answer is none"),
        (codec.pack({"ok": 5}), "the answer is none"),
    ],
)
async def test_what_can_not_be_sent_is_an_error_of_the_interface(
    deliver: Deliver, broker: Broker, answer: bytes | errors.LatticeError, said: str
) -> None:
    broker.answer = answer
    assert (await deliver(b"send"))["err"].startswith(said)


async def test_a_guest_holds_no_more_in_messages_than_it_may_send(deliver: Deliver) -> None:
    with pytest.raises(errors.ActorTrapped, match="its messages hold"):
        await deliver(b"hoard")


@pytest.mark.parametrize(
    "payload", [b"", codec.pack([]), codec.pack([5]), codec.pack([{"subject": "a"}]), b"\xc1"]
)
async def test_what_is_no_message_is_refused(payload: bytes) -> None:
    engine = Engine(EngineSettings(instances_max=8))
    component = await engine.load(guest("capabilities"))
    with pytest.raises(errors.InvalidRequest):
        await run(execution(component, payload, operation="handler.handle-message"))
    engine.close()
