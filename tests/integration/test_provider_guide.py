"""The provider that the guide shows works as the guide says."""

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

from lattice import errors
from lattice.rpc import Rpc
from lattice.wire import codec
from lattice.wire.invocation import Invocation
from lattice.wire.provider import HostData, ResolvedLink
from tests.support.nats_server import connected, nats_server

GUIDE = Path(__file__).parents[2] / "docs" / "providers" / "writing.md"


def greeter_class() -> Any:
    code = re.search(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    assert code
    namespace: dict[str, Any] = {}
    exec(compile(code[1], str(GUIDE), "exec"), namespace)
    return namespace["Greeter"]


async def test_the_greeter_of_the_guide_greets_over_its_link() -> None:
    async with nats_server() as server, connected(server) as bus:
        rpc = Rpc(bus, "guide", at="N")
        link = ResolvedLink(
            source_id="my-actor",
            target="greeter",
            wit_namespace="example",
            wit_package="greeter",
            target_config={"greeting": "Grüezi"},
        )
        data = HostData(
            host_id="N",
            lattice_rpc_prefix="guide",
            lattice_rpc_url=server.url,
            provider_key="greeter",
            instance_id="1",
            link_definitions=[link],
        )
        runtime = greeter_class().embed(data, bus=bus, rpc=rpc)
        await runtime.start()
        try:
            assert await greet(rpc, "Ada") == "Grüezi, Ada!"
            with pytest.raises(errors.InvalidRequest, match="wants a string"):
                await greet(rpc, 7)
        finally:
            await runtime.aclose()
            await rpc.aclose()


async def greet(rpc: Rpc, name: object) -> object:
    reply = await rpc.call(
        Invocation(
            source="my-actor",
            target="greeter",
            interface="example:greeter",
            operation="Greeter.Greet",
            payload=codec.pack(name),
            deadline=asyncio.get_running_loop().time() + 5,
        )
    )
    return codec.unpack(reply.payload)
