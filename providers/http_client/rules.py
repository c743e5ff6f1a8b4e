"""What a link may reach: a grammar of its own, parsed into rules that decide.

::

    allow     = [ rule *( separator rule ) ]
    separator = 1*( "," / white space )
    rule      = scheme "://" host [ ":" port ]
    scheme    = "http" / "https" / "*"
    host      = "*" / name / "*." name / IPv4 [ "/" bits ] / "[" IPv6 [ "/" bits ] "]"
    port      = number / number "-" number / "*"

Two questions are asked of the rules. A *target* is reached when a rule fits scheme, host and port.
An *address* that it resolves to is connected to when it is public, or when a rule with a network
fits it, with that scheme and port: so a name alone never leads inside, whoever answers for it.
"""

import re
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network

from lattice import errors
from providers.http_client import addresses, targets
from providers.http_client.addresses import Address
from providers.http_client.targets import PORTS, Target

RULES_MAX = 256
"""Rules of one link: each request is compared with all of them."""

_RULE = re.compile(r"([a-z*]+)://(\[[^\]]*\]|[^:\[\]]*)(?::([0-9*-]+))?", re.IGNORECASE)
_PORTS = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")


@dataclass(frozen=True, slots=True)
class AnyHost:
    """``*``: every name, and every address that is public."""


@dataclass(frozen=True, slots=True)
class Name:
    """A name, or with ``below`` every name under it, at any depth, but not itself."""

    name: str
    below: bool = False

    def fits(self, name: str) -> bool:
        return name.endswith(f".{self.name}") if self.below else name == self.name


Network = IPv4Network | IPv6Network
Host = AnyHost | Name | IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class Rule:
    """One entry of the list."""

    schemes: frozenset[str]
    host: Host
    ports: range | None
    """None is the default port of the request's scheme."""

    def fits(self, target: Target) -> bool:
        """Whether a request may go there, as far as names tell."""
        return self.fits_service(target) and self._fits_host(target.host)

    def fits_service(self, target: Target) -> bool:
        """Whether scheme and port fit."""
        ports = (PORTS[target.scheme],) if self.ports is None else self.ports
        return target.scheme in self.schemes and target.port in ports

    def _fits_host(self, host: str | Address) -> bool:
        match self.host:
            case AnyHost():
                return True
            case Name():
                return isinstance(host, str) and self.host.fits(host)
            case _:
                return not isinstance(host, str) and host in self.host


@dataclass(frozen=True, slots=True)
class Rules:
    """A link's list. An empty one allows nothing."""

    rules: tuple[Rule, ...] = ()

    @property
    def allow_tls(self) -> bool:
        """Whether any of them is for ``https``."""
        return any("https" in rule.schemes for rule in self.rules)

    def refusal(self, target: Target) -> str | None:
        """Say why a request may not go to a target; None if it may."""
        if any(rule.fits(target) for rule in self.rules):
            return None
        return f"{target} is not allowed; if it shall be, add {target} to allow of the link"

    def address_refusal(self, target: Target, address: Address) -> str | None:
        """Say why a request to a target may not go to this address; None if it may."""
        for meant in addresses.stands_for(address):
            if meant in addresses.METADATA:
                what = "a cloud's metadata"
                is_allowed = self._is_named(target, meant)
            elif (special := addresses.special(meant)) is not None:
                what = special
                is_allowed = self._is_inside(target, meant) or (
                    meant.is_loopback and self._is_localhost(target)
                )
            else:
                continue
            if not is_allowed:
                rule = Target(target.scheme, meant, target.port)
                return (
                    f"{target} is at {address}, and {meant} is {what}; "
                    f"if it shall be reached, add {rule} to allow of the link"
                )
        return None

    def _is_inside(self, target: Target, address: Address) -> bool:
        return any(
            address in rule.host
            for rule in self.rules
            if isinstance(rule.host, Network) and rule.fits_service(target)
        )

    def _is_named(self, target: Target, address: Address) -> bool:
        """Whether a rule is for this one address: a wide network is not meant to hold it."""
        return any(
            isinstance(rule.host, Network)
            and rule.host.num_addresses == 1
            and rule.host.network_address == address
            and rule.fits_service(target)
            for rule in self.rules
        )

    def _is_localhost(self, target: Target) -> bool:
        """Whether a rule says ``localhost``, a name that can't mean anything but loopback."""
        return any(
            isinstance(rule.host, Name)
            and f".{rule.host.name}".endswith(".localhost")
            and rule.fits(target)
            for rule in self.rules
        )


def parse(text: str) -> Rules:
    """Read a list of rules.

    Raises:
        InvalidRequest: naming the rule that is wrong, and how to write it.
    """
    words = re.split(r"[,\s]+", text.strip(", \t\r\n\f\v"))
    if words == [""]:
        return Rules()
    if len(words) > RULES_MAX:
        raise errors.InvalidRequest(f"allow has {len(words)} rules, over the limit of {RULES_MAX}")
    return Rules(tuple(dict.fromkeys(map(_parse_rule, words))))


def _parse_rule(text: str) -> Rule:
    if "://" not in text:
        raise _wrong(text, f"name the scheme too, for example https://{text[:100]}")
    if (match := _RULE.fullmatch(text)) is None:
        raise _wrong(text, "want SCHEME://HOST or SCHEME://HOST:PORT, without path or user")
    scheme, host, port = match[1].lower(), match[2], match[3]
    if scheme != "*" and scheme not in PORTS:
        raise _wrong(text, "its scheme is not http, https or *")
    return Rule(
        frozenset(PORTS if scheme == "*" else (scheme,)),
        _parse_host(text, host),
        None if port is None else _parse_ports(text, port),
    )


def _parse_host(rule: str, text: str) -> Host:
    if text == "*":
        return AnyHost()
    try:
        if "/" in text:
            return _parse_network(text)
        below = text.startswith("*.")
        host = targets.parse_host(text.removeprefix("*."))
        if isinstance(host, str):
            return Name(host, below)
        if below:
            raise ValueError("is an address; write a network as ADDRESS/BITS")
        return ip_network(host)
    except ValueError as error:
        raise _wrong(rule, f"its host {error}") from None


def _parse_network(text: str) -> Network:
    in_brackets = text.startswith("[")
    if in_brackets:
        text = text[1:-1]
    address, _, bits = text.partition("/")
    if not (bits.isascii() and bits.isdecimal() and len(bits) <= 3):
        raise ValueError("is followed by a path; rules are about hosts, not paths")
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        raise ValueError("is not a network; write ADDRESS/BITS or [ADDRESS/BITS]") from None
    if in_brackets != (network.version == 6):
        raise ValueError("is a network of IPv6, which stands in brackets, or not one")
    if str(network.network_address) != str(ip_network(address).network_address):
        raise ValueError(f"has bits beyond its prefix; write {network}")
    if isinstance(network, IPv6Network) and network.network_address.ipv4_mapped is not None:
        raise ValueError("is a network of IPv4; write it as one")
    return network


def _parse_ports(rule: str, text: str) -> range:
    if text == "*":
        return range(1, 65_536)
    match = _PORTS.fullmatch(text)
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not 0 < first <= last <= 65_535:
        raise _wrong(rule, "its port is not a number, FIRST-LAST or *, from 1 to 65535")
    return range(first, last + 1)


def _wrong(rule: str, why: str) -> errors.InvalidRequest:
    return errors.InvalidRequest(f"allow has {rule[:200]!r}: {why}")
