"""What is left of a connection to a server that is about to go, until its last call has arrived."""

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import nats.errors
import structlog
from nats.aio.client import PING_PROTO, PONG_PROTO

from lattice import limits
from lattice.bus.liveness import PROBE
from lattice.bus.parser import LeanParser

if TYPE_CHECKING:
    from lattice.bus.client import StrictClient

log = structlog.get_logger()

READ_BYTES = 32 * limits.KIB

HEARD_CHECK_S = 0.02
"""Between questions to a server that is left whether it has heard of the connection to another."""

HEARD_S_MAX = 1.0
"""Interest spreads within milliseconds; a server that has not said so by then never may: it does
not permit us to ask, or belongs to another cluster."""


class Leftover:
    """The connection to a server that was left, read until nothing more can come over it.

    A server drops what others send it for a queue group that it no longer knows any member of, and
    tells nobody; so calls that are on their way between two servers would be lost. Here the groups
    are left only when it knows of their members elsewhere: then it passes such calls on.
    """

    def __init__(self, client: "StrictClient", transport: Any, parser: LeanParser) -> None:
        self._client = client
        self._transport = transport
        self._parser = parser
        self._parser.hand_to(self)
        self._pong: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._forbidden = False
        self.ended = asyncio.Event()
        """Set once nothing comes over it any more."""

    async def read(self) -> None:
        """Hand over what comes for queue groups, until the connection ends."""
        try:
            while not self._transport.at_eof():
                await self._parser.parse(await self._transport.read(READ_BYTES))
        except (OSError, nats.errors.Error) as error:
            log.debug("a server that was left has closed the connection", error=str(error))
        finally:
            if not self._pong.done():
                self._pong.set_result(None)

    async def leave_groups(self) -> None:
        """Leave the queue groups there; returns once all that was sent for them is here.

        The client must be connected to another server.

        Raises:
            Error: it is not.
        """
        heard = asyncio.Event()

        async def note(_: object) -> None:
            heard.set()

        # Interest spreads in order: who knows of this one knows of all those before it.
        subject = f"{self._client.new_inbox()}.{PROBE}"
        last = await self._client.subscribe(subject, cb=note)
        loop = asyncio.get_running_loop()
        end = loop.time() + HEARD_S_MAX
        try:
            while not (heard.is_set() or self._pong.done()) and loop.time() < end:
                if not self._forbidden:
                    self._write(b"PUB %b 0\r\n\r\n" % subject.encode())
                with suppress(TimeoutError):
                    async with asyncio.timeout(HEARD_CHECK_S):
                        await heard.wait()
        finally:
            if self._client.is_connected:
                await self._client._send_unsubscribe(last._id)  # noqa: SLF001
            self._client.forget(last)
        for number, subscription in list(self._client._subs.items()):  # noqa: SLF001
            if subscription.queue:
                self._write(b"UNSUB %d\r\n" % number)
        self._write(PING_PROTO)
        await asyncio.shield(self._pong)

    def close(self) -> None:
        """Close the connection. Safe to call twice."""
        self.ended.set()
        self._client.leftover = None
        self._transport._io_writer.transport.abort()  # noqa: SLF001 - its own waits for the peer

    def _write(self, data: bytes) -> None:
        if not self._transport._io_writer.is_closing():  # noqa: SLF001
            self._transport.write(data)

    async def _process_msg(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes
    ) -> None:
        subscription = self._client._subs.get(sid)  # noqa: SLF001
        # What is no call comes over the new connection as well.
        if subscription is not None and subscription.queue:
            await self._client._process_msg(sid, subject, reply, data, headers)  # noqa: SLF001

    async def _process_ping(self) -> None:
        self._write(PONG_PROTO)

    async def _process_pong(self) -> None:
        if not self._pong.done():
            self._pong.set_result(None)

    async def _process_err(self, message: str) -> None:
        # It would write each further question into its log.
        self._forbidden = True
        log.debug("a server that was left complains", error=message)

    async def _process_info(self, info: dict[str, Any]) -> None:
        """What it says of other servers is no news."""
