"""Which providers are installed: found by entry point, so that nobody has to import them."""

import re
from importlib.metadata import EntryPoint, entry_points

PROVIDERS = "lattice.providers"
"""Group of the entry points that name provider classes."""

INSIDE = "lattice+builtin://"
"""Scheme of a reference to a provider that runs inside its host."""

_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")


def provider(name: str) -> EntryPoint | None:
    """The entry point of a provider, which is not imported before it is loaded."""
    return next(iter(entry_points(group=PROVIDERS, name=name)), None)


def provider_names() -> list[str]:
    """The providers there are, sorted."""
    return sorted(entry.name for entry in entry_points(group=PROVIDERS))


def reference(text: str) -> str:
    """A provider's reference; a bare name means the provider of that name inside the host."""
    return INSIDE + text if _NAME.fullmatch(text) else text
