"""What a provider's author imports: the contract of a provider, and what it is given.

A provider is one class. It runs as a process of its own (``lattice+process://NAME``) or inside a
host (``lattice+builtin://NAME``), and can't tell the difference.
"""

from lattice.wire.invocation import Reply
from lattice.wire.provider import Health
from lattice.wire.provider import ResolvedLink as Link
from providers.sdk.linked import LinkedProvider
from providers.sdk.provider import Call, Context, Provider

__all__ = ["Call", "Context", "Health", "Link", "LinkedProvider", "Provider", "Reply"]
