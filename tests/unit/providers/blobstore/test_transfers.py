"""Turns of calls that move data."""

import asyncio

import pytest

from lattice import errors
from providers.blobstore import transfers
from providers.blobstore.transfers import Transfers


async def test_what_waits_with_too_much_in_hand_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(transfers, "WAITING_BYTES_MAX", 10)
    turns = Transfers(1)

    async def move(size_bytes: int) -> None:
        async with turns.turn(size_bytes):
            pass

    # Whoever gets a turn at once holds nobody's memory but its own.
    await move(1_000)
    async with turns.turn(1_000):
        waiting = asyncio.ensure_future(move(8))
        await asyncio.sleep(0)
        with pytest.raises(errors.Overloaded, match=r"8 bytes wait .* and 3 more are over .* 10"):
            await move(3)
        cancelled = asyncio.ensure_future(move(2))
        await asyncio.sleep(0)
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        other = asyncio.ensure_future(move(2))
        await asyncio.sleep(0)
    await waiting
    await other
    await move(1_000)
