"""The HTTP server as a provider: links come and go, listeners and routes follow.

Every change is worked out as a whole first: which addresses must be open and where each sends its
requests. What can fail, fails before anything is touched, so a change that can't work leaves what
is running as it is. Only then are the routes swapped, and what is not needed any more is closed.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

import structlog

from lattice import errors, limits
from lattice.aio.tasks import TaskGroup
from providers.http_server import incoming_handler, listener, routing, settings
from providers.http_server.application import Application, BodyBudget, Endpoint
from providers.http_server.listener import Listener
from providers.http_server.routing import Binding, Table
from providers.http_server.settings import Address
from providers.sdk import Context, Health, Link, Provider, configuration
from providers.sdk.linked import LinkKey

log = structlog.get_logger()


@dataclass(slots=True)
class _Site:
    """An open address: what it was opened for, and who answers there."""

    binding: Binding
    listener: Listener
    application: Application


class HttpServer(Provider):
    """Calls the actors it is linked to, for clients that speak HTTP."""

    def __init__(self) -> None:
        self._context: Context | None = None
        self._config: dict[str, str] = {}
        self._links: dict[LinkKey, Link] = {}
        self._endpoints: dict[LinkKey, Endpoint] = {}
        self._sites: dict[LinkKey | None, _Site] = {}
        """By link in address mode; otherwise one, under None."""
        self._draining: set[Listener] = set()
        """Closed for new connections; requests that ran then may still do."""
        self._budget = BodyBudget()
        self._tasks = TaskGroup("http-server")

    @property
    def addresses(self) -> list[Address]:
        """Where it listens, with the ports that the system chose."""
        return [site.listener.address for site in self._sites.values()]

    async def start(self, context: Context, config: Mapping[str, str]) -> None:
        """Take the configuration, and in path and host mode open the one address.

        Raises:
            InvalidRequest: naming the key that is wrong.
            AlreadyExists: the address is in use.
        """
        self._context = context
        await self.update_config(config)

    async def update_config(self, config: Mapping[str, str]) -> None:
        """Take a changed configuration, unless a link could not work under it.

        Raises:
            LatticeError: as ``start`` and ``put_link``; everything is as it was.
        """
        await self._apply(dict(config), self._links)
        configuration.tell_ignored(config, settings.PROVIDER_KEYS)

    async def put_link(self, link: Link) -> None:
        """Route requests to the link's target, from now on and as it says now.

        Raises:
            InvalidRequest: not a link this provider can serve, or a setting is wrong.
            Conflict: another link has its address, path or host.
            AlreadyExists: another process listens on its address.
        """
        if self._links.get(link.key) == link:
            return
        self._check(link)
        configuration.tell_ignored(link.source_config, settings.LINK_KEYS, target=link.target)
        await self._apply(self._config, {**self._links, link.key: link})

    async def delete_link(self, link: Link) -> None:
        """Stop routing to the link's target at once; requests that run go on."""
        if link.key in self._links:
            remaining = {key: other for key, other in self._links.items() if key != link.key}
            await self._apply(self._config, remaining)

    async def health(self) -> Health:
        closed = [
            str(site.binding.address)
            for site in self._sites.values()
            if not site.listener.is_listening
        ]
        if closed:
            return Health(healthy=False, message=f"not listening on {', '.join(closed)}")
        return Health(healthy=True)

    async def drain(self) -> None:
        """Close all addresses and idle connections; requests that run are answered, then closed."""
        listeners = self._listeners()
        for each in listeners:
            each.stop_accepting()
        await asyncio.gather(*(each.wait_quiet() for each in listeners))

    async def stop(self) -> None:
        """Close all addresses, and cut off the requests that still run; they are answered so."""
        listeners = self._listeners()
        self._sites.clear()
        self._links.clear()
        await asyncio.gather(*(each.aclose(limits.HTTP_STOP_S) for each in listeners))
        await self._tasks.aclose()

    def _listeners(self) -> list[Listener]:
        return [*(site.listener for site in self._sites.values()), *self._draining]

    def _check(self, link: Link) -> None:
        assert self._context is not None, "start comes first"
        if link.source_id != self._context.provider_id:
            raise errors.InvalidRequest(
                "the HTTP server is the source of its links: "
                f"lattice link put {self._context.provider_id} ACTOR wasmcloud httpserver"
            )
        package = (link.wit_namespace, link.wit_package)
        if package not in (incoming_handler.PACKAGE, ("wasmcloud", "httpserver")):
            raise errors.InvalidRequest(
                "the HTTP server calls wasmcloud:httpserver or wasi:http/incoming-handler, not"
                f" {link.wit_namespace}:{link.wit_package}; put the link with:"
                " wasmcloud httpserver, or: wasi http --interface incoming-handler"
            )

    async def _apply(self, config: dict[str, str], links: dict[LinkKey, Link]) -> None:
        """Make these the configuration and links in force, or raise and change nothing."""
        provider = settings.parse_provider(config)
        parsed = {
            key: settings.parse_link(link.source_config, provider, config)
            for key, link in links.items()
        }
        endpoints = {
            key: self._endpoints.get(key)
            or Endpoint(
                link.target,
                link.name,
                parsed[key],
                is_wasi=(link.wit_namespace, link.wit_package) == incoming_handler.PACKAGE,
            )
            for key, link in links.items()
        }
        bindings = routing.bindings(provider, parsed)
        tables = routing.tables(provider, parsed, endpoints)
        opened = await self._open(bindings, tables)

        # From here on nothing can fail, and nothing awaits: no request sees a half-made change.
        for key, endpoint in endpoints.items():
            endpoint.settings = parsed[key]
        for slot in [slot for slot in self._sites if slot not in bindings or slot in opened]:
            self._close(self._sites.pop(slot))
        self._sites |= opened
        for slot, site in self._sites.items():
            site.application.table = tables[slot]
        self._config, self._links, self._endpoints = config, links, endpoints

    async def _open(
        self,
        bindings: Mapping[LinkKey | None, Binding],
        tables: Mapping[LinkKey | None, Table[Endpoint]],
    ) -> dict[LinkKey | None, _Site]:
        """Open what is not open yet; all of it or nothing."""
        current = {slot: site.binding for slot, site in self._sites.items()}
        leaving = [
            site.listener
            for slot, site in self._sites.items()
            if bindings.get(slot) != site.binding
        ]
        opened: dict[LinkKey | None, _Site] = {}
        try:
            for slot, binding in bindings.items():
                if current.get(slot) != binding:
                    opened[slot] = await self._open_site(binding, tables[slot], leaving)
        except BaseException:
            for site in opened.values():
                self._close(site)
            raise
        return opened

    async def _open_site(
        self, binding: Binding, table: Table[Endpoint], leaving: list[Listener]
    ) -> _Site:
        assert self._context is not None, "start comes first"
        tls = listener.tls_context(binding.tls) if binding.tls else None
        application = Application(self._context.call_for_reply, self._budget, table)
        port = binding.address.port
        beside = next((each for each in leaving if port and each.address.port == port), None)
        sock = listener.bind(binding.address, beside=beside)
        opened = await Listener.open(sock, application, tls=tls)
        log.info("listening", address=str(opened.address), tls=tls is not None)
        return _Site(binding, opened, application)

    def _close(self, site: _Site) -> None:
        site.application.table = routing.NOTHING
        site.listener.stop_accepting()
        log.info("stopped listening", address=str(site.listener.address))
        self._draining.add(site.listener)
        self._tasks.spawn(self._drain(site.listener), name=f"drain {site.listener.address}")

    async def _drain(self, closed: Listener) -> None:
        await closed.wait_closed()
        self._draining.discard(closed)
