"""The list of what a link may reach: its grammar, and what it decides."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lattice import errors
from providers.http_client import addresses, rules, targets
from providers.http_client.rules import AnyHost, Name, Rule, Rules
from providers.http_client.targets import Target

BOTH = frozenset({"http", "https"})
HTTP, HTTPS = frozenset({"http"}), frozenset({"https"})


def target(url: str) -> Target:
    return targets.parse_url(url)[0]


def reaches(allow: str, url: str) -> bool:
    return rules.parse(allow).refusal(target(url)) is None


def connects(allow: str, url: str, address: str) -> bool:
    return rules.parse(allow).address_refusal(target(url), ip_address(address)) is None


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("https://example.com", Rule(HTTPS, Name("example.com"), None)),
        ("HTTPS://Example.COM.", Rule(HTTPS, Name("example.com"), None)),
        ("http://example.com:8080", Rule(HTTP, Name("example.com"), range(8080, 8081))),
        ("*://*.example.com:1-65535", Rule(BOTH, Name("example.com", True), range(1, 65536))),
        ("https://*", Rule(HTTPS, AnyHost(), None)),
        ("https://*:*", Rule(HTTPS, AnyHost(), range(1, 65536))),
        ("http://10.0.0.5", Rule(HTTP, IPv4Network("10.0.0.5/32"), None)),
        ("http://10.0.0.0/8:80-90", Rule(HTTP, IPv4Network("10.0.0.0/8"), range(80, 91))),
        ("http://[::ffff:10.0.0.5]", Rule(HTTP, IPv4Network("10.0.0.5/32"), None)),
    ],
)
def test_a_rule_is_read(text: str, rule: Rule) -> None:
    assert rules.parse(text) == Rules((rule,))


def test_rules_stand_on_lines_or_between_commas_and_count_once() -> None:
    found = rules.parse(" https://a.example,\n\thttps://b.example  https://a.example,,\n")

    assert [rule.host for rule in found.rules] == [Name("a.example"), Name("b.example")]


@pytest.mark.parametrize("text", ["", " ", ",", "\n,\n"])
def test_an_empty_list_allows_nothing(text: str) -> None:
    assert rules.parse(text) == Rules()
    assert not reaches(text, "https://example.com/")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("example.com", "name the scheme too, for example https://example.com"),
        ("*", "name the scheme too"),
        ("ftp://example.com", "not http, https or *"),
        ("https://", "not a host's name"),
        ("https://example.com/", "about hosts, not paths"),
        ("https://example.com/api/*", "about hosts, not paths"),
        ("https://user@example.com", "not a host's name"),
        ("https://user:password@example.com", "without path or user"),
        ("https://exa mple", "name the scheme too"),
        ("https://ex*mple.com", "not a host's name"),
        ("https://*example.com", "not a host's name"),
        ("https://www.*.com", "not a host's name"),
        ("https://*.10.0.0.1", "write a network as ADDRESS/BITS"),
        ("https://zażółć.example", "xn--"),
        ("http://10.0.0.1/8", "write 10.0.0.0/8"),
        ("http://10.0.0.0/33", "not a network"),
        ("http://10.1/16", "not a network"),
        ("http://010.0.0.1", "four decimal numbers"),
        ("http://2130706433", "four decimal numbers"),
        ("http://0x7f.1", "four decimal numbers"),
        ("http://fd00::1", "without path or user"),
        ("http://[fd00::1", "without path or user"),
        ("http://[fd00::1/64]", "write fd00::/64"),
        ("http://[10.0.0.0/8]", "brackets"),
        ("http://[fe80::1%eth0]", "network interface"),
        ("http://[::ffff:10.0.0.0/104]", "write it as one"),
        ("http://a.example:0", "from 1 to 65535"),
        ("http://a.example:65536", "from 1 to 65535"),
        ("http://a.example:9-8", "from 1 to 65535"),
        ("http://a.example:-8", "from 1 to 65535"),
        ("http://a.example:8-", "from 1 to 65535"),
        ("http://a.example:**", "from 1 to 65535"),
        ("http://a.example:", "without path or user"),
    ],
)
def test_a_wrong_rule_is_refused_with_how_to_write_it(text: str, why: str) -> None:
    with pytest.raises(errors.InvalidRequest) as caught:
        rules.parse(f"https://fine.example, {text}")
    assert caught.value.text.startswith("allow has ")
    assert why in caught.value.text


def test_a_list_has_a_bound() -> None:
    with pytest.raises(errors.InvalidRequest, match="257 rules, over the limit of 256"):
        rules.parse(" ".join(f"https://h{n}.example" for n in range(257)))


@pytest.mark.parametrize(
    ("allow", "url", "is_allowed"),
    [
        ("https://example.com", "https://example.com/a?b", True),
        ("https://example.com", "https://EXAMPLE.com.:443/", True),
        ("https://example.com", "http://example.com/", False),
        ("https://example.com", "https://example.com:8443/", False),
        ("https://example.com", "https://www.example.com/", False),
        ("https://example.com", "https://example.com.evil.example/", False),
        ("https://example.com", "https://evilexample.com/", False),
        ("*://example.com", "http://example.com/", True),
        ("*://example.com", "http://example.com:443/", False),
        ("https://*.example.com", "https://a.example.com/", True),
        ("https://*.example.com", "https://a.b.example.com/", True),
        ("https://*.example.com", "https://example.com/", False),
        ("https://*.example.com", "https://aexample.com/", False),
        ("https://*", "https://anything.example/", True),
        ("https://*", "https://8.8.8.8/", True),
        ("https://*", "https://anything.example:444/", False),
        ("http://a.example:80-90", "http://a.example:90/", True),
        ("http://a.example:80-90", "http://a.example:91/", False),
        ("http://10.0.0.0/8", "http://10.1.2.3/", True),
        ("http://10.0.0.0/8", "http://11.1.2.3/", False),
        ("http://10.0.0.0/8", "http://[::ffff:10.1.2.3]/", True),
        ("http://10.0.0.0/8", "http://ten.example/", False),
        ("http://[fd00::/8]:8080", "http://[fd12::1]:8080/", True),
        ("http://[fd00::/8]:8080", "http://10.0.0.1:8080/", False),
    ],
)
def test_a_target_is_reached_when_scheme_host_and_port_fit(
    allow: str, url: str, is_allowed: bool
) -> None:
    assert reaches(allow, url) == is_allowed


@pytest.mark.parametrize(
    ("allow", "address", "is_allowed"),
    [
        ("http://db.example", "8.8.8.8", True),
        ("http://db.example", "2606:4700::1111", True),
        ("http://db.example", "10.0.0.5", False),
        ("http://db.example http://10.0.0.0/8", "10.0.0.5", True),
        ("http://db.example http://10.0.0.5", "10.0.0.5", True),
        ("http://db.example http://10.0.0.5", "10.0.0.6", False),
        ("http://db.example http://10.0.0.0/8:8080", "10.0.0.5", False),
        ("http://db.example https://10.0.0.0/8", "10.0.0.5", False),
        ("http://db.example http://10.0.0.0/8", "::ffff:10.0.0.5", True),
        ("http://db.example http://10.0.0.0/8", "127.0.0.1", False),
        ("http://*:*", "127.0.0.1", False),
        ("http://*:*", "169.254.169.254", False),
        ("http://db.example http://0.0.0.0/0", "127.0.0.1", True),
        # A gateway's address does not open what lies behind it, nor the other way round.
        ("http://db.example http://[64:ff9b::/96]", "64:ff9b::7f00:1", False),
        ("http://db.example http://[2002::/16]", "2002:7f00:1::", False),
        ("http://db.example http://127.0.0.1", "2002:7f00:1::", False),
        ("http://db.example http://127.0.0.1 http://[2002::/16]", "2002:7f00:1::", True),
    ],
)
def test_a_name_leads_to_public_addresses_and_to_networks_that_are_allowed_too(
    allow: str, address: str, is_allowed: bool
) -> None:
    assert connects(allow, "http://db.example/", address) == is_allowed


@pytest.mark.parametrize("address", sorted(addresses.METADATA, key=str))
def test_metadata_is_reached_by_a_rule_for_that_very_address_only(
    address: IPv4Address | IPv6Address,
) -> None:
    text = f"[{address}]" if address.version == 6 else str(address)
    wide = "http://*:* http://0.0.0.0/0 http://[::/0] http://169.254.0.0/16"

    assert not connects(wide, f"http://{text}/", str(address))
    assert connects(f"http://{text}", f"http://{text}/", str(address))


@pytest.mark.parametrize(
    ("allow", "url", "address", "is_allowed"),
    [
        ("http://localhost:*", "http://localhost:8080/", "127.0.0.1", True),
        ("http://localhost:*", "http://localhost:8080/", "::1", True),
        ("http://localhost:*", "http://localhost:8080/", "10.0.0.1", False),
        ("http://*.localhost:*", "http://app.localhost:8080/", "127.0.0.1", True),
        ("http://*:*", "http://localhost:8080/", "127.0.0.1", False),
        ("http://localhost http://a.example", "http://a.example/", "127.0.0.1", False),
        ("http://evil-localhost", "http://evil-localhost/", "127.0.0.1", False),
    ],
)
def test_localhost_is_loopback_where_a_rule_says_so(
    allow: str, url: str, address: str, is_allowed: bool
) -> None:
    assert connects(allow, url, address) == is_allowed


def test_a_refusal_names_the_rule_that_would_allow_it() -> None:
    found = rules.parse("https://a.example")
    refusal = found.refusal(target("http://b.example:8080/x"))
    assert refusal is not None
    assert "add http://b.example:8080 to allow" in refusal
    refusal = found.address_refusal(target("https://a.example:8443/"), ip_address("10.0.0.5"))
    assert refusal is not None
    assert "10.0.0.5 is a private network" in refusal
    assert "add https://10.0.0.5:8443 to allow" in refusal


labels = st.from_regex(r"[a-z]([a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True)
names = st.lists(labels, min_size=1, max_size=4).map(".".join)
hosts = st.one_of(
    names,
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(lambda address: f"[{address}]"),
)
schemes = st.sampled_from(["http", "https"])
ports = st.integers(1, 65_535)


@given(schemes, hosts, ports)
def test_a_target_written_as_a_rule_allows_exactly_itself(
    scheme: str, host: str, port: int
) -> None:
    found = targets.parse_authority(scheme, f"{host}:{port}")
    rule = rules.parse(str(found))

    assert rule.refusal(found) is None
    assert rule.refusal(Target(found.scheme, found.host, port % 65_535 + 1)) is not None
    assert rule.refusal(Target("https" if scheme == "http" else "http", found.host, port))


@given(names, names)
def test_a_wildcard_covers_what_lies_below_and_nothing_else(name: str, other: str) -> None:
    allow = rules.parse(f"https://*.{name}")
    below = Target("https", f"{other}.{name}", 443)

    assert allow.refusal(below) is None
    assert allow.refusal(Target("https", f"{other}{name}x", 443)) is not None
    assert (allow.refusal(Target("https", other, 443)) is None) == other.endswith(f".{name}")


@given(st.text(max_size=80) | st.text("htps:/*[]0123456789.-ax,\n@%", max_size=80))
def test_any_text_is_a_list_or_is_refused(text: str) -> None:
    try:
        found = rules.parse(text)
    except errors.InvalidRequest:
        return
    for rule in found.rules:
        assert rule.schemes <= BOTH


@given(st.ip_addresses())
def test_no_name_leads_to_an_address_that_the_standard_library_calls_not_global(
    address: IPv4Address | IPv6Address,
) -> None:
    if connects("http://*:*", "http://name.example/", str(address)):
        # What Python calls private within 64:ff9b::/96 depends on its version.
        assert all(
            each.is_global or str(each).startswith("64:ff9b::")
            for each in addresses.stands_for(address)
        )
