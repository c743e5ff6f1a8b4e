"""Names of containers and objects as file systems, streams and buckets take them.

Any text becomes a name that is safe there, readable where it can be, and another one for each text.
What was not made so reads as None: files and objects of others, which are none of ours.
"""

import string
from collections.abc import Callable

PLAIN = frozenset(string.ascii_letters + string.digits)


def file_name(text: str) -> str:
    """One path component, however long; never one that begins with a dot or has a plus sign."""
    escaped = _escaped(text, "%", PLAIN | frozenset("-_."))
    return f"%2E{escaped[1:]}" if escaped.startswith(".") else escaped


def from_file_name(name: str) -> str | None:
    """The text that ``file_name`` was given."""
    return _checked(name, _unescaped(name, "%"), file_name)


def token(text: str) -> str:
    """Letters, digits, hyphens and underscores; two underscores never stand together."""
    return _escaped(text, "_", PLAIN | frozenset("-"))


def from_token(name: str) -> str | None:
    """The text that ``token`` was given."""
    return _checked(name, _unescaped(name, "_"), token)


def key(text: str) -> str:
    """A key of S3, with the slashes of the text as its own.

    A segment that is empty or begins with a dot is escaped, as servers and clients take such for
    something else, and so are control characters, which XML can't carry.
    """
    return "/".join(map(_key_segment, text.split("/")))


def from_key(name: str) -> str | None:
    """The text that ``key`` was given."""
    segments = []
    for segment in name.split("/"):
        text = "" if segment == "%" else _unescaped(segment, "%")
        if text is None:
            return None
        segments.append(text)
    return _checked(name, "/".join(segments), key)


def _key_segment(text: str) -> str:
    escaped = "".join(char if _is_plain_in_keys(char) else _hex(char, "%") for char in text)
    if escaped.startswith("."):
        return f"%2E{escaped[1:]}"
    return escaped or "%"


def _is_plain_in_keys(char: str) -> bool:
    code = ord(char)
    if code < 0x80:
        return 0x20 <= code < 0x7F and char not in "%\\"
    return 0xA0 <= code < 0xFFFE or code >= 0x10000


def _escaped(text: str, mark: str, plain: frozenset[str]) -> str:
    return "".join(char if char in plain else _hex(char, mark) for char in text)


def _hex(char: str, mark: str) -> str:
    return "".join(f"{mark}{byte:02X}" for byte in char.encode())


def _unescaped(name: str, mark: str) -> str | None:
    first, *rest = name.split(mark)
    try:
        parts = [bytes.fromhex(part[:2]) + part[2:].encode() for part in rest]
        return (first.encode() + b"".join(parts)).decode()
    except ValueError:
        return None


def _checked(name: str, text: str | None, escape: Callable[[str], str]) -> str | None:
    """Other names may read as the same text; only one is its own."""
    return text if text is not None and escape(text) == name else None
