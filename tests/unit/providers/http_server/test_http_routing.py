"""Which link a request belongs to."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lattice import errors
from providers.http_server import routing
from providers.http_server.routing import Binding, Header, HostTable, PathTable
from providers.http_server.settings import Address, LinkSettings, ProviderSettings, TlsFiles

NO_HEADER: Header = {}


def find(path: str, *patterns: str) -> str | None:
    return PathTable({pattern: pattern for pattern in patterns}).find(path, NO_HEADER)


@pytest.mark.parametrize(
    ("path", "pattern"),
    [
        ("/", "/"),
        ("/api", "/api"),
        ("/api/", "/api/"),
        ("/api", "/api/*"),
        ("/api/", "/api/*"),
        ("/api/a/b", "/api/*"),
        ("/", "/*"),
        ("/x", "/*"),
        ("/users/7", "/users/{id}"),
        ("/users/7/posts", "/users/{id}/posts"),
        ("/files/a/b", "/files/{*rest}"),
        ("/a.b+c", "/a.b+c"),
        ("/a%2Fb", "/{one}"),
    ],
)
def test_a_pattern_fits(path: str, pattern: str) -> None:
    assert find(path, pattern) == pattern


@pytest.mark.parametrize(
    ("path", "pattern"),
    [
        ("/api", "/"),
        ("/api/", "/api"),
        ("/api", "/api/"),
        ("/API", "/api"),
        ("/apix", "/api/*"),
        ("/users", "/users/{id}"),
        ("/users/", "/users/{id}"),
        ("/users/7/", "/users/{id}"),
        ("/files", "/files/{*rest}"),
        ("/files/", "/files/{*rest}"),
        ("/aXb", "/a.b"),
        ("/%61pi", "/api"),
    ],
)
def test_a_pattern_does_not_fit(path: str, pattern: str) -> None:
    assert find(path, pattern) is None


@pytest.mark.parametrize(
    ("path", "winner"),
    [
        ("/a/b/c", "/a/b/c"),
        ("/a/b/d", "/a/b/*"),
        ("/a/b", "/a/b/*"),
        ("/a/x", "/a/{x}"),
        ("/a/x/y", "/a/*"),
        ("/b/x", "/{y}/x"),
        ("/b/y", "/*"),
        ("/a", "/a/*"),
    ],
)
def test_the_more_specific_pattern_wins_whatever_the_order(path: str, winner: str) -> None:
    patterns = ["/*", "/a/*", "/a/{x}", "/a/b/*", "/{y}/x", "/a/b/c"]
    assert find(path, *patterns) == winner
    assert find(path, *reversed(patterns)) == winner


@given(st.lists(st.sampled_from(["a", "b", ""]), min_size=1, max_size=4))
def test_the_longest_prefix_wins(segments: list[str]) -> None:
    path = "/" + "/".join(segments)
    prefixes = ["/*", "/a/*", "/a/a/*", "/a/b/*", "/b/*", "/b/a/*"]
    fitting = [each for each in prefixes if (path + "/").startswith(each[:-1])]
    assert find(path, *prefixes) == max(fitting, key=len)


@pytest.mark.parametrize(
    "text",
    [
        *("", "api", "api/*", "/*/x", "/a*", "/{}", "/{a", "/a{b}", "/{a-b}", "/{*a}/b"),
        *("/a?b", "/a b", "/#", "/a/" * 64),
    ],
)
def test_what_is_no_path_is_refused(text: str) -> None:
    with pytest.raises(errors.InvalidRequest, match=r"^path "):
        routing.parse_path(text)


def test_many_patterns_stay_cheap_to_match() -> None:
    hostile = "/" + "/".join(["a"] * 60)
    table = PathTable({f"/{{x}}/{i}/{{*rest}}": i for i in range(500)})
    assert table.find(hostile, NO_HEADER) is None


def by_host(host: str | list[str] | None, *, header: str = "host") -> str | None:
    table = HostTable(header, {name: name for name in ("a.example", "B.example:81", "[::1]")})
    values = [host] if isinstance(host, str) else host
    return table.find("/", {header: values} if values is not None else {})


@pytest.mark.parametrize(
    ("host", "route"),
    [
        ("a.example", "a.example"),
        ("A.Example.", "a.example"),
        ("a.example:8000", "a.example"),
        ("b.example:81", "B.example:81"),
        ("b.example", None),
        ("b.example:82", None),
        ("[::1]", "[::1]"),
        ("[::1]:80", "[::1]"),
        ("x.a.example", None),
        (":", None),
    ],
)
def test_a_host_is_matched_without_case_and_with_any_port(host: str, route: str | None) -> None:
    assert by_host(host) == route


def test_another_header_may_hold_the_host() -> None:
    assert by_host("a.example", header="x-tenant") == "a.example"


@pytest.mark.parametrize("host", [None, [], [""], ["a.example", "a.example"]])
def test_a_request_without_one_host_is_refused(host: list[str] | None) -> None:
    with pytest.raises(errors.InvalidRequest, match="host header"):
        by_host(host)


def test_each_link_has_its_listener_in_address_mode() -> None:
    tls = TlsFiles("c", "k")
    links: dict[str, LinkSettings] = {
        "one": LinkSettings(address=Address("127.0.0.1", 1)),
        "two": LinkSettings(address=Address("127.0.0.1", 2), tls=tls),
    }
    assert routing.bindings(ProviderSettings(), links) == {
        "one": Binding(Address("127.0.0.1", 1), None),
        "two": Binding(Address("127.0.0.1", 2), tls),
    }
    tables = routing.tables(ProviderSettings(), links, {"one": 1, "two": 2})
    assert tables["two"].find("/any", NO_HEADER) == 2


def test_two_links_of_one_address_are_a_conflict_that_names_it() -> None:
    settings = LinkSettings(address=Address("127.0.0.1", 1))
    with pytest.raises(errors.Conflict, match=re.escape("127.0.0.1:1")):
        routing.bindings(ProviderSettings(), {"one": settings, "two": settings})


def test_ports_chosen_by_the_system_never_conflict() -> None:
    settings = LinkSettings(address=Address("127.0.0.1", 0))
    assert len(routing.bindings(ProviderSettings(), {"one": settings, "two": settings})) == 2


@pytest.mark.parametrize("mode", ["path", "host"])
def test_all_links_share_one_listener_otherwise(mode: str) -> None:
    provider = ProviderSettings(mode="path" if mode == "path" else "host")
    links = {"one": LinkSettings(path="/a", host="a"), "two": LinkSettings(path="/b", host="b")}
    slots = routing.bindings(provider, links)
    assert list(slots) == [None]
    table = routing.tables(provider, links, {"one": 1, "two": 2})[None]
    assert table.find("/b", {"host": ["b"]}) == 2


@pytest.mark.parametrize(("one", "two"), [("/a", "/a"), ("/u/{id}", "/u/{name}"), ("/*", "/*")])
def test_two_paths_that_fit_the_same_are_a_conflict(one: str, two: str) -> None:
    links = {"one": LinkSettings(path=one), "two": LinkSettings(path=two)}
    with pytest.raises(errors.Conflict, match=re.escape(two)):
        routing.tables(ProviderSettings(mode="path"), links, {"one": 1, "two": 2})


def test_two_hosts_that_differ_in_case_are_a_conflict() -> None:
    links = {"one": LinkSettings(host="a.example"), "two": LinkSettings(host="A.example.")}
    with pytest.raises(errors.Conflict, match=r"A\.example"):
        routing.tables(ProviderSettings(mode="host"), links, {"one": 1, "two": 2})
