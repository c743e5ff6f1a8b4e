"""The protocol's reader, leaner than nats-py's own, on which a busy host spent much of its time.

Its own tries a pattern for each kind of line and moves the rest of the buffer up after each part.
This one finds the end of a line and splits it, and moves the rest up once per read of the socket.
All lines but those of messages, which are rare, are still read by its own.
"""

from typing import Any

from nats.errors import ProtocolError
from nats.protocol.parser import Parser

_LINE_END = b"\r\n"
_MESSAGES = (b"MSG", b"HMSG")


class LeanParser(Parser):
    """Reads what comes from the server, and hands it to the client."""

    def __init__(self, client: Any) -> None:
        super().__init__(client)
        self._others = Parser(client)
        """For all lines but those of messages; it gets a whole one at a time."""

    def hand_to(self, client: Any) -> None:
        """Have another one get what comes from now on."""
        self.nc = self._others.nc = client

    def reset(self) -> None:
        super().reset()
        self._wanted = 0
        """Bytes that the buffer has when the message at its beginning is complete."""

    async def parse(self, data: bytes = b"") -> None:
        """Hand over all messages that are complete now; the rest stays for the next time.

        Raises:
            ProtocolError: that is not how NATS speaks.
        """
        buffer = self.buf
        buffer.extend(data)
        # Or a large message would be looked at, and copied, with each piece of it that comes.
        if len(buffer) < self._wanted:
            return
        self._wanted = 0
        whole, at = bytes(buffer), 0
        try:
            while self.buf is buffer and (end := whole.find(_LINE_END, at)) >= 0:
                kind, *words = whole[at:end].split() or (b"",)
                if kind not in _MESSAGES:
                    line, at = whole[at : end + 2], end + 2
                    await self._parse_other(line)
                    continue
                try:
                    header_bytes = int(words.pop(-2)) if kind == b"HMSG" else 0
                    subject, number, *reply, size = words
                    begins, ends = end + 2, end + 2 + int(size)
                    subscription = int(number)
                except (ValueError, IndexError):
                    raise ProtocolError("nats: malformed MSG") from None
                if len(reply) > 1 or not 0 <= header_bytes <= ends - begins:
                    raise ProtocolError("nats: malformed MSG")
                if len(whole) < ends + 2:
                    self._wanted = ends + 2 - at
                    break
                at = ends + 2
                await self.nc._process_msg(  # noqa: SLF001 - as its own does
                    subscription,
                    subject,
                    reply[0] if reply else b"",
                    whole[begins + header_bytes : ends],
                    whole[begins : begins + header_bytes] if header_bytes else None,
                )
        finally:
            # Of one that was reset meanwhile, nothing is left.
            if self.buf is buffer:
                del buffer[:at]

    async def _parse_other(self, line: bytes) -> None:
        self._others.reset()
        await self._others.parse(line)
        if self._others.buf:
            raise ProtocolError("nats: unknown protocol")
