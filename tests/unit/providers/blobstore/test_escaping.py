"""Names as file systems, streams and buckets take them."""

import re
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from providers.blobstore.stores import escaping

WAYS = {
    "file": (escaping.file_name, escaping.from_file_name),
    "token": (escaping.token, escaping.from_token),
    "key": (escaping.key, escaping.from_key),
}
SAFE = {
    "file": re.compile(r"[A-Za-z0-9_%-][A-Za-z0-9._%-]*"),
    "token": re.compile(r"(?:[A-Za-z0-9-]|_[0-9A-F]{2})+"),
    # No segment is empty or begins with a dot, and XML can carry all of it.
    "key": re.compile(r"[^./\\\0-\x1f\x7f-\x9f\ufffe\uffff][^\\\0-\x1f\x7f-\x9f\ufffe\uffff]*"),
}

texts = st.text(
    st.characters(codec="utf-8") | st.sampled_from("./%_+\\\0 ż"), min_size=1, max_size=30
)


@pytest.mark.parametrize("way", WAYS)
@given(text=texts)
@example(text="..")
@example(text="/")
@example(text="\0")
@example(text="%2E")
def test_a_name_comes_back_and_is_safe(way: str, text: str) -> None:
    escape, unescape = WAYS[way]
    name = escape(text)
    assert unescape(name) == text
    assert SAFE[way].fullmatch(name)
    if way == "key":
        assert not re.search(r"(^|/)(\.|/|$)", name)


@pytest.mark.parametrize("way", WAYS)
@given(texts, texts)
def test_two_texts_have_two_names(way: str, one: str, other: str) -> None:
    escape, _ = WAYS[way]
    assert (escape(one) == escape(other)) == (one == other)


@pytest.mark.parametrize(
    ("unescape", "name"),
    [
        (escaping.from_file_name, "%61"),
        (escaping.from_file_name, "%2e"),
        (escaping.from_file_name, "%FF"),
        (escaping.from_file_name, "% 1"),
        (escaping.from_file_name, "a%"),
        (escaping.from_file_name, ".a"),
        (escaping.from_file_name, "a+"),
        (escaping.from_file_name, ""),
        (escaping.from_token, "a__b"),
        (escaping.from_token, "a.b"),
        (escaping.from_key, "a//b"),
        (escaping.from_key, "/a"),
        (escaping.from_key, "a/"),
        (escaping.from_key, "a/../b"),
    ],
)
def test_a_name_that_was_not_made_so_is_none_of_ours(
    unescape: Callable[[str], str | None], name: str
) -> None:
    assert not unescape(name)
