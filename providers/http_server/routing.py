"""Which link a request belongs to: pure functions of settings, path and headers.

*Address*: one listening address per link. *Path* and *host*: one address for all links, told apart
by the request's path or by a header.

A path is a pattern over whole segments of the path as it stands in the request, percent-encoded and
case-sensitive. ``{name}`` stands for one segment, ``{*name}`` at the end for one or more, as in
wasmCloud; a ``*`` at the end also for none, so that ``/api/*`` covers ``/api`` and all below. Where
several patterns fit, segment by segment a literal goes before ``{name}`` and that before the rest;
so the longest prefix wins.
"""

import re
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from lattice import errors
from providers.http_server.settings import Address, LinkSettings, ProviderSettings, TlsFiles

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
K = TypeVar("K", bound=Hashable)

Header = Mapping[str, list[str]]
"""Lower-case names of a request's headers, and their values in order."""

SEGMENTS_MAX = 64
"""Segments of a pattern: more is no address a person would give."""

_LITERAL, _ONE, _REST = range(3)
_NAME = re.compile(r"\{\*?[A-Za-z_][A-Za-z0-9_]*\}")


class Table(Protocol[T_co]):
    """Finds what a request is for."""

    def find(self, path: str, header: Header) -> T_co | None:
        """Return the value whose route fits, or None.

        Raises:
            InvalidRequest: the request lacks what the routes are told apart by.
        """
        ...


@dataclass(frozen=True, slots=True)
class Binding:
    """What a listener needs to open."""

    address: Address
    tls: TlsFiles | None


@dataclass(frozen=True, slots=True)
class Everything(Generic[T]):
    """Sends every request one way, or nowhere."""

    value: T | None

    def find(self, path: str, header: Header) -> T | None:  # noqa: ARG002 - it takes all
        return self.value


NOTHING: Everything[None] = Everything(None)
"""The table of a listener whose last link is gone."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """A path of the configuration, understood."""

    rank: tuple[int, ...]
    """Sorts the more specific pattern first."""
    shape: str
    """Equal for patterns that fit the same paths."""
    literal: bool
    expression: re.Pattern[str]


def parse_path(text: str) -> Pattern:
    """Understand a pattern.

    Raises:
        InvalidRequest: saying what is wrong with it.
    """
    segments = text.split("/")
    if segments[0] or len(segments) < 2 or len(segments) > SEGMENTS_MAX:
        raise errors.InvalidRequest(f"path is {text[:100]!r}: want /, /name, or /name/*")
    ranks: list[int] = []
    shapes: list[str] = []
    expression = ""
    for segment in segments[1:]:
        if ranks and ranks[-1] == _REST:
            raise errors.InvalidRequest(f"path {text!r}: nothing may follow the rest of a path")
        if segment == "*":
            rank, shape, part = _REST, "*", "(?:/.*)?"
        elif _NAME.fullmatch(segment):
            rest = segment[1] == "*"
            rank, shape, part = (_REST, "{*}", "/.+") if rest else (_ONE, "{}", "/[^/]+")
        elif re.search(r"[{}*?#\s]", segment):
            raise errors.InvalidRequest(
                f"path {text!r}: {segment!r} is neither a literal nor a whole {{name}}"
            )
        else:
            rank, shape, part = _LITERAL, segment, "/" + re.escape(segment)
        ranks.append(rank)
        shapes.append(shape)
        expression += part
    return Pattern(
        rank=tuple(ranks),
        shape="/".join(shapes),
        literal=not any(ranks),
        expression=re.compile(expression, re.DOTALL),
    )


class PathTable(Generic[T]):
    """Finds by path: literals by look-up, the other patterns in order of rank."""

    def __init__(self, routes: Mapping[str, T]) -> None:
        self._literals: dict[str, T] = {}
        patterns: list[tuple[Pattern, T]] = []
        for text, value in routes.items():
            pattern = parse_path(text)
            if pattern.literal:
                self._literals[text] = value
            else:
                patterns.append((pattern, value))
        patterns.sort(key=lambda entry: entry[0].rank)
        self._patterns = [(pattern.expression.fullmatch, value) for pattern, value in patterns]

    def find(self, path: str, header: Header) -> T | None:  # noqa: ARG002 - the path says it all
        # A literal outranks every other pattern that fits the same path.
        if (value := self._literals.get(path)) is not None:
            return value
        return next((value for fits, value in self._patterns if fits(path)), None)


def normalise_host(text: str) -> str:
    """Fold what browsers write differently: case, and the dot of a fully qualified name."""
    return text.strip().lower().rstrip(".")


class HostTable(Generic[T]):
    """Finds by the value of a header; a route without a port fits any port."""

    def __init__(self, header_name: str, routes: Mapping[str, T]) -> None:
        self._header_name = header_name
        self._routes = {normalise_host(host): value for host, value in routes.items()}

    def find(self, path: str, header: Header) -> T | None:  # noqa: ARG002 - the host says it all
        values = header.get(self._header_name)
        if not values or not values[0]:
            raise errors.InvalidRequest(f"the request has no {self._header_name} header")
        if len(values) > 1:
            raise errors.InvalidRequest(
                f"the request has {len(values)} {self._header_name} headers"
            )
        host = normalise_host(values[0])
        if (value := self._routes.get(host)) is not None:
            return value
        name, colon, port = host.rpartition(":")
        # In a bare IPv6 address the last colon is followed by its closing bracket.
        if colon and port.isdigit():
            return self._routes.get(name.rstrip("."))
        return None


def bindings(
    provider: ProviderSettings, links: Mapping[K, LinkSettings]
) -> dict[K | None, Binding]:
    """What must listen: per link in address mode, otherwise one for all under None.

    Raises:
        Conflict: two links want one address.
    """
    if provider.mode != "address":
        return {None: Binding(provider.default_address, provider.tls)}
    wanted: dict[K | None, Binding] = {}
    taken: set[Address] = set()
    for key, settings in links.items():
        if settings.address in taken:
            raise errors.Conflict(
                f"address {settings.address} is taken by another link of this provider; give each "
                "link its own, or set routing_mode to path or host"
            )
        if settings.address.port:
            taken.add(settings.address)
        wanted[key] = Binding(settings.address, settings.tls)
    return wanted


def tables(
    provider: ProviderSettings, links: Mapping[K, LinkSettings], values: Mapping[K, T]
) -> dict[K | None, Table[T]]:
    """Build the table of each listener that ``bindings`` asks for.

    Raises:
        Conflict: two links have the same path or host.
        InvalidRequest: a path is not one.
    """
    if provider.mode == "address":
        return {key: Everything(values[key]) for key in links}
    routes: dict[str, T] = {}
    taken: set[str] = set()
    for key, settings in links.items():
        route = settings.path if provider.mode == "path" else settings.host
        assert route is not None, "parse_link asks for it"
        identity = parse_path(route).shape if provider.mode == "path" else normalise_host(route)
        if identity in taken:
            raise errors.Conflict(
                f"{provider.mode} {route!r} is taken by another link of this provider"
            )
        taken.add(identity)
        routes[route] = values[key]
    if provider.mode == "path":
        return {None: PathTable(routes)}
    return {None: HostTable(provider.host_header, routes)}
