"""Claims: what the author of an actor or a provider says of it, signed, in wasmCloud's form.

A token is a JWT whose issuer and subject are nkeys and whose signature is the issuer's. A module
carries its token in a custom section; the token has the hash of the module without it, so that
neither fits another. A provider's token stands in its archive (``lattice.archives``).

A signature proves who speaks, not that they may: whose word counts is ``check_issuer``.
"""

import base64
import hashlib
import json
import re
import secrets
import string
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from lattice import errors, limits
from lattice.identity import keys, sections
from lattice.identity.keys import Kind

SECTION = "wasmcloud_jwt"
LEGACY_SECTION = "jwt"
"""Where wascap before 0.9 put the token."""

SECTIONS = frozenset({SECTION, LEGACY_SECTION})

REVISION = 3
"""``wascap_revision`` of what we sign, and the first whose hash is of what we hash."""

TOKEN_BYTES_MAX = 256 * limits.KIB
"""A token is a few hundred bytes; one with the schema of a provider's configuration is more."""

NAME_CHARS_SHOWN = 100
"""How much of a name stands in an error: a stranger chose it."""

ID_CHARS = 22
"""Length of a token's own id, as in NATS's nuid."""

_HEADER = {"typ": "jwt", "alg": "Ed25519"}
_SEGMENT = re.compile(r"[A-Za-z0-9_-]*")
_ID_ALPHABET = string.ascii_letters + string.digits
_ALIAS = re.compile(r"[a-z0-9_/]+")

KINDS = frozenset(kind.word for kind in Kind) - {Kind.CURVE.word, Kind.USER.word}
"""What claims are made about, by the kind of the subject's key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """What a token says. Times are seconds since 1970."""

    kind: str
    """``component``, ``provider``, ``account``, ``operator``, ``cluster`` or ``host``."""
    subject: str
    """Public key of what it is about."""
    issuer: str = ""
    """Public key of who signed it; an account's, by convention."""
    name: str | None = None
    revision: int | None = None
    version: str | None = None
    tags: tuple[str, ...] | None = None
    call_alias: str | None = None
    vendor: str | None = None
    issued_at: int = 0
    not_before: int | None = None
    expires: int | None = None
    jti: str = ""
    """The token's own id."""
    hash: str | None = None
    """Of a component: SHA-256 of the module without its token, in upper-case hex."""
    target_hashes: Mapping[str, str] = field(default_factory=dict)
    """Of a provider: SHA-256 of the files in its archive, by ``{arch}-{os}`` or file name."""
    config_schema: str | None = None
    """Of a provider: the JSON schema of its links' configuration, as text."""
    valid_signers: tuple[str, ...] = ()
    """Of an account, operator or cluster: further public keys that sign for it."""
    wascap_revision: int = 0
    """What wrote the token; 0 where it does not say."""
    covers_content: bool = False
    """Whether it came with the very bytes that its hash is of."""
    token: str = ""
    """The JWT itself."""


def sign(claims: Claims, issuer_seed: str) -> Claims:
    """The claims with a token, signed by the owner of the seed, who becomes their issuer.

    Raises:
        InvalidRequest: the seed or the subject is no nkey of a fitting kind, or a value of the
            claims is out of range.
    """
    issuer = keys.parse_seed(issuer_seed, what="issuer's seed")
    claims = replace(
        claims,
        issuer=issuer.public_key,
        jti=claims.jti or "".join(secrets.choice(_ID_ALPHABET) for _ in range(ID_CHARS)),
        wascap_revision=REVISION,
        covers_content=False,
    )
    content = f"{_segment(_HEADER)}.{_segment(_encoded(claims))}"
    signature = issuer.sign(content.encode())
    # Whatever we sign we must be able to read.
    return decode_and_verify(f"{content}.{_base64(signature)}")


def decode_and_verify(token: str) -> Claims:
    """Read a token and check its signature; neither its times nor its issuer's standing.

    Raises:
        InvalidRequest: not a token of claims.
        Denied: the signature is not the issuer's.
    """
    if len(token) > TOKEN_BYTES_MAX:
        raise errors.PayloadTooLarge("the token", len(token), TOKEN_BYTES_MAX)
    segments = token.split(".")
    if len(segments) != 3:
        raise _malformed(f"{len(segments)} segments, want 3")
    header, body = (_read(segment) for segment in segments[:2])
    if not isinstance(header, dict) or any(header.get(k) != v for k, v in _HEADER.items()):
        raise _malformed("the header is not of a JWT signed with Ed25519")
    try:
        wire = _Token.model_validate(body)
        issuer = keys.parse_public(wire.iss, what="issuer")
        claims = _decoded(wire, token)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise _malformed(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    if not issuer.verify(f"{segments[0]}.{segments[1]}".encode(), _bytes(segments[2])):
        raise errors.Denied(f"the claims of {claims.subject} are forged: not signed by {wire.iss}")
    return claims


def content_hash(wasm: bytes) -> str:
    """The hash of a module or component as it is without its token.

    Raises:
        InvalidRequest: not WebAssembly.
    """
    return hash_of(sections.strip(wasm, SECTIONS))


def hash_of(content: bytes) -> str:
    """SHA-256 as claims spell it."""
    return hashlib.sha256(content).hexdigest().upper()


def embed(wasm: bytes, token: str) -> bytes:
    """The module with this token, instead of those that it had.

    Raises:
        InvalidRequest: not WebAssembly.
    """
    return sections.append(sections.strip(wasm, SECTIONS), SECTION, token.encode())


def embedded(wasm: bytes) -> str | None:
    """The token in a module, unchecked; None when there is none.

    Raises:
        InvalidRequest: not WebAssembly, or what should be a token is not even text.
    """
    for name, content in sections.custom(wasm):
        if name in SECTIONS:
            try:
                return content.decode("ascii")
            except UnicodeDecodeError:
                raise _malformed("not text") from None
    return None


def sign_component(wasm: bytes, claims: Claims, issuer_seed: str) -> bytes:
    """The module with a token that has these claims and the module's hash.

    Raises:
        InvalidRequest: as ``sign``; or not WebAssembly.
    """
    stripped = sections.strip(wasm, SECTIONS)
    signed = sign(replace(claims, hash=hash_of(stripped)), issuer_seed)
    return sections.append(stripped, SECTION, signed.token.encode())


def component_claims(wasm: bytes) -> Claims | None:
    """The claims in a module, with signature and hash verified; None when it is not signed.

    Tokens of wascap before revision 3 have another hash, or none that means anything; they are
    taken as wasmCloud takes them, and ``covers_content`` says so.

    Raises:
        InvalidRequest: not WebAssembly, or not a token of claims about a component.
        Denied: the signature or the hash is wrong.
    """
    token = embedded(wasm)
    if token is None:
        return None
    claims = decode_and_verify(token)
    if claims.kind != Kind.COMPONENT.word:
        raise _malformed(f"it is about a {claims.kind}, but stands in a module")
    if claims.hash == content_hash(wasm):
        return replace(claims, covers_content=True)
    if claims.wascap_revision < REVISION:
        return claims
    raise errors.Denied(
        f"the module was changed after {claims.issuer} signed it: the hash in its claims is of"
        " something else"
    )


def check_now(claims: Claims, now: float) -> None:
    """Check that claims hold at this time, in seconds since 1970.

    Raises:
        Denied: they have expired, or are not valid yet.
    """
    what = f"the claims of {_who(claims)}"
    if claims.expires is not None and claims.expires < now:
        raise errors.Denied(f"{what} expired on {moment(claims.expires)}; sign it again")
    if claims.not_before is not None and claims.not_before > now:
        raise errors.Denied(f"{what} are not valid before {moment(claims.not_before)}")


def check_issuer(claims: Claims | None, trusted: frozenset[str]) -> None:
    """Check that somebody trusted signed; when nobody is named, everybody is trusted.

    Raises:
        Denied: not signed, signed by somebody else, or signed in a way that proves nothing about
            the bytes it came with.
    """
    if not trusted:
        return
    if claims is None:
        raise errors.Denied(
            "it is not signed, and this host runs only what a trusted issuer signed; sign an actor"
            " with: lattice claims sign, a provider with: lattice par create"
        )
    if claims.issuer not in trusted:
        raise errors.Denied(
            f"{_who(claims)} is signed by {claims.issuer}, whom this host does not"
            " trust; add the issuer to its LATTICE_TRUSTED_ISSUERS, or sign it with a trusted key"
        )
    if not claims.covers_content:
        raise errors.Denied(
            f"the claims of {_who(claims)} are of wascap revision"
            f" {claims.wascap_revision}, whose hash can't be checked; sign it again with:"
            " lattice claims sign FILE"
        )


def check_call_alias(alias: str) -> str:
    """Check a name by which an actor wants to be called, after wasmCloud's rules.

    Raises:
        InvalidRequest: not lower-case letters, digits, underscores and slashes.
    """
    if not _ALIAS.fullmatch(alias):
        raise errors.InvalidRequest(
            f"call alias {alias[:100]!r} may have only lower-case letters, digits, _ and /"
        )
    return alias


def moment(seconds: int) -> str:
    """A time for people, UTC."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ValueError, OverflowError, OSError):
        return f"second {seconds} after 1970"


_Text = Annotated[str, StringConstraints(max_length=TOKEN_BYTES_MAX)]
_Seconds = Annotated[int, Field(ge=0, lt=1 << 64)]
_Revision = Annotated[int, Field(ge=-(1 << 31), lt=1 << 31)]


class _Wire(BaseModel):
    model_config = ConfigDict(defer_build=True, extra="ignore", frozen=True, strict=True)


class _Component(_Wire):
    name: _Text | None = None
    hash: _Text
    tags: list[_Text] | None = None
    rev: _Revision | None = None
    ver: _Text | None = None
    call_alias: _Text | None = None


class _Provider(_Wire):
    name: _Text | None = None
    vendor: _Text
    rev: _Revision | None = None
    ver: _Text | None = None
    target_hashes: dict[str, _Text]
    config_schema: Any = None


class _Other(_Wire):
    name: _Text | None = None
    valid_signers: list[_Text] | None = None


class _Token(_Wire):
    exp: _Seconds | None = None
    jti: _Text
    iat: _Seconds
    iss: _Text
    sub: _Text
    nbf: _Seconds | None = None
    wascap: dict[str, Any]
    wascap_revision: Annotated[int, Field(ge=0, lt=1 << 32)] | None = None


def _who(claims: Claims) -> str:
    return (claims.name or claims.subject)[:NAME_CHARS_SHOWN]


def _decoded(wire: _Token, token: str) -> Claims:
    kind = keys.parse_public(wire.sub, what="subject").kind.word
    if kind not in KINDS:
        raise _malformed(f"it is about a {kind}")
    claims = Claims(
        kind=kind,
        subject=wire.sub,
        issuer=wire.iss,
        issued_at=wire.iat,
        not_before=wire.nbf,
        expires=wire.exp,
        jti=wire.jti,
        wascap_revision=wire.wascap_revision or 0,
        token=token,
    )
    match kind:
        case Kind.COMPONENT.word:
            component = _Component.model_validate(wire.wascap)
            return replace(
                claims,
                name=component.name,
                revision=component.rev,
                version=component.ver,
                tags=None if component.tags is None else tuple(component.tags),
                call_alias=component.call_alias,
                hash=component.hash,
            )
        case Kind.PROVIDER.word:
            provider = _Provider.model_validate(wire.wascap)
            schema = provider.config_schema
            return replace(
                claims,
                name=provider.name,
                revision=provider.rev,
                version=provider.ver,
                vendor=provider.vendor,
                target_hashes=provider.target_hashes,
                config_schema=None if schema is None else _compact(schema),
            )
        case _:
            other = _Other.model_validate(wire.wascap)
            return replace(claims, name=other.name, valid_signers=tuple(other.valid_signers or ()))


def _encoded(claims: Claims) -> dict[str, Any]:
    """The claims as wascap orders and omits them."""
    fields = {
        "exp": claims.expires,
        "jti": claims.jti,
        "iat": claims.issued_at,
        "iss": claims.issuer,
        "sub": claims.subject,
        "nbf": claims.not_before,
        "wascap": _metadata(claims),
        "wascap_revision": claims.wascap_revision,
    }
    return _present(fields)


def _metadata(claims: Claims) -> dict[str, Any]:
    match claims.kind:
        case Kind.COMPONENT.word:
            fields: dict[str, Any] = {
                "name": claims.name,
                "hash": claims.hash or "",
                "tags": None if claims.tags is None else list(claims.tags),
                "rev": claims.revision,
                "ver": claims.version,
                "call_alias": claims.call_alias,
                "prov": False,
            }
            return _present(fields)
        case Kind.PROVIDER.word:
            schema = claims.config_schema
            fields = {
                "vendor": claims.vendor or "",
                "rev": claims.revision,
                "ver": claims.version,
                "target_hashes": dict(claims.target_hashes),
                "config_schema": None if schema is None else json.loads(schema),
            }
            return {"name": claims.name} | _present(fields)
        case Kind.HOST.word:
            return {"name": claims.name}
        case _:
            return {"name": claims.name, "valid_signers": list(claims.valid_signers)}


def _present(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value is not None}


def _segment(value: Mapping[str, Any]) -> str:
    return _base64(_compact(value).encode())


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _base64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode("ascii").rstrip("=")


def _bytes(segment: str) -> bytes:
    # The decoder would skip what it does not know.
    if not _SEGMENT.fullmatch(segment):
        raise _malformed("not base64")
    try:
        return base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
    except ValueError:
        raise _malformed("not base64") from None


def _read(segment: str) -> object:
    try:
        value: object = json.loads(_bytes(segment), parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise _malformed("not JSON") from None
    return value


def _no_number(text: str) -> None:
    raise ValueError(text)


def _malformed(why: str) -> errors.InvalidRequest:
    return errors.InvalidRequest(f"the token of its claims is malformed: {why}")
