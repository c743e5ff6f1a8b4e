"""Names and ids: what may be said on the wire, checked once where it comes in."""

import re
from dataclasses import dataclass
from typing import NewType

from lattice import errors

LatticeName = NewType("LatticeName", str)
"""Name of a lattice; one NATS token."""
HostId = NewType("HostId", str)
"""Public nkey of a host: ``N`` and 55 more base32 characters (``wash`` parses it as such)."""
EntityId = NewType("EntityId", str)
"""Id of an actor or a provider, chosen by the operator; one NATS token."""
LinkName = NewType("LinkName", str)
"""Name of a link, unique for a source and an interface's package; most often ``default``."""

DEFAULT_LATTICE = LatticeName("default")
DEFAULT_NATS_URL = "nats://127.0.0.1:4222"
DEFAULT_LINK = LinkName("default")

NAME_CHARS_MAX = 128
"""Ids become NATS tokens and bucket names, which servers and file systems keep short."""

_TOKEN = re.compile(r"[A-Za-z0-9_-]+")
_INTERFACE = re.compile(
    r"(?P<namespace>[A-Za-z][A-Za-z0-9-]*):(?P<package>[A-Za-z0-9-]+(?::[A-Za-z0-9-]+)*)"
    r"(?:/(?P<name>[A-Za-z0-9-]+))?(?:@(?P<version>[0-9][0-9A-Za-z.+-]*))?"
)
_ALIAS = re.compile(r"[a-z][a-z0-9_]*(?:/[a-z0-9_]+)+")


def parse_lattice(text: str) -> LatticeName:
    return LatticeName(_token(text, "lattice name"))


def parse_entity(text: str) -> EntityId:
    return EntityId(_token(text, "id"))


def parse_link_name(text: str) -> LinkName:
    return LinkName(_token(text, "link name"))


def parse_host(text: str) -> HostId:
    """Check the shape of a host id; whether such a host exists is another question."""
    if len(text) != 56 or not text.startswith("N") or not _TOKEN.fullmatch(text):
        raise errors.InvalidRequest(f"{text!r} is not a host id (N and 55 more characters)")
    return HostId(text)


def parse_control_prefix(text: str) -> str:
    """The beginning of the control subjects: tokens joined by dots."""
    for token in text.split("."):
        _token(token, "token of a control topic prefix")
    return text


def parse_config_name(text: str) -> str:
    """A config's name is one NATS token and a valid key-value key, as in wasmCloud 1.x."""
    return _token(text, "config name")


def parse_app(text: str) -> str:
    """The name of an app is one NATS token, as in wadm."""
    return _token(text, "name of an app")


@dataclass(frozen=True, slots=True)
class Interface:
    """``namespace:package[/name][@version]``: a WIT interface, or a 0.x contract."""

    namespace: str
    package: str
    name: str | None = None
    version: str | None = None


def parse_interface(text: str) -> Interface:
    match = _INTERFACE.fullmatch(text)
    if match is None or len(text) > NAME_CHARS_MAX:
        raise errors.InvalidRequest(
            f"{text[:NAME_CHARS_MAX]!r} is not an interface: want ns:package[/name]"
        )
    return Interface(**match.groupdict())


def parse_call_alias(text: str) -> Interface:
    """What a link names that leads to the actor which others call ``wasmcloud/ponger``, as actors
    of 0.x do: the package ``wasmcloud:ponger``. An underscore is a hyphen there.
    """
    if len(text) > NAME_CHARS_MAX or not _ALIAS.fullmatch(text):
        raise errors.InvalidRequest(
            f"{text[:NAME_CHARS_MAX]!r} is not a call alias: want namespace/name of a-z 0-9 _"
        )
    return parse_interface(text.replace("/", ":").replace("_", "-"))


def _token(text: str, what: str) -> str:
    if len(text) > NAME_CHARS_MAX or not _TOKEN.fullmatch(text):
        raise errors.InvalidRequest(
            f"{text[:NAME_CHARS_MAX]!r} is no {what}: want 1 to {NAME_CHARS_MAX} of A-Z a-z 0-9 _ -"
        )
    return text
