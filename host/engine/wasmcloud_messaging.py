"""``wasmcloud:messaging`` 0.3: messages that are resources, over the calls that 0.2 makes.

Its ``incoming-handler`` is called as 0.2's ``handler``, and what it sends goes over the link as
0.2's ``consumer``: a provider need not know which of the two an actor was built for. A broker of
these messages carries no content type and no metadata, so what a guest sets of them stays with it.
"""

from collections.abc import Callable
from typing import Any, ClassVar

from host.engine import wit
from host.engine.component import Entry
from host.engine.component_guest import ComponentGuest, Later, Table, call_named, told
from host.engine.guest import GuestFault, HostCalls
from host.engine.wasip2 import err, get, ok
from lattice import errors, limits
from lattice.wire import codec

TABLE = Table()
function = TABLE.put

PACKAGE = "wasmcloud:messaging"
"""What links are looked up by: it is the same link, whichever interface it names."""

TYPES = "wasmcloud:messaging/types"
PRODUCER = "wasmcloud:messaging/producer"
REQUEST_REPLY = "wasmcloud:messaging/request-reply"

TIMEOUT_MS = 2**32 - 1
"""A request without a timeout waits as long as the call that makes it."""

METADATA_MAX = 100
"""Pairs of one message."""

BROKER_MESSAGE = wit.Record(
    (
        ("subject", wit.Primitive("string")),
        ("body", wit.List(wit.Primitive("u8"))),
        ("reply-to", wit.Option(wit.Primitive("string"))),
    )
)
_TEXT = wit.Primitive("string")
CHECKS = {
    "handler.handle-message": wit.checker(wit.Tuple((BROKER_MESSAGE,))),
    "consumer.publish": wit.checker(wit.Variant((("ok", None), ("err", _TEXT)))),
    "consumer.request": wit.checker(wit.Variant((("ok", BROKER_MESSAGE), ("err", _TEXT)))),
}
"""What calls bring and answer."""


class Message:
    """A message that came, or one that a guest made: that has no topic."""

    __slots__ = ("body", "content_type", "metadata", "reply_to", "topic")

    def __init__(self, body: bytes, topic: str = "", reply_to: str | None = None) -> None:
        self.body = body
        self.topic = topic
        self.reply_to = reply_to
        self.content_type: str | None = None
        self.metadata: list[list[str]] = []

    @property
    def size(self) -> int:
        return len(self.body) + sum(len(key) + len(value) for key, value in self.metadata)


class Client:
    """What a guest calls its connection: the name of a link, if there is one of that name.

    Else it is the link that the guest has chosen, or the default one.
    """

    __slots__ = ("link_name",)

    def __init__(self, link_name: str) -> None:
        self.link_name = link_name


class RequestOptions:
    __slots__ = ("timeout_ms",)

    def __init__(self) -> None:
        self.timeout_ms = TIMEOUT_MS


@function(TYPES, "[static]client.connect")
def _connect(guest: ComponentGuest, name: str) -> Any:
    return ok(guest.own("client", Client(name if name != "default" else "")))


@function(TYPES, "[method]client.disconnect")
def _disconnect(_guest: ComponentGuest, _number: int) -> Any:
    return ok()


@function(TYPES, "[constructor]message")
def _message(guest: ComponentGuest, body: bytes) -> wit.Own:
    _check_held(guest, len(body))
    return guest.own("message", Message(body))


def _check_held(guest: ComponentGuest, more: int = 0) -> None:
    """Refuse what would let a guest hold more in messages than it may send."""
    held = sum(each.size for each in guest.resources.values() if isinstance(each, Message))
    if held + more > guest.limits.request_bytes:
        raise GuestFault(
            f"its messages hold {held + more} bytes, over the limit of {guest.limits.request_bytes}"
        )


@function(TYPES, "[method]message.topic")
def _topic(guest: ComponentGuest, number: int) -> str:
    return get(guest, number, Message).topic


@function(TYPES, "[method]message.content-type")
def _content_type(guest: ComponentGuest, number: int) -> str | None:
    return get(guest, number, Message).content_type


@function(TYPES, "[method]message.set-content-type")
def _set_content_type(guest: ComponentGuest, number: int, content_type: str) -> None:
    get(guest, number, Message).content_type = content_type[: limits.ERROR_TEXT_CHARS]


@function(TYPES, "[method]message.data")
def _data(guest: ComponentGuest, number: int) -> bytes:
    return get(guest, number, Message).body


@function(TYPES, "[method]message.set-data")
def _set_data(guest: ComponentGuest, number: int, body: bytes) -> None:
    get(guest, number, Message).body = body
    _check_held(guest)


@function(TYPES, "[method]message.metadata")
def _metadata(guest: ComponentGuest, number: int) -> list[list[str]] | None:
    return get(guest, number, Message).metadata or None


@function(TYPES, "[method]message.set-metadata")
def _set_metadata(guest: ComponentGuest, number: int, metadata: list[list[str]]) -> None:
    message = get(guest, number, Message)
    if len(metadata) > METADATA_MAX:
        raise GuestFault(f"metadata of {len(metadata)} pairs is over the limit of {METADATA_MAX}")
    message.metadata = metadata
    _check_held(guest)


@function(TYPES, "[method]message.add-metadata")
def _add_metadata(guest: ComponentGuest, number: int, key: str, value: str) -> None:
    others = [pair for pair in get(guest, number, Message).metadata if pair[0] != key]
    _set_metadata(guest, number, [*others, [key, value]])


@function(TYPES, "[method]message.remove-metadata")
def _remove_metadata(guest: ComponentGuest, number: int, key: str) -> None:
    message = get(guest, number, Message)
    message.metadata = [pair for pair in message.metadata if pair[0] != key]


def _failed(error: errors.LatticeError) -> dict[str, Any]:
    text = told(error)
    match error:
        case errors.DeadlineExceeded():
            return err({"timeout": None})
        case errors.Denied():
            return err({"permission-denied": text})
        case errors.NoLink() | errors.NotRunning() | errors.Unavailable():
            return err({"connection": text})
        case _:
            return err({"other": text})


def _send(
    guest: ComponentGuest,
    interface: str,
    operation: str,
    arguments: list[Any],
    *,
    client: Client | None = None,
    finish: Callable[[Any], Any] = ok,
) -> Later:
    named = client.link_name if client else ""
    chosen = guest.link_name(interface, "wasmcloud:messaging/consumer")

    def begin(host: HostCalls) -> Any:
        payload = codec.pack(arguments)
        return call_named(host, named, PACKAGE, operation, payload, otherwise=chosen)

    def end(answer: bytes) -> Any:
        try:
            result = codec.unpack(answer)
            CHECKS[operation](result, operation, wit.Budget())
        except errors.NotExecuted as error:
            return err({"other": f"the answer is none: {error.text}"[: limits.ERROR_TEXT_CHARS]})
        if "err" not in result:
            return finish(result["ok"])
        code, _, text = result["err"].partition(": ")
        return _failed(errors.BY_CODE.get(code, errors.ProviderError).from_parts(text or code))

    return Later(begin, end, _failed, is_host_call=True)


@function(PRODUCER, "send", suspends=True)
def _produce(guest: ComponentGuest, number: int, topic: str, message: int) -> Later:
    client, sent = get(guest, number, Client), _taken(guest, message)
    broker_message = {"subject": topic, "body": sent.body, "reply-to": None}
    return _send(guest, PRODUCER, "consumer.publish", [broker_message], client=client)


def _taken(guest: ComponentGuest, number: int) -> Message:
    message = get(guest, number, Message)
    guest.take(number)
    return message


@function(REQUEST_REPLY, "[constructor]request-options")
def _options(guest: ComponentGuest) -> wit.Own:
    return guest.own("request-options", RequestOptions())


@function(REQUEST_REPLY, "[method]request-options.set-timeout-ms")
def _set_timeout(guest: ComponentGuest, number: int, timeout_ms: int) -> None:
    get(guest, number, RequestOptions).timeout_ms = timeout_ms


@function(REQUEST_REPLY, "[method]request-options.set-expected-replies")
def _set_expected(guest: ComponentGuest, number: int, _replies: int) -> None:
    # Brokers of requests give the first.
    get(guest, number, RequestOptions)


@function(REQUEST_REPLY, "request", suspends=True)
def _request(guest: ComponentGuest, number: int, message: int, options: int | None) -> Any:
    client, asked = get(guest, number, Client), get(guest, message, Message)
    said = RequestOptions()
    if options is not None:
        said = get(guest, options, RequestOptions)
        guest.take(options)
    if not asked.topic:
        return err({"other": "a message that a guest made has no topic to be asked at"})

    def finish(answer: dict[str, Any]) -> Any:
        _check_held(guest, len(answer["body"]))
        found = Message(answer["body"], answer["subject"], answer["reply-to"])
        return ok([guest.own("message", found)])

    arguments = [asked.topic, asked.body, said.timeout_ms]
    return _send(guest, REQUEST_REPLY, "consumer.request", arguments, client=client, finish=finish)


@function(REQUEST_REPLY, "reply", suspends=True)
def _reply(guest: ComponentGuest, number: int, message: int) -> Any:
    asked, answer = get(guest, number, Message), _taken(guest, message)
    if asked.reply_to is None:
        # As the interface has it: who sends wants no answer then.
        return ok()
    broker_message = {"subject": asked.reply_to, "body": answer.body, "reply-to": None}
    return _send(guest, REQUEST_REPLY, "consumer.publish", [broker_message])


class IncomingHandler(Entry):
    """The exported ``incoming-handler``: called as 0.2's, with a message."""

    operation: ClassVar[str] = "handler.handle-message"

    def arguments(self, guest: ComponentGuest, payload: bytes) -> list[Any]:
        arguments = super().arguments(guest, payload)
        CHECKS[self.operation](arguments, self.operation, wit.Budget())
        (message,) = arguments
        came = Message(message["body"], message["subject"], message["reply-to"])
        return [guest.own("message", came)]

    def response(self, _guest: ComponentGuest, result: Any) -> bytes:
        if "ok" in result:
            return codec.pack(result)
        ((case, text),) = result["err"].items()
        return codec.pack(err(case if text is None else text))
