"""Bodies that flow as a test says."""

import asyncio

from lattice import errors
from lattice.wire.streams import Trailers


class Fed:
    """A source that a test feeds; an empty piece is its end."""

    def __init__(self, *pieces: bytes | errors.LatticeError) -> None:
        self._pieces: asyncio.Queue[bytes | errors.LatticeError] = asyncio.Queue()
        for piece in pieces:
            self.feed(piece)
        self.reads = 0
        self.trailers: Trailers = []
        self.is_closed = False

    def feed(self, piece: bytes | errors.LatticeError) -> None:
        self._pieces.put_nowait(piece)

    async def read(self, _size_max: int) -> bytes:
        self.reads += 1
        piece = await self._pieces.get()
        if isinstance(piece, errors.LatticeError):
            raise piece
        return piece

    def close(self) -> None:
        self.is_closed = True
