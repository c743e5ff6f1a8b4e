"""Hosts, authorities and URLs, read in one strict way.

Whoever checks a host and whoever connects to it must see the same one. So there is one reading, of
the plain forms only: odd ones, of which other parsers would make something else, are refused.
"""

import re
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address

from lattice import limits
from providers.http_client import addresses
from providers.http_client.addresses import Address
from providers.http_client.failures import Failure

PORTS = {"http": 80, "https": 443}
"""The schemes that are spoken, and where they are at home."""

NAME_CHARS_MAX = 253
"""Longest name in the DNS."""

_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_URL = re.compile(r"(?i:(https?)://)([^/?#]*)([^#]*)(?:#.*)?", re.DOTALL)
_AUTHORITY = re.compile(r"(\[[^\]]*\]|[^:\[\]]*)(?::([0-9]{1,5}))?")
_PATH = re.compile(r"[!-~]*")
"""Printable and without spaces: nothing in it can end the request line."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a request goes: what the rules judge, and what a connection is kept for."""

    scheme: str
    host: str | Address
    """A name in lower case without a dot at its end, or an address."""
    port: int

    @property
    def authority(self) -> str:
        """As in the header ``Host``."""
        host = f"[{self.host}]" if isinstance(self.host, IPv6Address) else str(self.host)
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}"


def parse_host(text: str) -> str | Address:
    """Read a name or an address; an IPv6 address stands in brackets.

    Raises:
        ValueError: it is neither, or in a form that could be read in several ways; says which.
    """
    if not text.isascii():
        raise ValueError("is not ASCII; write the name in its ASCII form, xn--...")
    if text.startswith("["):
        return _parse_v6(text)
    # One dot at the end means the same name, fully written.
    name = text.lower().removesuffix(".")
    labels = name.split(".")
    if _NUMBER.fullmatch(labels[-1]):
        return _parse_v4(name)
    if len(name) > NAME_CHARS_MAX or not all(map(_LABEL.fullmatch, labels)):
        raise ValueError("is not a host's name or address")
    return name


def _parse_v6(text: str) -> Address:
    try:
        address = IPv6Address(text[1:-1] if text.endswith("]") else "")
    except AddressValueError:
        raise ValueError("is not an IPv6 address in brackets") from None
    if address.scope_id is not None:
        raise ValueError("names a network interface, which is not the actor's to choose")
    return addresses.normal(address)


def _parse_v4(text: str) -> Address:
    # To the system 0177.1, 0x7f000001 and 2130706433 are addresses too.
    try:
        return IPv4Address(text)
    except AddressValueError:
        raise ValueError("is not an IPv4 address written as four decimal numbers") from None


def parse_authority(scheme: str, authority: str) -> Target:
    """Read ``host`` or ``host:port``.

    Raises:
        Failure: it is not that.
    """
    scheme = scheme.lower()
    if scheme not in PORTS:
        raise Failure(
            "HTTP-protocol-error", f"the scheme {scheme[:20]!r} is neither http nor https"
        )
    if "@" in authority:
        # Without its text: it may hold a password.
        raise Failure(
            "HTTP-request-URI-invalid",
            "the URL names a user; send a header authorization instead",
        )
    match = _AUTHORITY.fullmatch(authority)
    if match is None or not match[1]:
        raise _invalid("the authority", authority, "is not HOST or HOST:PORT")
    port = int(match[2]) if match[2] else PORTS[scheme]
    if not 0 < port <= 65_535:
        raise _invalid("the port of", authority, "is not from 1 to 65535")
    try:
        return Target(scheme, parse_host(match[1]), port)
    except ValueError as error:
        raise _invalid("the host", match[1], str(error)) from None


def parse_url(url: str) -> tuple[Target, str]:
    """Read an absolute URL into its target and its path with query; a fragment is dropped.

    Raises:
        Failure: it is not one, or of another scheme.
    """
    if (match := _URL.fullmatch(url)) is None:
        raise _invalid("the URL", url, "does not begin with http:// or https://")
    return parse_authority(match[1], match[2]), parse_path(match[3])


def parse_path(text: str | None) -> str:
    """Check a path with its query; absent ones become ``/``.

    Raises:
        Failure: it could not stand in a request line, or is too long.
    """
    text = text or "/"
    if text.startswith("?"):
        text = f"/{text}"
    if len(text) > limits.HTTP_CLIENT_PATH_BYTES_MAX:
        raise Failure(
            "HTTP-request-URI-too-long",
            f"path and query are {len(text)} bytes, over the limit of"
            f" {limits.HTTP_CLIENT_PATH_BYTES_MAX}",
        )
    # Servers differ in whether a backslash is a slash, and only clients know of fragments.
    if text[0] not in "/*" or not _PATH.fullmatch(text) or "\\" in text or "#" in text:
        raise _invalid(
            "the path", text, "is not /... of printable ASCII; percent-encode the rest of it"
        )
    if text[0] == "*" and text != "*":
        raise _invalid("the path", text, "is neither /... nor *")
    return text


def _invalid(what: str, text: str, why: str) -> Failure:
    return Failure("HTTP-request-URI-invalid", f"{what} {text[:200]!r} {why}")
