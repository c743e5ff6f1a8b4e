"""Bodies that flow through the server: a request's, read from its connection as it is asked for."""

from collections.abc import Callable

from lattice import errors
from lattice.wire.streams import Trailers
from providers.http_server.listener import Receive


class RequestBody:
    """The rest of a request's body: a source for whoever serves the call.

    The connection is read as it is: while nobody asks, the socket fills, and the client waits.
    """

    def __init__(
        self,
        receive: Receive,
        *,
        size_max: int,
        trailers: Callable[[], Trailers],
    ) -> None:
        """``trailers`` gives them once the body was read."""
        self._receive = receive
        self._size = 0
        self._size_max = size_max
        self._read_trailers = trailers
        self._held = b""
        self._is_complete = False
        self._is_closed = False
        self.refusal: errors.PayloadTooLarge | None = None
        """Why no more of it is taken."""

    @property
    def trailers(self) -> Trailers:
        return self._read_trailers() if self._is_complete else []

    async def read(self, size_max: int) -> bytes:
        while not self._held and not self._is_complete:
            self._check_size(0)
            if self._is_closed:
                raise errors.Cancelled("the request is answered, and its body not wanted any more")
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise errors.Cancelled("the client went away")
            self._check_size(len(message["body"]))
            self._held = message["body"]
            self._is_complete = not message["more_body"]
        taken, self._held = self._held[:size_max], self._held[size_max:]
        return taken

    def _check_size(self, more_bytes: int) -> None:
        self._size += more_bytes
        if self._size > self._size_max:
            self.refusal = errors.PayloadTooLarge("the request's body", self._size, self._size_max)
            raise self.refusal

    def close(self) -> None:
        self._is_closed = True
        self._held = b""
