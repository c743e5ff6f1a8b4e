"""A provider for tests: it does what it is told, and tells what it was given."""

import asyncio
import json
import os
import time
from collections.abc import Mapping

from lattice import errors
from providers.sdk import Call, Context, Health, Link, Provider


class Parrot(Provider):
    """Repeats payloads; its config and its links say how it misbehaves."""

    def __init__(self) -> None:
        self.context: Context
        self.config: Mapping[str, str] = {}
        self.links: dict[str, Link] = {}
        self.calls = 0
        self.cancelled = 0
        self.stopped = False
        self.health_now = Health(healthy=True)
        self.gate = asyncio.Event()
        self.is_perch_taken = False

    async def start(self, context: Context, config: Mapping[str, str]) -> None:
        self.context, self.config = context, config
        match config.get("start"):
            case "refuse":
                raise errors.ProviderError("the parrot is pining for the fjords")
            case "fail":
                raise ValueError("no such bird")
            case "hang":
                await asyncio.Event().wait()
            case "exit":
                os._exit(3)

    async def stop(self) -> None:
        self.stopped = True
        if self.config.get("stop") == "hang":
            await asyncio.Event().wait()

    async def update_config(self, config: Mapping[str, str]) -> None:
        if reason := config.get("refuse"):
            raise errors.InvalidRequest(reason)
        self.config = config

    async def put_link(self, link: Link) -> None:
        if reason := link.target_config.get("refuse"):
            raise errors.InvalidRequest(reason)
        if self.is_perch_taken:
            raise errors.AlreadyExists("another bird sits on the perch")
        if link.target_config.get("slow"):
            await self.gate.wait()
        self.links[link.source_id] = link

    async def delete_link(self, link: Link) -> None:
        self.links.pop(link.source_id, None)

    async def health(self) -> Health:
        if self.config.get("health") == "hang":
            await asyncio.Event().wait()
        if self.config.get("health") == "fail":
            raise ValueError("the parrot is confused")
        return self.health_now

    async def handle(self, call: Call) -> bytes:
        self.calls += 1
        match call.operation:
            case "Parrot.Repeat":
                return call.payload
            case "Parrot.Tell":
                return json.dumps(self._told(call)).encode()
            case "Parrot.Hold":
                try:
                    await self.gate.wait()
                except asyncio.CancelledError:
                    self.cancelled += 1
                    raise
                return call.payload
            case "Parrot.Refuse":
                raise errors.ProviderError("it would not say")
            case "Parrot.Bug":
                raise ValueError("not for callers to read")
            case "Parrot.Sicken":
                self.health_now = Health(healthy=False, message=call.payload.decode())
                return b""
            case "Parrot.Recover":
                self.health_now = Health(healthy=True)
                return b""
            case "Parrot.Freeze":
                # The whole event loop: nothing of this process answers any more.
                time.sleep(3600)  # noqa: ASYNC251
                return b""
            case "Parrot.Send":
                # Whom, and what to ask of it.
                target, _, operation = call.payload.decode().partition(" ")
                return await self.context.call(target, "test:target", operation, b"", timeout_s=60)
            case "Parrot.Die":
                os._exit(4)
        raise errors.InvalidRequest(f"a parrot does not know {call.operation}")

    def _told(self, call: Call) -> dict[str, object]:
        return {
            "pid": os.getpid(),
            "source": call.source,
            "link_name": call.link.name,
            "link_config": call.link.target_config,
            "config": dict(self.config),
            "links": sorted(self.links),
            "calls": self.calls,
            "cancelled": self.cancelled,
        }
