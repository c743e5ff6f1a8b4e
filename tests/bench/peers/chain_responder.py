"""The far end of the peer chain: a bare responder. ``NATS_URL``; run by the peers' interpreter."""

import asyncio
import sys

import nats
import uvloop
from nats.aio.msg import Msg


async def main() -> None:
    connection = await nats.connect(sys.argv[1])

    async def echo(message: Msg) -> None:
        await message.respond(message.data)

    await connection.subscribe("bench.chain", queue="bench", cb=echo)
    await asyncio.Event().wait()


uvloop.run(main())
