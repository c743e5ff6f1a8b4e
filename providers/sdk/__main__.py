"""``lattice-provider NAME``: one provider in a process of its own, started by a host.

The host writes the handshake to standard input; run by hand there is nobody to do that, and the
program says so.
"""

import asyncio
import select
import signal
import sys

import structlog

from lattice import errors, installed, log
from lattice.bus import Bus, NatsSettings
from lattice.rpc import Rpc
from lattice.wire.provider import HostData
from providers.sdk.provider import Provider
from providers.sdk.runtime import ProviderRuntime

HANDSHAKE_TIMEOUT_S = 10.0
"""A host sends the handshake at once; without one there is nothing to run for."""

USAGE_STATUS = 2
FAILURE_STATUS = 1


def main() -> None:
    """Run the provider named by the only argument."""
    try:
        provider = _load(_name(sys.argv[1:]))
        asyncio.run(_run(provider, _read_handshake()))
    except errors.InvalidRequest as error:
        sys.stderr.write(f"error: {error.text}\n")
        sys.exit(USAGE_STATUS)
    except errors.LatticeError as error:
        sys.stderr.write(f"error: {error.text} [{error.code}]\n")
        sys.exit(FAILURE_STATUS)


def _name(arguments: list[str]) -> str:
    match arguments:
        case [name] if not name.startswith("-"):
            return name
        case _:
            raise errors.InvalidRequest(
                f"usage: lattice-provider NAME, with a host's handshake on standard input"
                f" (start one with: lattice start provider lattice+process://NAME ID); NAME is one"
                f" of {_known()}"
            )


def _known() -> str:
    return ", ".join(installed.provider_names())


def _load(name: str) -> type[Provider]:
    if (entry := installed.provider(name)) is None:
        raise errors.InvalidRequest(f"there is no provider named {name!r}; there are {_known()}")
    provider = entry.load()
    assert isinstance(provider, type)
    assert issubclass(provider, Provider)
    return provider


def _read_handshake() -> HostData:
    # Before the event loop runs: a loop can't watch standard input when it is a file.
    ready, _, _ = select.select([sys.stdin], [], [], HANDSHAKE_TIMEOUT_S)
    if not ready:
        raise errors.InvalidRequest("no handshake came on standard input")
    return HostData.from_line(sys.stdin.buffer.readline())


async def _run(provider: type[Provider], data: HostData) -> None:
    log.configure(level=data.log_level, form="json" if data.structured_logging else "text")
    structlog.contextvars.bind_contextvars(provider=data.provider_key)
    settings = NatsSettings(
        servers=tuple(data.lattice_rpc_url.split(",")),
        user_jwt=data.lattice_rpc_user_jwt or None,
        user_seed=data.lattice_rpc_user_seed or None,
    )
    bus = await Bus.connect(settings, name=f"provider {data.provider_key}")
    rpc = Rpc(bus, data.lattice_rpc_prefix, at=data.host_id)
    runtime = ProviderRuntime(provider(), data, bus=bus, rpc=rpc)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, runtime.shutdown_requested.set)
    try:
        await rpc.hear_cancellations(data.provider_key)
        await rpc.hear_departures()
        await runtime.start()
        await runtime.shutdown_requested.wait()
        await runtime.aclose(drain_s=runtime.drain_s)
    finally:
        await rpc.aclose()
        await bus.aclose()


if __name__ == "__main__":
    main()
