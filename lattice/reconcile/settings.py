"""What an operator may set on a reconciler that runs alone; a host has its own settings."""

import socket

from pydantic import Field

from lattice import names
from lattice.settings import MemberSettings


class ReconcilerSettings(MemberSettings):
    """Nothing but what every program has, and a name."""

    name: str = Field(
        default_factory=lambda: f"reconciler-{socket.gethostname()}"[: names.NAME_CHARS_MAX],
        max_length=names.NAME_CHARS_MAX,
    )
    """Shown where people look."""
