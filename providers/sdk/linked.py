"""For providers that keep something open for each of their links: a backend, a client, a source."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from typing import Generic, TypeVar

from lattice import errors
from lattice.wire.provider import ResolvedLink as Link
from providers.sdk import configuration
from providers.sdk.provider import Call, Context, Provider

LinkKey = tuple[str, str, str, str, str]
"""``Link.key``: source, target, name, namespace, package."""

Opened = TypeVar("Opened")


class LinkedProvider(Provider, ABC, Generic[Opened]):
    """A provider that opens something for each link. Say what, how, and by which settings."""

    provider_keys: Collection[str] = ()
    """What the provider's own configuration may say."""

    def __init__(self) -> None:
        self._context: Context | None = None
        self.config: Mapping[str, str] = {}
        """The provider's own configuration, as it was last taken."""
        self.links: dict[LinkKey, Opened] = {}
        """What is open for each link that was taken."""

    @abstractmethod
    def read_config(self, config: Mapping[str, str]) -> None:
        """Take the provider's own configuration, or raise and change nothing.

        Raises:
            InvalidRequest: it is wrong.
        """

    @abstractmethod
    async def open_link(self, link: Link, before: Opened | None) -> Opened:
        """Open what a link wants; ``before`` is what is open for it now.

        May return ``before`` itself where it will do. Otherwise that is closed, also when this
        raises: a link that is refused leads nowhere any more.

        Raises:
            LatticeError: as ``Provider.put_link``.
        """

    @abstractmethod
    async def close_link(self, opened: Opened) -> None:
        """Close what was open for a link that is gone or changed."""

    @property
    def context(self) -> Context:
        assert self._context is not None, "start comes before everything else"
        return self._context

    async def start(self, context: Context, config: Mapping[str, str]) -> None:
        """
        Raises:
            InvalidRequest: the configuration is wrong.
        """
        self._context = context
        await self.update_config(config)

    async def update_config(self, config: Mapping[str, str]) -> None:
        """Take a changed configuration; links that are put again go by it.

        Raises:
            InvalidRequest: the configuration is wrong, and the one before it stays in force.
        """
        self.read_config(config)
        configuration.tell_ignored(config, self.provider_keys)
        self.config = dict(config)

    async def put_link(self, link: Link) -> None:
        before = self.links.get(link.key)
        try:
            opened = await self.open_link(link, before)
        except BaseException:
            await self.delete_link(link)
            raise
        self.links[link.key] = opened
        if before is not None and before is not opened:
            await self.close_link(before)

    async def delete_link(self, link: Link) -> None:
        if (opened := self.links.pop(link.key, None)) is not None:
            await self.close_link(opened)

    def opened_for(self, call: Call) -> Opened:
        """What is open for the link that a call came over.

        Raises:
            NoLink: nothing: the link is gone.
        """
        if (opened := self.links.get(call.link.key)) is None:
            raise errors.NoLink(
                call.source, call.link.name, call.interface, target=self.context.provider_id
            )
        return opened

    def check_serves(self, link: Link, *packages: tuple[str, str]) -> None:
        """That a link leads to this provider, for a contract that it serves.

        Raises:
            InvalidRequest: it does not.
        """
        check_package(link, *packages)
        if link.target != (provider_id := self.context.provider_id):
            raise errors.InvalidRequest(
                f"the provider is the target of its links: lattice link put {link.target}"
                f" {provider_id} {link.wit_namespace} {link.wit_package}"
            )


def check_package(link: Link, *packages: tuple[str, str]) -> None:
    """That a link is for one of some packages, each a namespace and a name.

    Raises:
        InvalidRequest: it is not.
    """
    if (link.wit_namespace, link.wit_package) not in packages:
        raise errors.InvalidRequest(
            f"the provider serves {' and '.join(map(':'.join, packages))}, not"
            f" {link.wit_namespace}:{link.wit_package}; put the link with: {' '.join(packages[0])}"
        )
