"""nats-py's client with the corners closed in which a connection dies without telling (2.16).

Each method replaces one of its internals, as it offers no other way; ``tests/integration/test_bus``
breaks a connection in each of these ways.
"""

import asyncio
from typing import Any

import nats.errors
import structlog
from nats.aio.client import PING_PROTO, Client, Srv
from nats.aio.subscription import Subscription

log = structlog.get_logger()

CANCEL_AGAIN_S = 0.05
"""After so long a reconnection that was cancelled is taken to have missed it."""


class StrictClient(Client):
    """A client that survives what strangers and a silent peer can do to it."""

    def abandon(self) -> None:
        """Give the socket up with everything that was still to be sent.

        Its own ``close`` waits until a peer that may be frozen has taken it all; and what is kept
        over a reconnection would be executed when its sender has long given up.
        """
        self._pending.clear()
        self._pending_data_size = 0
        for answer in list(self._resp_map.values()):
            # What JetStream was asked; its own would wait for the whole timeout.
            if not answer.done():
                answer.set_exception(nats.errors.ConnectionReconnectingError())
        self._abort()

    def _abort(self) -> None:
        writer = getattr(self._transport, "_io_writer", None)
        if writer is not None:
            writer.transport.abort()

    async def publish(
        self,
        subject: str,
        payload: bytes = b"",
        reply: str = "",
        headers: dict[str, Any] | None = None,
    ) -> None:
        """Send now or not at all; its own would send after the reconnection.

        Raises:
            ConnectionReconnectingError: not connected.
        """
        if not self.is_connected:
            raise nats.errors.ConnectionReconnectingError
        await super().publish(subject, payload, reply, headers)

    async def close(self) -> None:
        """Close for good, even in the middle of a reconnection.

        Parts of one swallow a cancellation, and then go on to restore what was closed.
        """
        while (task := self._reconnection_task) is not None and not task.done():
            task.cancel()
            await asyncio.wait((task,), timeout=CANCEL_AGAIN_S)
        if self._flush_queue is not None:
            # Otherwise it never got as far as its own can close.
            await super().close()
        # One that failed to connect counts as closed, and its socket would stay open.
        self.abandon()

    def forget(self, subscription: Subscription) -> None:
        """Drop a subscription whose end the server may not have heard of."""
        subscription._stop_processing()  # noqa: SLF001 - its own way is too late
        self._remove_sub(subscription._id)  # noqa: SLF001

    async def _select_next_server(self) -> None:
        """Fail at once when the first connection does; its own tries the same server for ever."""
        if self.options["allow_reconnect"]:
            await super()._select_next_server()
        else:
            self._current_server = self._server_pool[0]
            await self._connect_to_server(self._current_server)

    async def _connect_to_server(self, s: Srv) -> None:
        # An attempt that failed after the handshake had begun leaves its socket open.
        self._abort()
        await super()._connect_to_server(s)

    async def _process_connect_init(self) -> None:
        """Take the handshake's failures for failures of the attempt.

        A credentials file that is just being replaced would otherwise end all attempts.
        """
        try:
            await super()._process_connect_init()
        except (nats.errors.Error, OSError, TimeoutError):
            raise
        except Exception as error:
            raise nats.errors.Error(f"handshake failed: {type(error).__name__}") from error

    async def _send_ping(self, future: asyncio.Future[bool] | None = None) -> None:
        """Ping behind what was sent so far; its own overtakes it, so that ``flush`` proves nothing.

        A subscription that was flushed is then not yet known to the server.
        """
        self._pongs.append(future or asyncio.get_running_loop().create_future())
        await self._send_command(PING_PROTO)
        await self._flush_pending()

    async def _process_op_err(self, e: Exception) -> None:
        if self.is_connected:
            self.abandon()
        await super()._process_op_err(e)

    async def _process_err(self, err_msg: str) -> None:
        """Report what the server complains of; its own would close the connection for good.

        After a fatal complaint the server closes it, which is then repaired like any other loss.
        """
        await self._error_cb(nats.errors.Error(f"nats: {err_msg}"))

    async def _process_msg(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes
    ) -> None:
        """Pass over a message that can't be read; its own would stop reading, in silence.

        A subject that is not UTF-8 is enough, and anybody may publish one.
        """
        try:
            await super()._process_msg(sid, subject, reply, data, headers)
        except (ValueError, IndexError) as error:
            log.warning("a message can't be read", subject=repr(subject), error=str(error))
