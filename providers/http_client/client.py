"""Sends the requests of one link: who may go where, over which connection, and for how long.

Nothing is connected to before both questions of the rules are answered: may the target be reached,
and may this address of it. The addresses are asked for once, judged, and connected to themselves,
so a name server that answers differently the second time is not asked a second time.
"""

import asyncio
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from lattice import limits
from lattice.wire.http import Options, Response
from providers.http_client import connection, messages, redirects
from providers.http_client.addresses import Address
from providers.http_client.connection import Bounds, Connection, Stale
from providers.http_client.failures import Failure
from providers.http_client.messages import Request
from providers.http_client.pool import Pool
from providers.http_client.resolver import Resolver
from providers.http_client.settings import Settings
from providers.http_client.targets import Target

NO_OPTIONS = Options()


@dataclass(slots=True)
class Budget:
    """What all links of a provider have together."""

    connections_max: int = limits.HTTP_CLIENT_CONNECTIONS_MAX
    bodies_bytes_max: int = limits.HTTP_CLIENT_BODIES_BYTES_MAX
    connections: int = 0
    bodies_bytes: int = 0

    @contextmanager
    def holding(self) -> Iterator[Callable[[int], bool]]:
        """Count bytes that are held, until the end of the block.

        What it gives counts so many more, or says that there is no room for them.
        """
        held = 0

        def hold(size_bytes: int) -> bool:
            nonlocal held
            if self.bodies_bytes + size_bytes > self.bodies_bytes_max:
                return False
            held += size_bytes
            self.bodies_bytes += size_bytes
            return True

        try:
            yield hold
        finally:
            self.bodies_bytes -= held


class Client:
    """One link's way out."""

    def __init__(
        self,
        settings: Settings,
        *,
        tls: ssl.SSLContext | None,
        resolver: Resolver,
        budget: Budget,
    ) -> None:
        """``tls`` may be missing where no rule is for ``https``."""
        self.settings = settings
        self._tls = tls
        self._resolver = resolver
        self._budget = budget
        self._pool = Pool(connections_max=settings.idle_connections_max, idle_s=settings.idle_s)
        self._running = 0

    async def send(
        self,
        request: Request,
        *,
        deadline: float,
        redirects_max: int = 0,
        options: Options = NO_OPTIONS,
    ) -> Response:
        """Send a request and receive its response, whole; with redirects, the last of them.

        Cancelling it closes its connection. ``options`` can only shorten what the link allows.

        Raises:
            Failure: there is no response.
        """
        if self._running >= self.settings.requests_max:
            raise Failure(
                "connection-limit-reached",
                f"{self._running} requests of the link run already; max_concurrent_requests of the"
                " link can raise it",
            )
        self._running += 1
        try:
            with self._budget.holding() as hold:
                if not hold(len(request.body)):
                    raise Failure(
                        "connection-limit-reached",
                        f"the provider holds {self._budget.bodies_bytes} bytes of bodies, and has"
                        f" room for {self._budget.bodies_bytes_max}",
                    )
                async with asyncio.timeout_at(deadline):
                    return await self._follow(
                        request, self._bounds(options, hold), options, redirects_max
                    )
        except TimeoutError:
            raise Failure(
                "HTTP-response-timeout",
                f"{request.target} did not answer before the call's deadline",
            ) from None
        finally:
            self._running -= 1

    def close(self) -> None:
        """Close what is idle; what runs may end, and is closed then."""
        self._pool.close()

    def _bounds(self, options: Options, hold: Callable[[int], bool]) -> Bounds:
        settings = self.settings
        return Bounds(
            first_byte_timeout_s=_shorter(
                settings.first_byte_timeout_s, options.first_byte_timeout_s
            ),
            between_bytes_timeout_s=_shorter(
                settings.between_bytes_timeout_s, options.between_bytes_timeout_s
            ),
            response_bytes_max=settings.response_bytes_max,
            hold=hold,
        )

    async def _follow(
        self, request: Request, bounds: Bounds, options: Options, redirects_max: int
    ) -> Response:
        connect_timeout_s = _shorter(self.settings.connect_timeout_s, options.connect_timeout_s)
        request = messages.checked(request, body_bytes_max=self.settings.request_bytes_max)
        redirected = 0
        while True:
            try:
                response = await self._exchange(request, bounds, connect_timeout_s)
            except Failure as failure:
                failure.is_after_redirect = redirected > 0
                raise
            if redirects_max == 0 or (following := redirects.following(request, response)) is None:
                return response
            if redirected == redirects_max:
                raise Failure(
                    "loop-detected",
                    f"{request.target} redirects again after {redirects_max} redirects, the limit;"
                    " redirects_max of the link can raise it",
                )
            redirected += 1
            request = following

    async def _exchange(
        self, request: Request, bounds: Bounds, connect_timeout_s: float
    ) -> Response:
        if refusal := self.settings.rules.refusal(request.target):
            raise Failure("HTTP-request-denied", refusal)
        while (kept := self._pool.take(request.target)) is not None:
            try:
                return await self._over(kept, request, bounds)
            except Stale:
                if request.method not in messages.METHODS_REPEATABLE:
                    raise Failure(
                        "connection-terminated",
                        f"{request.target} closed a kept connection when the request was sent",
                    ) from None
        fresh = await self._connect(request.target, connect_timeout_s)
        return await self._over(fresh, request, bounds)

    async def _over(self, over: Connection, request: Request, bounds: Bounds) -> Response:
        try:
            response = await over.exchange(request, bounds)
        except BaseException:
            over.abort()
            raise
        self._pool.put(over)
        return response

    async def _connect(self, target: Target, timeout_s: float) -> Connection:
        loop = asyncio.get_running_loop()
        give_up = loop.time() + timeout_s
        found = self._allowed(target, await self._addresses(target, timeout_s))
        for tried, address in enumerate(found, start=1):
            # A dead address must leave time for those after it.
            share_s = max(0.0, give_up - loop.time()) / (len(found) - tried + 1)
            try:
                return await self._connect_to(target, address, share_s)
            except Failure:
                if tried == len(found):
                    raise
        raise AssertionError("there is at least one address")

    async def _connect_to(self, target: Target, address: Address, timeout_s: float) -> Connection:
        budget = self._budget
        is_secure = target.scheme == "https"
        assert self._tls is not None or not is_secure, "no rule allows what there is no TLS for"
        if budget.connections >= budget.connections_max and not self._pool.drop_oldest():
            raise Failure(
                "connection-limit-reached",
                f"the provider has {budget.connections} connections, its limit",
            )
        budget.connections += 1

        def note_close() -> None:
            budget.connections -= 1

        try:
            async with asyncio.timeout(timeout_s):
                return await connection.connect(
                    target,
                    address,
                    tls=self._tls if is_secure else None,
                    on_close=note_close,
                )
        except TimeoutError:
            raise Failure(
                "connection-timeout",
                f"{target} at {address} was not connected to within {timeout_s:g} s",
            ) from None

    async def _addresses(self, target: Target, timeout_s: float) -> list[Address]:
        if not isinstance(target.host, str):
            return [target.host]
        try:
            async with asyncio.timeout(timeout_s):
                return await self._resolver.resolve(target.host)
        except TimeoutError:
            raise Failure(
                "DNS-timeout", f"no name server told of {target.host} within {timeout_s:g} s"
            ) from None

    def _allowed(self, target: Target, found: list[Address]) -> list[Address]:
        refusals = [self.settings.rules.address_refusal(target, address) for address in found]
        allowed = [
            address for address, refusal in zip(found, refusals, strict=True) if refusal is None
        ]
        if not allowed:
            raise Failure("destination-IP-prohibited", next(filter(None, refusals)))
        return allowed


def _shorter(limit_s: float, wanted_s: float | None) -> float:
    return limit_s if wanted_s is None else min(limit_s, wanted_s)
