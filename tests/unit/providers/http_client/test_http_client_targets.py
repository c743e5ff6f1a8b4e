"""URLs and hosts are read in one way, and in no other."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.http_client import targets
from providers.http_client.failures import Failure


@pytest.mark.parametrize(
    ("url", "target", "path"),
    [
        ("http://example.com", "http://example.com", "/"),
        ("HTTPS://Example.COM./A?b=C#fragment", "https://example.com", "/A?b=C"),
        ("http://example.com#@evil.example/", "http://example.com", "/"),
        ("http://example.com?q", "http://example.com", "/?q"),
        ("http://example.com:80/", "http://example.com", "/"),
        ("https://example.com:80/", "https://example.com:80", "/"),
        ("http://127.0.0.1:8080/a", "http://127.0.0.1:8080", "/a"),
        ("http://[::1]:8080/a", "http://[::1]:8080", "/a"),
        ("http://[0:0::1]/", "http://[::1]", "/"),
        ("http://[::ffff:127.0.0.1]/", "http://127.0.0.1", "/"),
        ("http://xn--bcher-kva.example/", "http://xn--bcher-kva.example", "/"),
        ("http://a_b.example/", "http://a_b.example", "/"),
        ("http://example.com//evil.example/", "http://example.com", "//evil.example/"),
        ("http://example.com/%0d%0a", "http://example.com", "/%0d%0a"),
    ],
)
def test_a_url_is_read(url: str, target: str, path: str) -> None:
    found, found_path = targets.parse_url(url)
    assert (str(found), found_path) == (target, path)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com",
        "//example.com/",
        "http:example.com",
        "http:/example.com",
        "http:///example.com",
        "file:///etc/passwd",
        "gopher://127.0.0.1:6379/_",
        "http://2130706433/",
        "http://0x7f000001/",
        "http://0x7f.0.0.1/",
        "http://0177.0.0.1/",
        "http://017700000001/",
        "http://127.1/",
        "http://127.0.1/",
        "http://0/",
        "http://0x/",
        "http://00.0.0.0/",
        "http://127.0.0.1.5/",
        "http://256.0.0.1/",
        "http://127.0.0.1../",
        "http://example..com/",
        "http://.example.com/",
        "http://example.com../",
        "http://1.2.3.4:80:90/",
        "http://user@example.com/",
        "http://user:secret@example.com/",
        "http://example.com@evil.example/",
        "http://example.com\\@evil.example/",
        "http://evil.example\\.example.com/",
        "http://example%2ecom/",
        "http://%6c%6f%63alhost/",
        "http://127.0.0.1%00.example.com/",
        "http://exam ple.com/",
        "http://example.com\t/",
        "http://example.com\r\n/",
        " http://example.com/",
        "http://example.com/a b",
        "http://example.com/\r\nHost: evil",
        "http://example.com/\x00",
        "http://example.com/é",
        "http://example.com/a\\b",
        "http://bücher.example/",
        "http://①②⑦.0.0.1/",
        "http://ｅxample.com/",
        "http://example。com/",
        "http://[::1/",
        "http://::1/",
        "http://[::1]x/",
        "http://[fe80::1%25eth0]/",
        "http://[fe80::1%eth0]/",
        "http://[127.0.0.1]/",
        "http://[v1.fe]/",
        "http://-a.example/",
        "http://a-.example/",
        "http://example.com:/",
        "http://example.com:0/",
        "http://example.com:65536/",
        "http://example.com:8x/",
        "http://example.com:+80/",
        "http://example.com:٨٠/",
        f"http://{'a' * 64}.example/",
        f"http://{'a.' * 130}example/",
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(url: str) -> None:
    with pytest.raises(Failure) as caught:
        targets.parse_url(url)
    assert caught.value.case == "HTTP-request-URI-invalid"


def test_a_scheme_that_is_not_spoken_is_an_error_of_the_protocol() -> None:
    with pytest.raises(Failure) as caught:
        targets.parse_authority("WS", "example.com")
    assert caught.value.case == "HTTP-protocol-error"


def test_a_password_in_a_url_is_not_repeated() -> None:
    with pytest.raises(Failure) as caught:
        targets.parse_url("http://user:secret@example.com/")
    assert "secret" not in caught.value.text
    assert "authorization" in caught.value.text


def test_a_path_has_a_bound() -> None:
    assert targets.parse_path("/" + "a" * (16 * 1024 - 1))
    with pytest.raises(Failure) as caught:
        targets.parse_path("/" + "a" * 16 * 1024)
    assert caught.value.case == "HTTP-request-URI-too-long"


@given(st.text("ahtp:/.@[]%#?\\0123x7f- *", max_size=40).map("http://".__add__))
def test_any_url_that_is_read_comes_out_as_it_will_be_sent(url: str) -> None:
    try:
        target, path = targets.parse_url(url)
    except Failure:
        return
    again, path_again = targets.parse_url(f"{target}{path}" if path != "*" else str(target))
    assert again == target
    assert path in ("*", path_again)
    assert set(target.authority) <= set("abcdefghijklmnopqrstuvwxyz0123456789.-_:[]")
