"""Sends the requests of one link: who may go where, over which connection, and for how long.

Nothing is connected to before both questions of the rules are answered: may the target be reached,
and may this address of it. The addresses are asked for once, judged, and connected to themselves,
so a name server that answers differently the second time is not asked a second time.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass

import structlog

from lattice import limits
from lattice.aio.tasks import TaskGroup
from lattice.wire.http import Options, Response
from lattice.wire.streams import Source, Trailers
from providers.http_client import connection, messages, redirects
from providers.http_client.addresses import Address
from providers.http_client.connection import Bounds, Connection, Head, Stale
from providers.http_client.failures import Failure
from providers.http_client.messages import Request
from providers.http_client.pool import Pool
from providers.http_client.resolver import Resolver
from providers.http_client.settings import Settings
from providers.http_client.targets import Target

log = structlog.get_logger()

NO_OPTIONS = Options()

Hold = Callable[[int], bool]
"""Takes note of bytes that are to be held in memory; whether there is room for them."""


@dataclass(slots=True)
class Budget:
    """What all links of a provider have together."""

    connections_max: int = limits.HTTP_CLIENT_CONNECTIONS_MAX
    bodies_bytes_max: int = limits.HTTP_CLIENT_BODIES_BYTES_MAX
    connections: int = 0
    bodies_bytes: int = 0

    @contextmanager
    def holding(self) -> Iterator[Hold]:
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
        tasks: TaskGroup,
    ) -> None:
        """``tls`` may be missing where no rule is for ``https``; ``tasks`` send what flows."""
        self.settings = settings
        self._tls = tls
        self._resolver = resolver
        self._budget = budget
        self._tasks = tasks
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
        with self._admitted(len(request.body)) as hold:
            async with _by(deadline, request):
                return await self._follow(request, options, redirects_max, hold)

    async def exchange(
        self,
        request: Request,
        *,
        source: Source | None,
        takes_stream: bool,
        deadline: float,
        options: Options = NO_OPTIONS,
    ) -> tuple[Response, "ResponseBody | None"]:
        """Send a request whose body flows from a source, and receive a response which may flow too.

        With ``takes_stream`` a large response, or one of unknown length, is given as soon as it has
        begun, and the rest of its body with it, which has to be read to its end or closed. The
        source is read until then; it is the caller's to close thereafter.

        Raises:
            Failure: there is no response.
        """
        flowing_bytes = 0 if source is None else limits.STREAM_WINDOW_BYTES
        with ExitStack() as ends:
            hold = ends.enter_context(self._admitted(len(request.body) + flowing_bytes))
            bounds = self._bounds(options, is_whole=not takes_stream)
            async with _by(deadline, request):
                checked = messages.checked(request, body_bytes_max=bounds.request_bytes_max)
                over, head = await self._begin(checked, bounds, options, source)
                try:
                    if not takes_stream or (source is None and _is_small(head)):
                        return await self._rest(over, head, bounds, hold), None
                    body = await _what_is_there(over, bounds)
                    if over.is_over:
                        return self._finish(over, head, body), None
                    _hold(limits.STREAM_WINDOW_BYTES, hold)
                except BaseException:
                    over.abort()
                    raise
            rest = ResponseBody(over, bounds, self._pool, ends.pop_all())
            begun = Response(status=head.status, headers=head.headers, body=body, is_streamed=True)
            return begun, rest

    def close(self) -> None:
        """Close what is idle; what runs may end, and is closed then."""
        self._pool.close()

    @contextmanager
    def _admitted(self, size_bytes: int) -> Iterator[Hold]:
        if self._running >= self.settings.requests_max:
            raise Failure(
                "connection-limit-reached",
                f"{self._running} requests of the link run already; max_concurrent_requests of the"
                " link can raise it",
            )
        self._running += 1
        try:
            with self._budget.holding() as hold:
                if not hold(size_bytes):
                    raise Failure(
                        "connection-limit-reached",
                        f"the provider holds {self._budget.bodies_bytes} bytes of bodies, and has"
                        f" room for {self._budget.bodies_bytes_max}",
                    )
                yield hold
        finally:
            self._running -= 1

    def _bounds(self, options: Options, *, is_whole: bool) -> Bounds:
        settings = self.settings
        response_bytes_max = settings.response_bytes_max
        if is_whole:
            response_bytes_max = min(response_bytes_max, limits.HTTP_BODY_BYTES_MAX)
        return Bounds(
            first_byte_timeout_s=_shorter(
                settings.first_byte_timeout_s, options.first_byte_timeout_s
            ),
            between_bytes_timeout_s=_shorter(
                settings.between_bytes_timeout_s, options.between_bytes_timeout_s
            ),
            request_bytes_max=settings.request_bytes_max,
            response_bytes_max=response_bytes_max,
        )

    async def _follow(
        self, request: Request, options: Options, redirects_max: int, hold: Hold
    ) -> Response:
        bounds = self._bounds(options, is_whole=True)
        request = messages.checked(request, body_bytes_max=bounds.request_bytes_max)
        redirected = 0
        while True:
            try:
                over, head = await self._begin(request, bounds, options)
                try:
                    response = await self._rest(over, head, bounds, hold)
                except BaseException:
                    over.abort()
                    raise
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

    async def _begin(
        self, request: Request, bounds: Bounds, options: Options, source: Source | None = None
    ) -> tuple[Connection, Head]:
        """Send a checked request, over a connection that is the caller's from then on."""
        if refusal := self.settings.rules.refusal(request.target):
            raise Failure("HTTP-request-denied", refusal)
        # What flows can't be sent again, should a kept connection turn out to be closed.
        while source is None and (kept := self._pool.take(request.target)) is not None:
            try:
                return kept, await self._over(kept, request, bounds)
            except Stale:
                if request.method not in messages.METHODS_REPEATABLE:
                    raise Failure(
                        "connection-terminated",
                        f"{request.target} closed a kept connection when the request was sent",
                    ) from None
        connect_timeout_s = _shorter(self.settings.connect_timeout_s, options.connect_timeout_s)
        fresh = await self._connect(request.target, connect_timeout_s)
        return fresh, await self._over(fresh, request, bounds, source)

    async def _over(
        self, over: Connection, request: Request, bounds: Bounds, source: Source | None = None
    ) -> Head:
        try:
            return await over.begin(request, bounds, source)
        except BaseException:
            over.abort()
            raise

    async def _rest(self, over: Connection, head: Head, bounds: Bounds, hold: Hold) -> Response:
        """Receive the whole body."""
        body = bytearray()
        while not over.is_over:
            piece = await over.read(bounds, limits.STREAM_PIECE_BYTES)
            _hold(len(piece), hold)
            body += piece
        return self._finish(over, head, bytes(body))

    def _finish(self, over: Connection, head: Head, body: bytes) -> Response:
        over.finish()
        self._pool.put(over)
        return Response(status=head.status, headers=head.headers, body=body, trailers=over.trailers)

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
                    tasks=self._tasks,
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


class ResponseBody:
    """The rest of a response's body, of which the request's may still flow the other way."""

    def __init__(self, over: Connection, bounds: Bounds, pool: Pool, ends: ExitStack) -> None:
        """``ends`` is closed when both have ended."""
        self._over = over
        self._bounds = bounds
        self._pool = pool
        self._ends = ends
        self._held = b""
        """What was received and is not read."""
        self._is_closed = False

    @property
    def trailers(self) -> Trailers:
        return self._over.trailers

    async def read(self, size_max: int) -> bytes:
        try:
            while not (self._held or self._is_closed or self._over.is_over):
                self._held = await self._over.read(self._bounds, size_max)
        except Failure as failure:
            self.close()
            log.info("response broke off", case=failure.case, reason=failure.text)
            raise failure.error from None
        except Exception:
            self.close()
            raise
        content, self._held = self._held[:size_max], self._held[size_max:]
        if not content:
            self.close()
        return content

    def close(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        self._held = b""
        if self._over.is_over:
            self._over.finish()
            self._pool.put(self._over)
        else:
            self._over.abort()
        self._ends.close()


def _is_small(head: Head) -> bool:
    return head.length is not None and head.length <= limits.HTTP_WHOLE_BODY_BYTES


async def _what_is_there(over: Connection, bounds: Bounds) -> bytes:
    body = bytearray()
    while len(body) < limits.HTTP_WHOLE_BODY_BYTES:
        size_max = limits.HTTP_WHOLE_BODY_BYTES - len(body)
        if not (piece := await over.read(bounds, size_max, waits=False)):
            break
        body += piece
    return bytes(body)


def _hold(size_bytes: int, hold: Hold) -> None:
    if not hold(size_bytes):
        raise Failure(
            "HTTP-response-body-size", "the provider has no room for more of the response's body"
        )


@asynccontextmanager
async def _by(deadline: float, request: Request) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout_at(deadline):
            yield
    except TimeoutError:
        raise Failure(
            "HTTP-response-timeout",
            f"{request.target} did not answer before the call's deadline",
        ) from None


def _shorter(limit_s: float, wanted_s: float | None) -> float:
    return limit_s if wanted_s is None else min(limit_s, wanted_s)
