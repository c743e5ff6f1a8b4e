"""A nats-server with a configuration of the test's own: users, permissions, no JetStream."""

import base64
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import nkeys

from lattice.aio import processes
from lattice.bus import server


@asynccontextmanager
async def configured_nats(
    workspace: Path, configuration: str = "", *, port: int = -1
) -> AsyncIterator[str]:
    """URL of a server on the loopback interface; it is gone when the context ends."""
    config = workspace / "nats.conf"
    config.write_text(
        f'host: 127.0.0.1\nport: {port}\nports_file_dir: "{workspace}"\n{configuration}\n'
    )
    with (workspace / "nats.log").open("wb") as output:
        process = await processes.spawn(
            server.find_binary(), "--config", str(config), output=output
        )
    try:
        yield await server._wait_url(process, workspace)
    finally:
        await processes.end(process, grace_s=5)


class Account:
    """An operator, an account and a user, as NATS's own tools would make them."""

    def __init__(self) -> None:
        operator, account, user = (
            _seed(kind)
            for kind in (
                nkeys.PREFIX_BYTE_OPERATOR,
                nkeys.PREFIX_BYTE_ACCOUNT,
                nkeys.PREFIX_BYTE_USER,
            )
        )
        unlimited = dict.fromkeys(
            ("subs", "data", "payload", "imports", "exports", "conn", "leaf"), -1
        )
        operator_jwt = _jwt(operator, operator, {"type": "operator"})
        account_jwt = _jwt(
            operator,
            account,
            {"type": "account", "limits": unlimited | {"wildcards": True}},
        )
        self.user_seed = user
        self.user_jwt = _jwt(
            account,
            user,
            {"type": "user", "pub": {}, "sub": {}, "subs": -1, "data": -1, "payload": -1},
        )
        self.configuration = (
            f"operator: {operator_jwt}\nresolver: MEMORY\n"
            f"resolver_preload: {{ {_public(account)}: {account_jwt} }}"
        )

    @property
    def credentials(self) -> str:
        """What stands in a credentials file."""
        return (
            f"-----BEGIN NATS USER JWT-----\n{self.user_jwt}\n------END NATS USER JWT------\n\n"
            f"-----BEGIN USER NKEY SEED-----\n{self.user_seed}\n------END USER NKEY SEED------\n"
        )


def _seed(kind: int) -> str:
    return str(nkeys.encode_seed(os.urandom(32), kind), "ascii")


def _public(seed: str) -> str:
    return str(nkeys.from_seed(bytearray(seed.encode())).public_key, "ascii")


def _jwt(issuer_seed: str, subject_seed: str, claims: dict[str, Any]) -> str:
    header = {"typ": "JWT", "alg": "ed25519-nkey"}
    body = {
        "jti": "TEST",
        "iat": 1_700_000_000,
        "iss": _public(issuer_seed),
        "sub": _public(subject_seed),
        "name": "test",
        "nats": claims | {"version": 2},
    }
    signed = ".".join(_base64(json.dumps(part).encode()) for part in (header, body))
    issuer = nkeys.from_seed(bytearray(issuer_seed.encode()))
    return f"{signed}.{_base64(issuer.sign(signed.encode()))}"


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
