"""Whose code this host runs: the claims in modules and provider archives, checked before a start.

Anything runs, signed or not, until the operator names the issuers that are trusted. A signature
that is there must be right in any case, as in wasmCloud 1.x.
"""

import asyncio
import time
from typing import Any

from lattice.identity import claims as identity
from lattice.identity.claims import Claims
from lattice.wire.control import StoredClaims

WASM = b"\0asm"
"""How every module and component begins."""


class Trust:
    """One host's judgement of what is to be started."""

    def __init__(self, issuers: frozenset[str]) -> None:
        """``issuers``: public keys of accounts; empty means that everybody is trusted."""
        self._issuers = issuers

    async def admit_module(self, wasm: bytes) -> Claims | None:
        """The claims in a module; None when it has none and needs none.

        Raises:
            Denied: forged, expired, not valid yet, or of an issuer that is not trusted.
            InvalidRequest: what it has is no claims.
        """
        claims = None
        # Of anything else the engine says better what is wrong with it.
        if wasm.startswith(WASM):
            # The hash of a large module takes long enough to be felt by running calls.
            claims = await asyncio.to_thread(identity.component_claims, wasm)
        self.admit(claims)
        return claims

    def admit(self, claims: Claims | None) -> None:
        """Check claims whose signature is known to be right.

        Raises:
            Denied: as ``admit_module``.
        """
        if claims is not None:
            identity.check_now(claims, time.time())
        identity.check_issuer(claims, self._issuers)


def stored(claims: Claims) -> StoredClaims:
    """The claims as the lattice keeps them."""
    component = claims.kind == "component"
    return StoredClaims(
        kind="component" if component else "provider",
        call_alias=claims.call_alias or "",
        issuer=claims.issuer,
        name=claims.name or "",
        revision=str(claims.revision or 0),
        subject=claims.subject,
        tags=list(claims.tags or ()),
        version=claims.version or "",
        config_schema=claims.config_schema,
    )


def module_facts(claims: Claims | None) -> dict[str, Any]:
    """What events about a module say of its claims; wasmCloud's fields, null where unknown."""
    if claims is None:
        return {}
    return {
        "public_key": claims.subject,
        "claims": {
            "call_alias": claims.call_alias,
            "issuer": claims.issuer,
            "tags": None if claims.tags is None else list(claims.tags),
            "name": claims.name,
            "version": claims.version,
            "revision": claims.revision,
            **_validity(claims),
        },
    }


def provider_facts(claims: Claims | None, provider_id: str) -> dict[str, Any]:
    """What ``provider_started`` says more of a signed provider; wasmCloud's fields."""
    if claims is None:
        return {}
    return {
        "claims": {
            "issuer": claims.issuer,
            "tags": None,
            "name": claims.name,
            "version": claims.version,
            **_validity(claims),
        },
        "instance_id": provider_id,
        "public_key": provider_id,
        "link_name": "default",
    }


def _validity(claims: Claims) -> dict[str, str]:
    """Seconds since 1970 as text, whatever wasmCloud's names for them promise."""
    return {
        "not_before_human": _moment(claims.not_before),
        "expires_human": _moment(claims.expires),
    }


def _moment(seconds: int | None) -> str:
    return "never" if seconds is None else str(seconds)
