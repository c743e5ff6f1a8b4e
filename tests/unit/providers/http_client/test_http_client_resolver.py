"""Names to addresses, through the system's own resolver."""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator
from ipaddress import ip_address
from typing import Any

import pytest

from lattice import limits
from providers.http_client.failures import Failure
from providers.http_client.resolver import SystemResolver

Found = list[tuple[Any, ...]]


@pytest.fixture
async def resolver() -> AsyncIterator[SystemResolver]:
    resolver = SystemResolver()
    yield resolver
    resolver.close()


def found(*addresses: str) -> Found:
    return [(0, 0, 0, "", (address, 0)) for address in addresses]


async def test_localhost_is_this_machine(resolver: SystemResolver) -> None:
    assert all(address.is_loopback for address in await resolver.resolve("localhost"))


async def test_addresses_keep_their_order_and_come_once_in_their_plain_form(
    resolver: SystemResolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look_up(*_arguments: Any, **_options: Any) -> Found:
        return found("2606:4700::1", "::ffff:1.2.3.4", "1.2.3.4", "fe80::1%eth0", "2606:4700::1")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    assert await resolver.resolve("a.example") == [
        ip_address(text) for text in ("2606:4700::1", "1.2.3.4", "fe80::1")
    ]


async def test_a_name_with_many_addresses_gives_some_of_them(
    resolver: SystemResolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look_up(*_arguments: Any, **_options: Any) -> Found:
        return found(*(f"1.2.3.{n}" for n in range(200)))

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    assert len(await resolver.resolve("a.example")) == limits.HTTP_CLIENT_ADDRESSES_MAX


@pytest.mark.parametrize(
    "failure",
    [
        socket.gaierror(socket.EAI_NONAME, "Name or service not known"),
        OSError(24, "Too many open files"),
        UnicodeError("label too long"),
    ],
)
async def test_a_name_without_addresses_is_a_dns_error(
    resolver: SystemResolver, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    def look_up(*_arguments: Any, **_options: Any) -> Found:
        raise failure

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with pytest.raises(Failure, match=r"a\.example has no address: ") as caught:
        await resolver.resolve("a.example")
    assert caught.value.error_code == {"DNS-error": {"rcode": None, "info-code": None}}


async def test_no_addresses_of_a_known_kind_is_a_dns_error(
    resolver: SystemResolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look_up(*_arguments: Any, **_options: Any) -> Found:
        return []

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with pytest.raises(Failure, match="none that is IPv4 or IPv6"):
        await resolver.resolve("a.example")


async def test_a_lookup_that_hangs_is_waited_for_by_nobody(
    resolver: SystemResolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = threading.Event()

    def look_up(*_arguments: Any, **_options: Any) -> Found:
        answer.wait()
        return found("1.2.3.4")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    try:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await resolver.resolve("a.example")
        resolver.close()
    finally:
        answer.set()
