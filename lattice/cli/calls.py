"""Calling an actor or a provider from the command line, as anything in the lattice would."""

import asyncio
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Annotated, Any

import typer

from lattice import errors, limits, names
from lattice.cli import checks, files, output
from lattice.cli.connection import connect
from lattice.cli.options import Options, command
from lattice.cli.output import Form, Result
from lattice.rpc import Rpc
from lattice.wire import codec
from lattice.wire import invocation as wire
from lattice.wire.invocation import Invocation, Reply

SOURCE = checks.CALLER
"""Who the command is to its target; a provider that wants a link from its caller gets one so."""

PayloadOption = Annotated[str | None, typer.Option(metavar="TEXT", help="Send this text.")]
PayloadFileOption = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="Send the bytes of this file; - is standard input."),
]
JsonOption = Annotated[
    str | None,
    typer.Option("--json", metavar="JSON", help="Send this value, encoded as msgpack."),
]
InterfaceOption = Annotated[
    str, typer.Option(metavar="NS:PACKAGE", help="Interface or contract, for providers.")
]
LinkNameOption = Annotated[
    str,
    typer.Option("--link-name", "-l", metavar="NAME", help=f"Link from {SOURCE!r}, for providers."),
]


class Decoding(StrEnum):
    """How to read the payload of an answer."""

    AUTO = "auto"
    TEXT = "text"
    JSON = "json"
    MSGPACK = "msgpack"
    HEX = "hex"


@dataclass(frozen=True, slots=True)
class Decoded:
    """A payload as it is shown."""

    value: Any
    """A value of JSON."""
    text: str
    encoding: Decoding


def register(app: typer.Typer, *, panel: str) -> None:
    command(
        app,
        "call",
        panel=panel,
        example="lattice call echo Echo.Say --payload hello",
    )(call)


async def call(
    options: Options,
    target: Annotated[
        str, typer.Argument(metavar="TARGET", help="Id of the component or provider.")
    ],
    operation: Annotated[
        str, typer.Argument(metavar="OPERATION", help="What it shall do, as Service.Method.")
    ],
    *,
    payload: PayloadOption = None,
    payload_file: PayloadFileOption = None,
    json_text: JsonOption = None,
    interface: InterfaceOption = "",
    link_name: LinkNameOption = names.DEFAULT_LINK,
    idempotency_key: Annotated[
        str | None,
        typer.Option(
            metavar="KEY",
            help="Have the call executed once, however often it is sent with this key.",
        ),
    ] = None,
    decode: Annotated[
        Decoding, typer.Option(help="How to read the answer; auto is text, or else hex.")
    ] = Decoding.AUTO,
    raw: Annotated[
        bool, typer.Option("--raw", help="Write the answer's bytes as they are.")
    ] = False,
) -> Result:
    """Call a component or a provider and print its answer.

    The call comes from the source ``cli``, as anything in the lattice would call. Its payload is
    text, a file, or JSON that is sent as msgpack. An answer that is no text is shown in hex, unless
    --decode or --raw says otherwise.
    """
    names.parse_entity(target)
    names.parse_link_name(link_name)
    if interface:
        names.parse_interface(interface)
    if idempotency_key is not None:
        wire.parse_key(idempotency_key, what="--idempotency-key")
    body = read_payload(text=payload, file=payload_file, json_text=json_text)
    timeout_s = options.timeout_ms / 1000 if options.timeout_ms else limits.CALL_TIMEOUT_S
    async with connect(options) as connection:
        rpc = Rpc(connection.bus, connection.lattice, at=SOURCE)
        invocation = Invocation(
            source=SOURCE,
            target=target,
            interface=interface,
            operation=operation,
            link_name=link_name,
            payload=body,
            key=idempotency_key,
            deadline=asyncio.get_running_loop().time() + timeout_s,
        )
        try:
            await rpc.hear_departures()
            reply = await rpc.call(invocation)
        except errors.NotRunning as error:
            if error.at is not None:
                raise
            # NATS found nobody; its subject means nothing to people.
            raise errors.NotRunning(
                f"nobody runs {target} on lattice {connection.lattice!r}"
            ) from error
        finally:
            await rpc.aclose()
    return call_result(reply, decode, raw=raw and options.form is Form.TEXT)


def read_payload(*, text: str | None, file: str | None, json_text: str | None) -> bytes:
    """The payload, from the one place that was named; empty when none was.

    Raises:
        InvalidRequest: several were named, the file can't be read, or the JSON is none.
        PayloadTooLarge: over the limit of all payloads.
    """
    if sum(source is not None for source in (text, file, json_text)) > 1:
        raise errors.InvalidRequest("only one of --payload, --payload-file and --json, please")
    if text is not None:
        return text.encode(errors="surrogateescape")
    if file is not None:
        return _read(file)
    if json_text is not None:
        return _packed(json_text)
    return b""


def decoded(payload: bytes, decoding: Decoding) -> Decoded:
    """Read a payload.

    Raises:
        InvalidRequest: it is not what it was to be read as.
    """
    return _DECODERS[decoding](payload)


def call_result(reply: Reply, decoding: Decoding, *, raw: bool) -> Result:
    if raw:
        return Result(fields={}, text=[], raw=reply.payload)
    shown = decoded(reply.payload, decoding)
    note = ""
    if decoding is Decoding.AUTO and shown.encoding is Decoding.HEX:
        note = (
            f"{len(reply.payload)} bytes that are not text, in hex; read them with"
            " --decode msgpack, or take them with --raw"
        )
    usage = None
    if (used := reply.usage) is not None:
        usage = asdict(used)
    return Result(
        fields={"payload": shown.value, "encoding": shown.encoding.value, "usage": usage},
        text=[shown.text.removesuffix("\n")] if shown.text else [],
        note=note,
    )


def _read(file: str) -> bytes:
    # One byte more than allowed tells whether there is too much, however much it is.
    size_max = limits.PAYLOAD_BYTES_MAX + 1
    try:
        if file == "-":
            content = sys.stdin.buffer.read(size_max)
        else:
            with files.named(file).open("rb") as stream:
                content = stream.read(size_max)
    except OSError as error:
        raise errors.InvalidRequest(f"can't read {file}: {error.strerror}") from error
    if len(content) == size_max:
        raise errors.PayloadTooLarge(file, size_max, limits.PAYLOAD_BYTES_MAX)
    return content


def _packed(text: str) -> bytes:
    try:
        return codec.pack(json.loads(text))
    except (ValueError, OverflowError, RecursionError) as error:
        raise errors.InvalidRequest(f"--json: {error}") from None


def _auto(payload: bytes) -> Decoded:
    try:
        return _text(payload)
    except errors.InvalidRequest:
        return _hex(payload)


def _text(payload: bytes) -> Decoded:
    try:
        text = payload.decode()
    except UnicodeDecodeError as error:
        raise errors.InvalidRequest(f"the answer is not UTF-8 text: {error.reason}") from None
    if any(not (c.isprintable() or c in "\t\r\n") for c in text):
        raise errors.InvalidRequest("the answer has control characters; use --raw or --decode hex")
    return Decoded(text, text, Decoding.TEXT)


def _json(payload: bytes) -> Decoded:
    try:
        value = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise errors.InvalidRequest(f"the answer is not JSON: {error}") from None
    return Decoded(value, json.dumps(value, indent=2), Decoding.JSON)


def _msgpack(payload: bytes) -> Decoded:
    if not payload:
        # Operations without a result answer so.
        return Decoded(None, "", Decoding.MSGPACK)
    value = output.printable(codec.unpack_payload(payload))
    return Decoded(value, json.dumps(value, indent=2), Decoding.MSGPACK)


def _hex(payload: bytes) -> Decoded:
    return Decoded(payload.hex(), payload.hex(), Decoding.HEX)


_DECODERS: dict[Decoding, Callable[[bytes], Decoded]] = {
    Decoding.AUTO: _auto,
    Decoding.TEXT: _text,
    Decoding.JSON: _json,
    Decoding.MSGPACK: _msgpack,
    Decoding.HEX: _hex,
}
