"""Which IP addresses belong to the public internet, and which must be allowed by themselves.

An IPv6 address may carry an IPv4 address that a gateway or the system itself would go on to. Each
address is therefore judged by all that it stands for, and the worst of them counts.

Sources: the IANA registries of special-purpose IPv4 and IPv6 addresses; RFC 4291 (mapped and
compatible), 2765 (translated), 6052 and 8215 (NAT64), 3056 (6to4), 4380 (Teredo), 5214 (ISATAP).
"""

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Address = IPv4Address | IPv6Address

_SPECIAL_4 = [
    (IPv4Network(network), what)
    for network, what in [
        ("0.0.0.0/8", "this very network"),
        ("10.0.0.0/8", "a private network"),
        ("100.64.0.0/10", "a carrier's network"),
        ("127.0.0.0/8", "loopback"),
        ("169.254.0.0/16", "link-local"),
        ("172.16.0.0/12", "a private network"),
        ("192.0.0.0/24", "reserved"),
        ("192.0.2.0/24", "for documentation"),
        ("192.88.99.0/24", "a relay of 6to4"),
        ("192.168.0.0/16", "a private network"),
        ("198.18.0.0/15", "for benchmarks"),
        ("198.51.100.0/24", "for documentation"),
        ("203.0.113.0/24", "for documentation"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
    ]
]

_SPECIAL_6 = [
    (IPv6Network(network), what)
    for network, what in [
        ("::/128", "this very machine"),
        ("::1/128", "loopback"),
        ("2001::/32", "Teredo"),
        ("2001::/23", "reserved"),
        ("2001:db8::/32", "for documentation"),
        ("2002::/16", "6to4"),
        ("3fff::/20", "for documentation"),
        ("fc00::/7", "a private network"),
        ("fe80::/10", "link-local"),
        ("fec0::/10", "a private network"),
        ("ff00::/8", "multicast"),
    ]
]

_UNICAST_6 = IPv6Network("2000::/3")
"""Everything that has been given out to the public; what lies outside is special."""

_NAT64 = IPv6Network("64:ff9b::/96")
"""What a resolver on a network without IPv4 makes of public IPv4 addresses."""

_LOCAL_NAT64 = IPv6Network("64:ff9b:1::/48")
_TRANSLATED = IPv6Network("::ffff:0:0:0/96")
_COMPATIBLE = IPv6Network("::/96")
_SIX_TO_FOUR = IPv6Network("2002::/16")
_TEREDO = IPv6Network("2001::/32")

METADATA = frozenset(
    ip_address(text)
    for text in [
        "169.254.169.254",  # nearly every cloud
        "169.254.170.2",  # credentials of AWS's containers
        "169.254.170.23",  # and of its pods
        "fd00:ec2::254",  # AWS
        "fd00:ec2::23",
        "fd20:ce::254",  # Google
        "100.100.100.200",  # Alibaba
        "168.63.129.16",  # Azure, an address that looks public
        "192.0.0.192",  # Oracle
    ]
)
"""Where clouds hand the machine's own credentials to whoever asks."""


def normal(address: Address) -> Address:
    """The address that a connection to this one goes to: mapped IPv4 is IPv4 to the system."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def special(address: Address) -> str | None:
    """Say what an address is that is not public; None if it is public."""
    if isinstance(address, IPv4Address):
        return next((what for network, what in _SPECIAL_4 if address in network), None)
    if what := next((what for network, what in _SPECIAL_6 if address in network), None):
        return what
    return None if address in _UNICAST_6 or address in _NAT64 else "reserved"


def stands_for(address: Address) -> Iterator[Address]:
    """The address itself and every IPv4 address that it carries."""
    address = normal(address)
    yield address
    if isinstance(address, IPv6Address):
        yield from _carried(address)


def _carried(address: IPv6Address) -> Iterator[IPv4Address]:
    number = int(address)
    low = number & 0xFFFF_FFFF
    if address.is_loopback or address.is_unspecified:
        return
    if any(address in network for network in (_NAT64, _LOCAL_NAT64, _TRANSLATED, _COMPATIBLE)):
        yield IPv4Address(low)
    elif address in _SIX_TO_FOUR:
        yield IPv4Address(number >> 80 & 0xFFFF_FFFF)
    elif address in _TEREDO:
        yield IPv4Address(number >> 64 & 0xFFFF_FFFF)
        yield IPv4Address(low ^ 0xFFFF_FFFF)
    # ISATAP marks the lower half, under any prefix; the second form has the bit for "global" set.
    if number >> 32 & 0xFFFF_FFFF in (0x0000_5EFE, 0x0200_5EFE):
        yield IPv4Address(low)
