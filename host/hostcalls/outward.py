"""Host calls of one invocation: where each goes, by the actor's links, and what it may not do."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from time import perf_counter_ns

from host.hostcalls.builtin import Builtins
from host.logs import Logs
from lattice import errors, names
from lattice.rpc import Rpc, parse_timeout_ms
from lattice.state.links import LinkTable
from lattice.wire.control import Link
from lattice.wire.histogram import Histogram
from lattice.wire.invocation import Invocation, Reply
from lattice.wire.streams import Source, counted

LINK_TALLIES_MAX = 100
"""Links whose calls are counted at a time, of one actor; the one counted first is forgotten."""

TIMEOUT_KEY = "timeout_ms"
"""Key of a link's source config: the most time that a call over it may take."""

LinkKey = tuple[str, str, str]
"""Link name, interface (namespace and package), target."""


class LinkTally:
    """What the calls over one link came to; counts only, which only grow."""

    __slots__ = ("bytes_in", "bytes_out", "calls", "cpu_us", "durations", "failures")

    def __init__(self) -> None:
        self.calls = 0
        """Those that have ended."""
        self.failures = 0
        self.bytes_in = 0
        """Payloads of the answers, and what of them flowed, as it was read."""
        self.bytes_out = 0
        """The same of the calls."""
        self.cpu_us = 0
        """What they cost at the target, where that says so: providers do not."""
        self.durations = Histogram()
        """Microseconds, of all of them."""

    def count_in(self, size: int) -> None:
        self.bytes_in += size

    def count_out(self, size: int) -> None:
        self.bytes_out += size


class Outward:
    """What the guests of one actor can reach; makes the surroundings of each invocation."""

    __slots__ = ("_link_config", "actor_id", "builtins", "links", "logs", "rpc", "tallies")

    def __init__(
        self,
        actor_id: str,
        *,
        links: LinkTable,
        link_config: Callable[[Sequence[str]], Mapping[str, str]],
        rpc: Rpc,
        builtins: Builtins,
        logs: Logs,
    ) -> None:
        """``link_config`` merges the configs that a link names."""
        self.actor_id = actor_id
        self.links = links
        self._link_config = link_config
        self.rpc = rpc
        self.builtins = builtins
        self.logs = logs
        self.tallies: dict[LinkKey, LinkTally] = {}

    def surroundings(self, invocation: Invocation) -> "GuestCalls":
        return GuestCalls(self, invocation)

    def deadline(self, link: Link, latest: float) -> float:
        """When a call over a link has to be over: its cause's deadline, or earlier.

        Raises:
            InvalidRequest: the link's source config has a ``timeout_ms`` that is none.
        """
        # Most links have no config, and their calls pay nothing here.
        if not link.source_config:
            return latest
        if (text := self._link_config(link.source_config).get(TIMEOUT_KEY)) is None:
            return latest
        what = f"{TIMEOUT_KEY} of the link {link.source_id} -> {link.target}"
        timeout_s = parse_timeout_ms(text, what=what)
        return min(latest, asyncio.get_running_loop().time() + timeout_s)

    def tally(self, link: Link) -> LinkTally:
        """What counts the calls over a link."""
        key = (link.name, f"{link.wit_namespace}:{link.wit_package}", link.target)
        if (tally := self.tallies.get(key)) is None:
            if len(self.tallies) >= LINK_TALLIES_MAX:
                del self.tallies[next(iter(self.tallies))]
            tally = self.tallies[key] = LinkTally()
        return tally


class GuestCalls:
    """The host calls of the guest that serves one invocation."""

    __slots__ = ("_cause", "_outward")

    def __init__(self, outward: Outward, cause: Invocation) -> None:
        self._outward = outward
        self._cause = cause

    def call(
        self, binding: str, namespace: str, operation: str, payload: bytes
    ) -> bytes | Awaitable[bytes]:
        """Send a guest's call on its way; builtins are answered at once.

        Raises:
            NoLink: no link leads there.
            InvalidRequest: the namespace is neither an interface nor an actor's alias or id.
        """
        outward = self._outward
        if outward.builtins.serves(namespace):
            return outward.builtins.call(namespace, operation, payload)
        link = self._link(binding, namespace)
        return self._send_whole(link, namespace, operation, payload)

    async def exchange(
        self, binding: str, namespace: str, operation: str, payload: bytes, stream: Source | None
    ) -> Reply:
        """Send a call whose payload, and whose answer, may flow.

        Raises:
            LatticeError: as ``call``, and what the target says.
        """
        link = self._link(binding, namespace)
        return await self._send(
            link, namespace, operation, payload, stream=stream, takes_stream=True
        )

    def _link(self, binding: str, namespace: str) -> Link:
        outward = self._outward
        return find_link(outward.links, outward.actor_id, binding or names.DEFAULT_LINK, namespace)

    def check_link(self, binding: str, namespace: str) -> None:
        find_link(self._outward.links, self._outward.actor_id, binding, namespace)

    def log(self, level: str, text: str) -> None:
        self._outward.logs.guest(self._outward.actor_id, level, text, call=self._cause.id)

    async def _send_whole(
        self, link: Link, namespace: str, operation: str, payload: bytes
    ) -> bytes:
        return (await self._send(link, namespace, operation, payload)).payload

    async def _send(
        self,
        link: Link,
        namespace: str,
        operation: str,
        payload: bytes,
        *,
        stream: Source | None = None,
        takes_stream: bool = False,
    ) -> Reply:
        cause, tally = self._cause, self._outward.tally(link)
        invocation = Invocation(
            source=self._outward.actor_id,
            target=link.target,
            # A guest that names an actor is understood by the interface of their link.
            interface=namespace if ":" in namespace else f"{link.wit_namespace}:{link.wit_package}",
            operation=operation,
            payload=payload,
            deadline=self._outward.deadline(link, cause.deadline),
            link_name=link.name,
            hops=cause.hops + 1,
            trace=cause.trace,
            stream=counted(stream, tally.count_out),
            takes_stream=takes_stream,
        )
        began_ns = perf_counter_ns()
        try:
            reply = await self._outward.rpc.call(invocation)
        except BaseException:
            tally.failures += 1
            raise
        finally:
            tally.calls += 1
            tally.bytes_out += len(payload)
            tally.durations.add((perf_counter_ns() - began_ns) // 1_000)
        tally.bytes_in += len(reply.payload)
        reply.stream = counted(reply.stream, tally.count_in)
        if reply.usage is not None:
            tally.cpu_us += reply.usage.cpu_us
        return reply


def find_link(links: LinkTable, source: str, link_name: str, namespace: str) -> Link:
    """The link that a guest's call takes: by interface, or by the call alias or the id of the actor
    that it names.

    Raises:
        NoLink: there is none.
        InvalidRequest: the namespace is none of these.
    """
    target = "TARGET"
    if ":" in namespace:
        link = links.find(source, link_name, names.parse_interface(namespace))
    elif "/" in namespace:
        named = names.parse_call_alias(namespace)
        link = links.find(source, link_name, named)
        namespace = f"{named.namespace}:{named.package}"
    else:
        target = names.parse_entity(namespace)
        link = links.find_target(source, link_name, target)
    if link is None:
        raise errors.NoLink(source, link_name, namespace, target=target)
    return link
