"""The contract between a provider and whatever runs it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

from lattice import limits
from lattice.bus import Bus
from lattice.names import Interface
from lattice.rpc import Rpc
from lattice.wire.invocation import Reply
from lattice.wire.provider import Health, HostData
from lattice.wire.provider import ResolvedLink as Link
from lattice.wire.streams import Source

if TYPE_CHECKING:
    from providers.sdk.runtime import ProviderRuntime


@dataclass(slots=True, kw_only=True)
class Call:
    """One call to a provider, with the link it came over."""

    source: str
    """Id of the caller."""
    link: Link
    """The link that allows it; ``link.target_config`` says what the operator set for it."""
    interface: str
    operation: str
    payload: bytes
    deadline: float
    """On the event loop's clock, in seconds."""
    key: str | None = None
    """Idempotency key."""
    stream: Source | None = None
    """What of the payload is still to come; only for a provider that ``takes_streams``."""
    takes_stream: bool = False
    """Whether the answer may have a stream as well."""


class Context(Protocol):
    """What a provider is given: who it is, and the way out."""

    @property
    def provider_id(self) -> str: ...

    @property
    def host_id(self) -> str: ...

    @property
    def lattice(self) -> str: ...

    @property
    def bus(self) -> Bus:
        """The NATS connection, for a provider whose backend is NATS itself."""
        ...

    async def call(
        self,
        target: str,
        interface: str,
        operation: str,
        payload: bytes,
        *,
        timeout_s: float = limits.CALL_TIMEOUT_S,
        link_name: str = "default",
        key: str | None = None,
        trace: str | None = None,
    ) -> bytes:
        """Call an actor that this provider is linked to, as the links' source.

        Direct when the target runs in the same process, over NATS otherwise. Cancelling it unwinds
        the guest, wherever it runs.

        Raises:
            LatticeError: any of the list; see its ``executed`` for whether it had an effect.
        """
        ...

    async def call_for_reply(
        self,
        target: str,
        interface: str,
        operation: str,
        payload: bytes,
        *,
        timeout_s: float = limits.CALL_TIMEOUT_S,
        link_name: str = "default",
        key: str | None = None,
        trace: str | None = None,
        stream: Source | None = None,
        takes_stream: bool = False,
    ) -> Reply:
        """As ``call``, with what the call cost beside the payload.

        ``stream`` is what of the payload is still to come; it is the caller's to close when the
        answer is there and complete. With ``takes_stream`` the answer may have one as well, which
        the caller reads to its end or closes: until then the callee may go on.
        """
        ...

    async def pass_on(self, call: Call, host_id: str) -> bytes:
        """Have the copy of this provider that is on another host execute a call, for its caller.

        For what only one copy can go on with, as it has begun it. The call goes whole, without
        streams, and over the link that it came over, which the other copy has to have as well.

        Raises:
            NotRunning: there is no copy.
            LatticeError: as ``call``.
        """
        ...


class Provider:
    """A capability. Subclass it, and override what you need.

    Links and configuration arrive one at a time, never concurrently with each other; calls run
    concurrently, bounded by the runtime. Raise ``LatticeError`` subclasses for what a caller did
    wrong; anything else that escapes is logged and answered as ``internal``.
    """

    takes_streams: ClassVar[bool] = False
    """Whether it reads payloads that come in pieces; otherwise such calls are refused."""

    async def start(self, context: Context, config: Mapping[str, str]) -> None:
        """Open what lasts as long as the provider. Called once, before everything else."""

    async def drain(self) -> None:
        """Bring nothing new into the lattice, and return when what was brought in has ended.

        Called once, before ``stop``; cancelled when the time for it is up.
        """

    async def stop(self) -> None:
        """Close everything, running calls having ended. Called once, also after a failed start."""

    async def update_config(self, config: Mapping[str, str]) -> None:
        """Take a changed configuration, whole. Every link is put again afterwards.

        Raises:
            LatticeError: it is wrong, and the one before it stays in force; the links as well.
        """

    async def put_link(self, link: Link) -> None:
        """Take a new or changed link, of which this provider is the source or the target.

        Called again when its interfaces, its configuration or the provider's change. Links that
        were refused are kept and offered again by the runtime.

        Raises:
            LatticeError: the link can't work; calls over it are refused with this very error. It is
                offered again by and by, but not after InvalidRequest, Conflict or Denied.
        """

    async def delete_link(self, link: Link) -> None:
        """Forget a link. Calls that run over it go on; no further ones come."""

    async def handle(self, call: Call) -> bytes | Reply:
        """Execute one call over a link of which this provider is the target.

        A call that ``takes_stream`` may be answered by a ``Reply`` with the rest of the answer as
        its ``stream``. That is closed when the caller has read it, or wants no more, or the call's
        deadline has passed; ``call.stream`` may be read until then, and is closed thereafter.
        """
        raise NotImplementedError

    @classmethod
    def embed(cls, data: HostData, *, bus: Bus, rpc: Rpc) -> "ProviderRuntime":
        """A copy that runs inside a host, on the host's connections; not started yet."""
        from providers.sdk.runtime import ProviderRuntime  # noqa: PLC0415 - it imports this module

        return ProviderRuntime(cls(), data, bus=bus, rpc=rpc)

    async def health(self) -> Health:
        """Whether the provider can do its work now; to be answered within two seconds."""
        return Health(healthy=True)


def serves(link: Link, interface: Interface) -> bool:
    """Whether a link covers an interface: same package, and its name listed when any is."""
    return (
        link.wit_namespace == interface.namespace
        and link.wit_package == interface.package
        and (not link.interfaces or interface.name is None or interface.name in link.interfaces)
    )
