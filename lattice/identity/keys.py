"""nkeys: NATS's and wasmCloud's keys, base32 with a prefix that tells their kind.

A seed is the secret, ``S`` and its kind; the public key is what it is known by. All are Ed25519 and
sign, but a curve key, which is X25519 and only has a public key.
"""

import base64
import binascii
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from nacl import exceptions, public, signing

from lattice import errors
from lattice.names import HostId


class Kind(StrEnum):
    """Whose key it is; the value is the public key's first character."""

    ACCOUNT = "A"
    CLUSTER = "C"
    COMPONENT = "M"
    CURVE = "X"
    HOST = "N"
    OPERATOR = "O"
    PROVIDER = "V"
    USER = "U"

    @property
    def word(self) -> str:
        return self.name.lower()


KINDS: Mapping[str, Kind] = {
    **{kind.word: kind for kind in Kind},
    "module": Kind.COMPONENT,
    "server": Kind.HOST,
    "service": Kind.PROVIDER,
    "x25519": Kind.CURVE,
}
"""Kinds by the words for them, wasmCloud's and NATS's."""

_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"

# The first five bits of the encoded bytes are the character that tells the kind.
_PREFIX = {kind: _ALPHABET.index(kind) << 3 for kind in Kind}
_SEED_PREFIX = _ALPHABET.index("S") << 3
_KIND = {prefix: kind for kind, prefix in _PREFIX.items()}

_SECRET_BYTES = 32
_CHECKSUM_BYTES = 2

PUBLIC_CHARS = 56
SEED_CHARS = 58


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A public key that is one: its text, and what the text says."""

    text: str
    kind: Kind
    raw: bytes

    def verify(self, content: bytes, signature: bytes) -> bool:
        """Whether the owner of this key signed the content; a curve key signs nothing."""
        if self.kind is Kind.CURVE:
            return False
        try:
            signing.VerifyKey(self.raw).verify(content, signature)
        except (exceptions.CryptoError, ValueError):
            return False
        return True


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A seed and what follows from it; the secret is not part of its text form."""

    seed: str = field(repr=False)
    public_key: str
    kind: Kind
    _secret: bytes = field(repr=False)

    def sign(self, content: bytes) -> bytes:
        """A signature over the content.

        Raises:
            InvalidRequest: a curve key, which can't sign.
        """
        if self.kind is Kind.CURVE:
            raise errors.InvalidRequest(f"{self.public_key} is a curve key, which can't sign")
        return signing.SigningKey(self._secret).sign(content).signature


def new_seed(kind: Kind) -> str:
    """A fresh secret: ``S``, its kind, and 56 more characters."""
    prefix = _PREFIX[kind]
    # The kind's eight bits stand behind the five that say it is a seed.
    head = bytes([_SEED_PREFIX | prefix >> 5, prefix << 3 & 0xFF])
    return _encode(head + os.urandom(_SECRET_BYTES))


def new_host_seed() -> str:
    """A fresh seed of a host: a secret, ``SN`` and 56 more characters."""
    return new_seed(Kind.HOST)


def parse_seed(text: str, *, what: str = "seed") -> KeyPair:
    """Read a seed.

    Raises:
        InvalidRequest: not a seed; it is not repeated, for it may be a mistyped one.
    """
    try:
        raw = _decode(text, SEED_CHARS)
        kind = _KIND.get((raw[0] & 0b111) << 5 | raw[1] >> 3)
        if raw[0] & 0b11111000 != _SEED_PREFIX or kind is None or raw[1] & 0b111:
            raise ValueError("wrong prefix")
    except ValueError as error:
        raise errors.InvalidRequest(f"the {what} is not an nkey seed: {error}") from None
    secret = raw[2:]
    if kind is Kind.CURVE:
        key = bytes(public.PrivateKey(secret).public_key)
    else:
        key = bytes(signing.SigningKey(secret).verify_key)
    return KeyPair(text, _encode(bytes([_PREFIX[kind]]) + key), kind, secret)


def parse_public(text: str, *, what: str = "key") -> PublicKey:
    """Read a public key of any kind.

    Raises:
        InvalidRequest: not a public key.
    """
    # A seed in the wrong place must not end in a log.
    shown = "a seed" if text.startswith("S") else repr(text[:PUBLIC_CHARS])
    try:
        raw = _decode(text, PUBLIC_CHARS)
        kind = _KIND.get(raw[0])
        if kind is None:
            raise ValueError("wrong prefix")
    except ValueError as error:
        raise errors.InvalidRequest(f"the {what} {shown} is not a public nkey: {error}") from None
    return PublicKey(text, kind, raw[1:])


def host_id(seed: str) -> HostId:
    """The public key of a host's seed.

    Raises:
        InvalidRequest: not a seed, or not a host's; the seed itself is not repeated.
    """
    pair = parse_seed(seed, what="host seed")
    if pair.kind is not Kind.HOST:
        raise errors.InvalidRequest(
            f"the host seed is of kind {pair.kind}, want N (a server key, seed SN…)"
        )
    return HostId(pair.public_key)


def _encode(content: bytes) -> str:
    checksum = binascii.crc_hqx(content, 0).to_bytes(_CHECKSUM_BYTES, "little")
    return base64.b32encode(content + checksum).decode("ascii").rstrip("=")


def _decode(text: str, chars: int) -> bytes:
    """What an encoded key holds; the error says what is wrong, without the key."""
    if len(text) != chars:
        raise ValueError(f"{len(text)} characters, want {chars}")
    try:
        raw = base64.b32decode(text + "=" * (-chars % 8))
    except ValueError:
        raise ValueError("not base32") from None
    content, checksum = raw[:-_CHECKSUM_BYTES], raw[-_CHECKSUM_BYTES:]
    # A mistyped key would be somebody else's; the unused last bits must be as everybody has them.
    if binascii.crc_hqx(content, 0).to_bytes(_CHECKSUM_BYTES, "little") != checksum:
        raise ValueError("wrong checksum")
    if _encode(content) != text:
        raise ValueError("not in the one form that there is")
    return content
