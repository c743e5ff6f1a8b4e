"""The HTTP client provider: one client per link, with its own rules and its own connections."""

import asyncio
import ssl
from collections.abc import Mapping

import structlog

from lattice import errors
from lattice.aio.tasks import TaskGroup
from providers.http_client import contract, outgoing_handler, settings
from providers.http_client.client import Budget, Client
from providers.http_client.failures import Failure
from providers.http_client.resolver import Resolver, SystemResolver
from providers.http_client.settings import Settings, Trust
from providers.sdk import Call, Link, LinkedProvider, Reply, backends, configuration

log = structlog.get_logger()


class HttpClient(LinkedProvider[Client]):
    """Serves ``wasmcloud:httpclient`` and ``wasi:http``, to where each link allows."""

    provider_keys = settings.KEYS
    takes_streams = True

    def __init__(self, resolver: Resolver | None = None) -> None:
        super().__init__()
        self._tasks = TaskGroup("HTTP client")
        self._system = SystemResolver() if resolver is None else None
        self._resolver = resolver or self._system
        self._budget = Budget()

    async def stop(self) -> None:
        for client in self.links.values():
            client.close()
        self.links.clear()
        await self._tasks.aclose()
        if self._system is not None:
            self._system.close()

    async def handle(self, call: Call) -> bytes | Reply:
        """Send one request; over ``wasi:http`` its body may flow, and so may its response.

        Raises:
            NoLink: no such link is known.
            InvalidRequest: no such operation, or its payload is not a request.
            LatticeError: over ``wasmcloud:httpclient``, whatever leaves the request without a
                response.
        """
        client = self.opened_for(call)
        deadline = backends.answer_by(call.deadline)
        match call.link.wit_namespace, call.operation:
            case "wasi", outgoing_handler.OPERATION:
                return await _outgoing_handler(client, call, deadline)
            case "wasmcloud", contract.OPERATION:
                return await _httpclient(client, call, deadline)
        package = f"{call.link.wit_namespace}:{call.link.wit_package}"
        raise errors.InvalidRequest(f"{package} has no operation {call.operation[:100]!r} here")

    def read_config(self, config: Mapping[str, str]) -> None:
        settings.parse(config, {})

    async def open_link(self, link: Link, _before: Client | None) -> Client:
        self.check_serves(link, contract.PACKAGE, outgoing_handler.PACKAGE)
        configuration.tell_ignored(link.target_config, settings.KEYS, source=link.source_id)
        found: Settings = settings.parse(self.config, link.target_config)
        if not found.rules.rules:
            log.warning("link allows no request: its configuration has no allow", link=link.key)
        assert self._resolver is not None
        return Client(
            found,
            tls=await _trusting(found),
            resolver=self._resolver,
            budget=self._budget,
            tasks=self._tasks,
        )

    async def close_link(self, opened: Client) -> None:
        opened.close()


async def _httpclient(client: Client, call: Call, deadline: float) -> bytes:
    if call.stream is not None:
        raise errors.InvalidRequest(f"{contract.OPERATION} takes no payload in pieces")
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


async def _outgoing_handler(client: Client, call: Call, deadline: float) -> Reply:
    try:
        request, options = outgoing_handler.decode_request(call.payload)
        if request.is_streamed != (call.stream is not None):
            raise errors.InvalidRequest("the rest of the request's body did not come with it")
        response, rest = await client.exchange(
            request,
            source=call.stream,
            takes_stream=call.takes_stream,
            deadline=deadline,
            options=options,
        )
    except Failure as failure:
        _tell(failure, call)
        return Reply(outgoing_handler.encode_outcome(failure.error_code))
    return Reply(outgoing_handler.encode_outcome(response), stream=rest)


def _tell(failure: Failure, call: Call) -> None:
    """An error code has no words: here they are, for who wonders what was refused and why."""
    log.info(
        "request failed",
        source=call.source,
        link=call.link.name,
        case=failure.case,
        reason=failure.text,
    )


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
