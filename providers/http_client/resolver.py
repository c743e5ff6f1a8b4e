"""Names to addresses, as the system does it."""

import asyncio
import contextlib
import socket
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address
from typing import Protocol

from lattice import limits
from providers.http_client import addresses
from providers.http_client.addresses import Address
from providers.http_client.failures import Failure


class Resolver(Protocol):
    """Finds the addresses of a host."""

    async def resolve(self, name: str) -> list[Address]:
        """Its addresses, those to try first first; at least one.

        Raises:
            Failure: there are none.
        """
        ...


class SystemResolver:
    """Asks the system: its hosts file, its name servers, its order of addresses.

    The system's function blocks, for as long as it likes; threads of our own wait for it, so that
    slow name servers hold up nobody else's.
    """

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(limits.HTTP_CLIENT_LOOKUPS_MAX, "http-client lookup")

    async def resolve(self, name: str) -> list[Address]:
        loop = asyncio.get_running_loop()
        try:
            found = await loop.run_in_executor(self._threads, _look_up, name)
        except (OSError, UnicodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not a name"
            raise Failure(
                "DNS-error",
                f"{name} has no address: {reason}",
                {"rcode": None, "info-code": None},
            ) from None
        return found[: limits.HTTP_CLIENT_ADDRESSES_MAX]

    def close(self) -> None:
        """Wait for nothing: a lookup that hangs ends by itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _look_up(name: str) -> list[Address]:
    found: dict[Address, None] = {}
    for _, _, _, _, address in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM):
        # One with a scope is link-local, and its interface is nobody's to choose.
        with contextlib.suppress(ValueError):
            found[addresses.normal(ip_address(str(address[0]).partition("%")[0]))] = None
    if not found:
        raise OSError(0, "none that is IPv4 or IPv6")
    return list(found)
