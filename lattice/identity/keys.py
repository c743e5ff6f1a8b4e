"""nkeys: NATS's and wasmCloud's public keys, base32 with a prefix that tells their kind."""

import os

import nkeys

from lattice import errors
from lattice.names import HostId


def new_host_seed() -> str:
    """A fresh seed of a host: a secret, ``SN`` and 56 more characters."""
    return str(nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_SERVER), "ascii")


def host_id(seed: str) -> HostId:
    """The public key of a host's seed.

    Raises:
        InvalidRequest: not a seed, or not a host's; the seed itself is not repeated.
    """
    try:
        kind, secret = nkeys.decode_seed(seed.encode())
        # The library does not look at the checksum, and a mistyped seed would be another host's.
        if nkeys.encode_seed(bytes(secret), kind) != seed.encode():
            raise ValueError("wrong checksum")
        public = str(nkeys.from_seed(bytearray(seed.encode())).public_key, "ascii")
    except (nkeys.NkeysError, ValueError) as error:
        raise errors.InvalidRequest(f"the host seed is not an nkey seed: {error}") from None
    if not public.startswith("N"):
        raise errors.InvalidRequest(
            f"the host seed is of kind {public[0]}, want N (a server key, seed SN…)"
        )
    return HostId(public)
