"""A provider for tests that counts executions without a doubt: it writes them down, then answers.

A line written is there even if this process is killed in the next instant, as the kernel has it;
only the machine itself could lose it.
"""

import asyncio
import os
import time
from collections.abc import Mapping
from pathlib import Path

from lattice import errors
from lattice.wire import codec
from providers.sdk import Call, Context, Provider


class Ledger(Provider):
    """Notes payloads; config ``directory`` says where."""

    def __init__(self) -> None:
        self._file = -1

    async def start(self, context: Context, config: Mapping[str, str]) -> None:
        path = Path(config["directory"]) / f"{context.host_id}-{os.getpid()}.ledger"
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    async def stop(self) -> None:
        if self._file >= 0:
            os.close(self._file)

    async def handle(self, call: Call) -> bytes:
        match call.operation:
            case "Ledger.Note":
                self._note(call.payload.decode())
                return call.payload
            case "Ledger.Hold":
                # The milliseconds to take, and the id.
                pause_ms, _, call_id = call.payload.decode().partition(" ")
                self._note(call_id)
                await asyncio.sleep(int(pause_ms) / 1000)
                return call.payload
            case "HttpServer.HandleRequest":
                call_id = codec.unpack(call.payload)["path"].removeprefix("/")
                self._note(call_id)
                return codec.pack({"statusCode": 200, "header": {}, "body": call_id.encode()})
        raise errors.InvalidRequest(f"a ledger does not know {call.operation}")

    def _note(self, call_id: str) -> None:
        os.write(self._file, f"{call_id} {time.monotonic():.6f}\n".encode())


def read(directory: Path) -> list[tuple[str, float]]:
    """Every execution that was written down, with its time on the monotonic clock."""
    found = []
    for path in sorted(directory.glob("*.ledger")):
        for line in path.read_text().splitlines():
            call_id, at = line.split()
            found.append((call_id, float(at)))
    return found
