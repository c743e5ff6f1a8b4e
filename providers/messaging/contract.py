"""``wasmcloud:messaging`` in its two faces: payloads of calls to values, and back.

Actors built for wasmCloud 0.x speak ``messaging.smithy`` 0.1: ``Messaging`` and
``MessageSubscriber``. Components speak the WIT package of wasmCloud 1.x, ``consumer`` and
``handler``, whose functions take a list of arguments. Both mean the same; behind them all is one.
"""

from dataclasses import dataclass
from typing import Any

from lattice import errors, limits
from lattice.wire import codec

PACKAGE = ("wasmcloud", "messaging")
"""Namespace and package, as links name it."""

HANDLER, CONSUMER = "handler", "consumer"
"""WIT's interfaces: the one that an actor serves, and the one that it uses."""

HANDLERS = frozenset({HANDLER, "incoming-handler"})
CONSUMERS = frozenset({CONSUMER, "producer", "request-reply"})
"""With those of 0.3, which hosts call and answer as the former."""

TIMEOUT_MS_MAX = 2**32 - 1
"""Both faces have a u32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message as actors know it; unlike one of NATS it has no headers."""

    subject: str
    body: bytes
    reply_to: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Publish:
    """An actor sends a message."""

    message: Message
    is_wit: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """An actor sends a message and wants an answer."""

    message: Message
    timeout_s: float
    is_wit: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """The call that brings a message to an actor."""

    interface: str
    operation: str
    payload: bytes


def decode(operation: str, payload: bytes) -> Publish | Request:
    """Read what an actor asks for.

    Raises:
        InvalidRequest: no such operation, or a field is missing or of a wrong type.
        PayloadTooLarge: more than a call may carry.
    """
    match operation:
        case "Messaging.Publish":
            content = codec.named(codec.unpack_payload(payload), ("subject", "replyTo", "body"))
            return Publish(message=_message(operation, content, "replyTo"), is_wit=False)
        case "Messaging.Request":
            content = codec.named(codec.unpack_payload(payload), ("subject", "body", "timeoutMs"))
            timeout_ms = content.get("timeoutMs") if isinstance(content, dict) else None
            return Request(
                message=_message(operation, content, None),
                timeout_s=_timeout_s(operation, timeout_ms),
                is_wit=False,
            )
        case "consumer.publish":
            (content,) = _arguments(operation, payload, 1)
            return Publish(message=_message(operation, content, "reply-to"), is_wit=True)
        case "consumer.request":
            subject, body, timeout_ms = _arguments(operation, payload, 3)
            return Request(
                message=_message(operation, {"subject": subject, "body": body}, None),
                timeout_s=_timeout_s(operation, timeout_ms),
                is_wit=True,
            )
    raise errors.InvalidRequest(f"wasmcloud:messaging has no operation {operation[:100]!r}")


def encode_published(publish: Publish) -> bytes:
    """The result of a ``Publish``."""
    return codec.pack({"ok": None}) if publish.is_wit else b""


def encode_answer(request: Request, answer: Message) -> bytes:
    """The result of a ``Request``."""
    if request.is_wit:
        return codec.pack({"ok": _wit(answer)})
    return codec.pack(_smithy(answer))


def encode_delivery(message: Message, *, is_wit: bool) -> Delivery:
    if is_wit:
        return Delivery(
            interface=f"wasmcloud:messaging/{HANDLER}",
            operation="handler.handle-message",
            payload=codec.pack([_wit(message)]),
        )
    return Delivery(
        interface="wasmcloud:messaging",
        operation="MessageSubscriber.HandleMessage",
        payload=codec.pack(_smithy(message)),
    )


def check_handled(payload: bytes, *, is_wit: bool) -> None:
    """Look whether an actor says that it has handled a message: in WIT, it may say that not.

    Raises:
        ActorError: it says so, in its own words; or what it says is no result.
    """
    if not is_wit:
        return
    try:
        result = codec.unpack(payload)
    except errors.NotExecuted as error:
        raise errors.ActorError(f"the actor's result is malformed: {error.text}") from error
    match result:
        case {"ok": _}:
            return
        case {"err": str(text)}:
            raise errors.ActorError(text[: limits.ERROR_TEXT_CHARS] or "the handler gave no reason")
    raise errors.ActorError("the actor's result is malformed: want {ok: nil} or {err: text}")


def _wit(message: Message) -> dict[str, Any]:
    return {"subject": message.subject, "body": message.body, "reply-to": message.reply_to}


def _smithy(message: Message) -> dict[str, Any]:
    # A text that may be absent is, and never nil: wasmCloud's decoder in Go refuses that.
    reply_to = {} if message.reply_to is None else {"replyTo": message.reply_to}
    return {"subject": message.subject, **reply_to, "body": message.body}


def _arguments(operation: str, payload: bytes, count: int) -> list[Any]:
    arguments = codec.unpack(payload)
    if not isinstance(arguments, list) or len(arguments) != count:
        raise errors.InvalidRequest(f"{operation}: the payload must be a list of {count}")
    return arguments


def _message(operation: str, content: Any, reply_name: str | None) -> Message:
    if not isinstance(content, dict):
        raise errors.InvalidRequest(f"{operation}: a message must be a map of named fields")
    subject = content.get("subject")
    if not isinstance(subject, str):
        raise errors.InvalidRequest(f"{operation}: subject must be a string")
    reply_to = content.get(reply_name)
    if not isinstance(reply_to, str | None):
        raise errors.InvalidRequest(f"{operation}: {reply_name} must be a string")
    body = codec.as_bytes(content.get("body"))
    if body is None:
        raise errors.InvalidRequest(f"{operation}: body must be bytes")
    # Guests of 0.x that know no absence send an empty text.
    return Message(subject=subject, body=body, reply_to=reply_to or None)


def _timeout_s(operation: str, timeout_ms: Any) -> float:
    if type(timeout_ms) is not int or not 0 <= timeout_ms <= TIMEOUT_MS_MAX:
        raise errors.InvalidRequest(f"{operation}: the timeout must be whole milliseconds, a u32")
    return timeout_ms / 1000
