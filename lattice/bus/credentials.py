"""How to reach NATS, and what says who we are."""

import base64
import ssl
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import nkeys

from lattice import errors, names


@dataclass(frozen=True, slots=True, kw_only=True)
class NatsSettings:
    """How to reach NATS. Credentials never appear in a log line or an error text."""

    servers: tuple[str, ...] = field(default=(names.DEFAULT_NATS_URL,), repr=False)
    credentials_file: str | None = None
    user_jwt: str | None = field(default=None, repr=False)
    user_seed: str | None = field(default=None, repr=False)
    tls_ca_file: str | None = None
    replicas: int = 1
    """Servers that keep a copy of each bucket and object store that is made here."""

    @property
    def public_url(self) -> str:
        """The first server without user and password."""
        return without_credentials(self.servers[0])


def without_credentials(url: str) -> str:
    """A URL that may be shown."""
    scheme, _, address = url.rpartition("://")
    return f"{scheme or 'nats'}://{address.rpartition('@')[2]}"


def login_options(settings: NatsSettings) -> dict[str, Any]:
    """The options that say who we are.

    Raises:
        InvalidRequest: a file can't be read, or what is in it is not what it should be.
    """
    try:
        return _read_credentials(settings)
    except (OSError, ValueError, nkeys.NkeysError) as error:
        # The error's own words may repeat what it could not read.
        reason = error.strerror if isinstance(error, OSError) else type(error).__name__
        raise errors.InvalidRequest(f"the NATS credentials can't be used: {reason}") from None


def _read_credentials(settings: NatsSettings) -> dict[str, Any]:
    options: dict[str, Any] = {}
    if settings.credentials_file:
        # The client reads it again on each connection; what is wrong with it must show now.
        Path(settings.credentials_file).read_text(encoding="utf-8")
        options["user_credentials"] = settings.credentials_file
    elif settings.user_jwt and settings.user_seed:
        jwt, pair = (
            settings.user_jwt.encode(),
            nkeys.from_seed(bytearray(settings.user_seed.encode())),
        )
        options["user_jwt_cb"] = lambda: bytearray(jwt)
        options["signature_cb"] = lambda nonce: base64.b64encode(pair.sign(nonce.encode()))
    elif (login := _common_login(settings.servers)) is not None:
        # Also for servers that nobody named and the cluster told of.
        options["user"], options["password"] = login
    if settings.tls_ca_file:
        options["tls"] = ssl.create_default_context(cafile=settings.tls_ca_file)
    return options


def _common_login(servers: Iterable[str]) -> tuple[str, str] | None:
    """User and password, if every address carries the same."""
    logins = set()
    for server in servers:
        # What is no address is told when it is dialled.
        with suppress(ValueError):
            address = urlsplit(server if "://" in server else f"nats://{server}")
            logins.add((address.username, address.password))
    match list(logins):
        case [(str(user), str(password))]:
            return user, password
        case _:
            return None
