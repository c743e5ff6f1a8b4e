"""The HTTP client provider: one client per link, with its own rules and its own connections."""

import asyncio
import ssl
from collections.abc import Mapping

import structlog

from lattice import errors
from providers.http_client import contract, outgoing_handler, settings
from providers.http_client.client import Budget, Client
from providers.http_client.failures import Failure
from providers.http_client.resolver import Resolver, SystemResolver
from providers.http_client.settings import Settings, Trust
from providers.sdk import Call, Context, Link, Provider, backends, configuration

log = structlog.get_logger()

LinkKey = tuple[str, ...]


class HttpClient(Provider):
    """Serves ``wasmcloud:httpclient`` and ``wasi:http``, to where each link allows."""

    def __init__(self, resolver: Resolver | None = None) -> None:
        self._system = SystemResolver() if resolver is None else None
        self._resolver = resolver or self._system
        self._context: Context | None = None
        self._config: dict[str, str] = {}
        self._budget = Budget()
        self._links: dict[LinkKey, tuple[Link, Client | errors.LatticeError]] = {}

    async def start(self, context: Context, config: Mapping[str, str]) -> None:
        """
        Raises:
            InvalidRequest: the configuration is wrong.
        """
        self._context = context
        self._take_config(config)

    async def stop(self) -> None:
        for _, client in self._links.values():
            _close(client)
        self._links.clear()
        if self._system is not None:
            self._system.close()

    async def update_config(self, config: Mapping[str, str]) -> None:
        """Take a changed configuration; calls to come go by it.

        Raises:
            InvalidRequest: the configuration is wrong, and the one before it stays in force.
        """
        self._take_config(config)
        for link, _ in list(self._links.values()):
            try:
                await self.put_link(link)
            except errors.LatticeError:
                # Kept with the link: calls over it say so.
                continue

    async def put_link(self, link: Link) -> None:
        if link.target != self._started.provider_id:
            return
        _, before = self._links.get(link.key, (None, None))
        try:
            client = await self._opened(link)
        except errors.LatticeError as refusal:
            self._links[link.key] = (link, refusal)
            raise
        else:
            self._links[link.key] = (link, client)
        finally:
            _close(before)

    async def delete_link(self, link: Link) -> None:
        _, before = self._links.pop(link.key, (None, None))
        _close(before)

    async def handle(self, call: Call) -> bytes:
        """Send one request.

        Raises:
            NoLink: no such link is known.
            InvalidRequest: no such operation, or its payload is not a request.
            LatticeError: what ``put_link`` said of the link; over ``wasmcloud:httpclient`` also
                whatever leaves the request without a response.
        """
        _, client = self._links.get(call.link.key, (None, None))
        if client is None:
            raise errors.NoLink(
                call.source, call.link.name, call.interface, target=self._started.provider_id
            )
        if isinstance(client, errors.LatticeError):
            raise client.copy()
        deadline = backends.answer_by(call.deadline)
        match call.link.wit_namespace, call.operation:
            case "wasi", outgoing_handler.OPERATION:
                return await _outgoing_handler(client, call, deadline)
            case "wasmcloud", contract.OPERATION:
                return await _httpclient(client, call, deadline)
        package = f"{call.link.wit_namespace}:{call.link.wit_package}"
        raise errors.InvalidRequest(f"{package} has no operation {call.operation[:100]!r} here")

    @property
    def _started(self) -> Context:
        assert self._context is not None, "start comes before everything else"
        return self._context

    def _take_config(self, config: Mapping[str, str]) -> None:
        settings.parse(config, {})
        if unknown := configuration.ignored(config, settings.KEYS):
            log.warning("provider configuration keys ignored", keys=unknown)
        self._config = dict(config)

    async def _opened(self, link: Link) -> Client:
        if (link.wit_namespace, link.wit_package) not in (
            contract.PACKAGE,
            outgoing_handler.PACKAGE,
        ):
            raise errors.InvalidRequest(
                "the provider serves wasmcloud:httpclient and wasi:http, "
                f"not {link.wit_namespace}:{link.wit_package}"
            )
        if unknown := configuration.ignored(link.target_config, settings.KEYS):
            log.warning("link configuration keys ignored", source=link.source_id, keys=unknown)
        found: Settings = settings.parse(self._config, link.target_config)
        if not found.rules.rules:
            log.warning("link allows no request: its configuration has no allow", link=link.key)
        assert self._resolver is not None
        return Client(
            found,
            tls=await _trusting(found),
            resolver=self._resolver,
            budget=self._budget,
        )


async def _httpclient(client: Client, call: Call, deadline: float) -> bytes:
    try:
        response = await client.send(
            contract.decode_request(call.payload),
            deadline=deadline,
            redirects_max=client.settings.redirects_max,
        )
    except Failure as failure:
        _tell(failure, call)
        raise failure.error from None
    return contract.encode_response(response)


async def _outgoing_handler(client: Client, call: Call, deadline: float) -> bytes:
    try:
        request, options = outgoing_handler.decode_request(call.payload)
        response = await client.send(request, deadline=deadline, options=options)
    except Failure as failure:
        _tell(failure, call)
        return outgoing_handler.encode_outcome(failure.error_code)
    return outgoing_handler.encode_outcome(response)


def _tell(failure: Failure, call: Call) -> None:
    """An error code has no words: here they are, for who wonders what was refused and why."""
    log.info(
        "request failed",
        source=call.source,
        link=call.link.name,
        case=failure.case,
        reason=failure.text,
    )


def _close(client: Client | errors.LatticeError | None) -> None:
    if isinstance(client, Client):
        client.close()


async def _trusting(found: Settings) -> ssl.SSLContext | None:
    """
    Raises:
        InvalidRequest: as ``_tls``.
    """
    if found.trust.ca_file is None and not found.rules.allow_tls:
        return None
    # Reading certificates takes a while, and comes from a disk.
    return await asyncio.to_thread(_tls, found.trust)


def _tls(trust: Trust) -> ssl.SSLContext:
    """
    Raises:
        InvalidRequest: the file of certificates can't be read.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if trust.native:
        context.load_default_certs()
    if trust.ca_file is not None:
        try:
            context.load_verify_locations(cafile=trust.ca_file)
        except OSError as error:
            raise errors.InvalidRequest(
                f"ca_file is {trust.ca_file[:200]!r}, which can't be read as PEM certificates:"
                f" {error.strerror or error}"
            ) from None
    return context
