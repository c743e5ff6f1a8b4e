"""Named connections, one JSON file each, so that nobody types an address twice.

They live in ``$LATTICE_HOME/contexts``, ``~/.lattice/contexts`` unless it is set; which of them is
meant when none is named stands beside it, in ``default-context``.
"""

import os
import re
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lattice import errors, limits
from lattice.cli import files

CONTEXT_BYTES_MAX = 64 * limits.KIB
"""Largest file that is taken for a context; one has a few hundred bytes."""

NAME_CHARS_MAX = 128
"""Longest name of a context: it becomes a file's."""

TIMEOUT_MS_MAX = int(limits.CALL_TIMEOUT_S_MAX * 1000)

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")


class Context(BaseModel):
    """How to reach one lattice; what is absent is what it is without a context."""

    model_config = ConfigDict(defer_build=True, extra="ignore", frozen=True)

    nats_url: str | None = None
    """NATS servers, separated by commas."""
    lattice: str | None = None
    credentials: str | None = None
    """Path of a NATS credentials file."""
    timeout_ms: int | None = Field(default=None, ge=1, le=TIMEOUT_MS_MAX)


class NoContext(errors.NotFound):
    """There is no context of that name."""

    remedy = "see which there are with: lattice ctx list"


def chosen(name: str | None) -> Context:
    """The context that is named, or else the default one, or else one that says nothing.

    Raises:
        NotFound: there is no such context.
        InvalidRequest: its file is no context.
    """
    if (name := name or default_name()) is None:
        return Context()
    return load(name)


def load(name: str) -> Context:
    """Read a context.

    Raises:
        NotFound: there is none of that name.
        InvalidRequest: not a name for one, or its file is none; the text says where it is wrong.
    """
    file = path(name)
    try:
        content = read(file)
    except FileNotFoundError:
        raise NoContext(f"there is no context {name!r} in {file.parent}") from None
    try:
        return Context.model_validate_json(content)
    except ValidationError as error:
        raise errors.InvalidRequest(f"{file} is no context: {first_fault(error)}") from None


def save(name: str, context: Context) -> None:
    """Store a context, replacing one of that name.

    Raises:
        InvalidRequest: not a name for one, what it says is not text, or the directory can't be
            written.
    """
    try:
        text = context.model_dump_json(indent=2, exclude_none=True)
    except ValueError:
        raise errors.InvalidRequest(f"context {name}: what it says must be UTF-8") from None
    _write(path(name), f"{text}\n")


def delete(name: str) -> None:
    """Delete a context; if it is the default one, there is no default any more.

    Raises:
        NotFound: there is none of that name.
        InvalidRequest: not a name for one, or the directory can't be written.
    """
    file = path(name)
    try:
        file.unlink()
    except FileNotFoundError:
        raise NoContext(f"there is no context {name!r} in {file.parent}") from None
    except OSError as error:
        raise errors.InvalidRequest(f"can't delete {file}: {error.strerror}") from error
    if default_name() == name:
        set_default(None)


def all_names() -> list[str]:
    """Every context there is, sorted."""
    return _names_in(_home() / "contexts")


def beginning_with(incomplete: str) -> list[str]:
    """The contexts whose names begin so: for completion in a shell."""
    return [name for name in all_names() if name.startswith(incomplete)]


def wash_names() -> list[str]:
    """The contexts that wasmCloud's ``wash`` keeps for this user, sorted."""
    return [name for name in _names_in(_wash_contexts()) if name != "index"]


def default_name() -> str | None:
    """The context that is meant when none is named."""
    try:
        return read(_default_file()).decode().strip() or None
    except (OSError, ValueError, errors.PayloadTooLarge):
        # Without a home directory to look into there is no default.
        return None


def set_default(name: str | None) -> None:
    """Say which context is meant when none is named.

    Raises:
        NotFound: there is none of that name.
        InvalidRequest: not a name for one, or the directory can't be written.
    """
    if name is None:
        _default_file().unlink(missing_ok=True)
        return
    if not path(name).is_file():
        raise NoContext(f"there is no context {name!r} in {path(name).parent}")
    _write(_default_file(), f"{name}\n")


def path(name: str) -> Path:
    """Where a context is stored.

    Raises:
        InvalidRequest: not a name for one.
    """
    if not _NAME.fullmatch(name) or len(name) > NAME_CHARS_MAX:
        raise errors.InvalidRequest(
            f"{name[:NAME_CHARS_MAX]!r} is not a name for a context: want letters, digits, - _ ."
        )
    return _home() / "contexts" / f"{name}.json"


def wash_file(text: str) -> Path:
    """The file of a context of ``wash``: a path, or the name of one it keeps for this user."""
    given = files.named(text)
    return given if files.is_file(given) else _wash_contexts() / f"{text}.json"


def read(file: Path) -> bytes:
    """A small file's content.

    Raises:
        OSError: it can't be read.
        PayloadTooLarge: it is no small file.
    """
    with file.open("rb") as stream:
        content = stream.read(CONTEXT_BYTES_MAX + 1)
    if len(content) > CONTEXT_BYTES_MAX:
        raise errors.PayloadTooLarge(str(file), len(content), CONTEXT_BYTES_MAX)
    return content


def first_fault(error: ValidationError) -> str:
    """Where a value is wrong and how."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    return f"{'.'.join(map(str, first['loc'])) or 'the whole'}: {first['msg']}"


def _home() -> Path:
    return files.named(os.environ.get("LATTICE_HOME") or "~/.lattice")


def _default_file() -> Path:
    return _home() / "default-context"


def _wash_contexts() -> Path:
    return files.named(os.environ.get("WASH_CONTEXTS") or "~/.wash/contexts")


def _names_in(directory: Path) -> list[str]:
    try:
        return sorted(file.stem for file in directory.glob("*.json"))
    except OSError:
        return []


def _write(file: Path, text: str) -> None:
    # Whole or not at all: a command that runs at the same time must not read half of it.
    new = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        new.write_text(text)
        new.replace(file)
    except OSError as error:
        raise errors.InvalidRequest(f"can't write {file}: {error.strerror}") from error
