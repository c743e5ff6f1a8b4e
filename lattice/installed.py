"""Which providers are installed: found by entry point, so that nobody has to import them."""

from importlib.metadata import EntryPoint, entry_points

PROVIDERS = "lattice.providers"
"""Group of the entry points that name provider classes."""


def provider(name: str) -> EntryPoint | None:
    """The entry point of a provider, which is not imported before it is loaded."""
    return next(iter(entry_points(group=PROVIDERS, name=name)), None)


def provider_names() -> list[str]:
    """The providers there are, sorted."""
    return sorted(entry.name for entry in entry_points(group=PROVIDERS))
