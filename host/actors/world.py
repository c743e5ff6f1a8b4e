"""What an actor finds through WASI: what its configs ask for, as far as its host allows.

A directory is the host operator's to give (``HostSettings.preopen``), under a name; an actor's
config says by that name where the actor finds it. Neither can do without the other.
"""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from host.engine import Directory, World
from lattice import errors, limits

PREOPEN, ARGUMENTS, VARIABLE = "wasi.preopen.", "wasi.args", "wasi.env."
"""Keys, or their beginnings, in an actor's configs."""

WRITABLE = ":rw"
"""Behind a name or a path: it may be written to. Without it nothing can be changed."""

DIRECTORIES_MAX = 16
"""Directories of one actor: each is a descriptor of every call that uses files."""

STRINGS_BYTES_MAX = 64 * limits.KIB
"""Arguments and variables together: they are copied into every instance that asks for them."""


@dataclass(frozen=True, slots=True)
class Allowed:
    """A directory that actors on this host may be given."""

    path: Path
    writable: bool


def parse_allowed(text: str) -> dict[str, Allowed]:
    """Read ``name=/path,name=/path:rw``.

    Raises:
        InvalidRequest: it is not of that form.
    """
    allowed: dict[str, Allowed] = {}
    for part in filter(None, (each.strip() for each in text.split(","))):
        name, _, path = part.partition("=")
        writable = path.endswith(WRITABLE)
        path = path.removesuffix(WRITABLE)
        if not name or ":" in name or not path.startswith("/") or name in allowed:
            raise errors.InvalidRequest(
                f"{part}: want different names and absolute paths, NAME=/PATH or NAME=/PATH:rw"
            )
        allowed[name] = Allowed(Path(path), writable)
    return allowed


def world_of(config: Mapping[str, str], allowed: Mapping[str, Allowed]) -> World:
    """Put together what an actor with this config finds.

    Raises:
        InvalidRequest: a key or value makes no sense, or there is too much of it.
        Denied: the host's operator did not allow a directory, or not to write to it.
    """
    directories = tuple(
        _directory(key.removeprefix(PREOPEN), value, allowed)
        for key, value in config.items()
        if key.startswith(PREOPEN)
    )
    if len(directories) > DIRECTORIES_MAX:
        raise errors.InvalidRequest(
            f"{len(directories)} directories are preopened, over the limit of {DIRECTORIES_MAX}"
        )
    try:
        arguments = tuple(each.encode() for each in shlex.split(config.get(ARGUMENTS, "")))
    except ValueError as error:
        raise errors.InvalidRequest(f"{ARGUMENTS}: {error}") from None
    variables = {
        key.removeprefix(VARIABLE): value
        for key, value in config.items()
        if key.startswith(VARIABLE)
    }
    if wrong := [name for name in variables if not name or "=" in name]:
        raise errors.InvalidRequest(f"{VARIABLE}{wrong[0]}: want a variable's name")
    environment = tuple(f"{name}={value}".encode() for name, value in variables.items())
    strings = (*arguments, *environment)
    if any(b"\0" in each for each in strings):
        raise errors.InvalidRequest("a zero byte in an argument or a variable")
    if (size := sum(len(each) + 1 for each in strings)) > STRINGS_BYTES_MAX:
        raise errors.InvalidRequest(
            f"arguments and variables have {size} bytes, over the limit of {STRINGS_BYTES_MAX}"
        )
    return World(arguments=arguments, environment=environment, directories=directories)


def _directory(guest_path: str, value: str, allowed: Mapping[str, Allowed]) -> Directory:
    if not guest_path.startswith("/") or "\0" in guest_path:
        raise errors.InvalidRequest(
            f"{PREOPEN}{guest_path}: want an absolute path, as in {PREOPEN}/data"
        )
    name = value.removesuffix(WRITABLE)
    writable = value.endswith(WRITABLE)
    if (found := allowed.get(name)) is None:
        raise errors.Denied(
            f"no directory {name!r} is open to actors on this host; "
            f"its operator can allow it: LATTICE_PREOPEN={name}=/PATH"
        )
    if writable and not found.writable:
        raise errors.Denied(
            f"the directory {name!r} is read-only on this host; its operator can allow writing: "
            f"LATTICE_PREOPEN={name}={found.path}{WRITABLE}"
        )
    return Directory(guest_path=guest_path, host_path=found.path, writable=writable)
