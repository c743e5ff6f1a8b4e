"""Signed actors and providers for tests."""

import time
from dataclasses import dataclass, field
from typing import Any

from lattice import archives
from lattice.identity import claims, keys
from lattice.identity.claims import Claims
from lattice.identity.keys import Kind


def public_key(kind: Kind) -> str:
    """A key that nobody has the seed of any more."""
    return keys.parse_seed(keys.new_seed(kind)).public_key


@dataclass
class Author:
    """Somebody who signs."""

    seed: str = field(default_factory=lambda: keys.new_seed(Kind.ACCOUNT))

    @property
    def id(self) -> str:
        return keys.parse_seed(self.seed).public_key

    def sign(self, wasm: bytes, **facts: Any) -> bytes:
        """A module with claims that say these things of it."""
        about: dict[str, Any] = {
            "subject": public_key(Kind.COMPONENT),
            "issued_at": int(time.time()),
        } | facts
        return claims.sign_component(wasm, Claims(kind="component", **about), self.seed)

    def pack(self, program: bytes, **facts: Any) -> bytes:
        """A provider archive with a program for this machine."""
        about: dict[str, Any] = {
            "subject": public_key(Kind.PROVIDER),
            "issued_at": int(time.time()),
        } | facts
        described = Claims(kind="provider", vendor="tests", **about)
        return archives.create(described, {archives.this_machine(): program}, self.seed)


def forged(wasm: bytes) -> bytes:
    """A signed module with something added after it was signed."""
    # A custom section of one byte: its name is empty.
    return wasm + b"\x00\x01\x00"
