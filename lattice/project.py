"""The project file of an actor, ``lattice.toml``: what it is, how it is built, what it runs with.

It stands in the actor's own folder; ``lattice build``, ``dev`` and ``test`` read it there, and
``lattice new`` writes it. Every path in it is relative to that folder.
"""

import re
import tomllib
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from lattice import errors, names

FILE = "lattice.toml"

BYTES_MAX = 64 * 1024
"""Size of a project file; one has a page."""

LINKS_MAX = 64
"""Links of one actor while it is developed."""

SOURCES_MAX = 64
"""Patterns of files that belong to an actor's source."""

_DIALED = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z.-]+):(?P<port>[0-9]{1,5})")
_HEADER = re.compile(r"\s*(\[\[?)\s*([\w.\"' -]+?)\s*\]\]?\s*(?:#.*)?$")
_KEY = re.compile(r"\s*([\w-]+|\"[^\"]*\")\s*=")
_MARKED = re.compile(
    r"^(?P<why>.*) \(at (?:line (?P<line>\d+), column \d+|(?P<end>end of document))\)$"
)


class Language(StrEnum):
    """What an actor is written in; ``other`` for anything whose ``build.command`` is given."""

    ASSEMBLYSCRIPT = "assemblyscript"
    C = "c"
    GO = "go"
    JAVASCRIPT = "javascript"
    PYTHON = "python"
    RUST = "rust"
    TYPESCRIPT = "typescript"
    ZIG = "zig"
    OTHER = "other"


class Kind(StrEnum):
    """What an actor answers."""

    HTTP = "http"
    """Requests that the http-server provider took."""
    MESSAGING = "messaging"
    """Messages on subjects that the messaging provider subscribed to."""
    CUSTOM = "custom"
    """An interface of its own."""


class Abi(StrEnum):
    """How an actor and its host speak to each other."""

    COMPONENT = "component"
    WAPC = "wapc"


class Instances(StrEnum):
    """Whether each call has an instance of its own (docs/guests/instances.md)."""

    FRESH = "fresh"
    REUSE = "reuse"


def _inside(text: str) -> str:
    path = PurePosixPath(text)
    if not text or path.is_absolute() or ".." in path.parts:
        raise ValueError("want a path inside the project's folder, relative to it")
    return text


def _entity(text: str) -> str:
    try:
        return names.parse_entity(text)
    except errors.InvalidRequest as error:
        raise ValueError(error.text) from None


def _interface(text: str) -> str:
    try:
        names.parse_interface(text)
    except errors.InvalidRequest as error:
        raise ValueError(error.text) from None
    return text


def _address(text: str) -> str:
    match = _DIALED.fullmatch(text)
    if match is None or int(match["port"]) > 65535:
        raise ValueError("want HOST:PORT, such as 127.0.0.1:8080")
    return text


InsidePath = Annotated[str, AfterValidator(_inside)]
EntityName = Annotated[str, AfterValidator(_entity)]
InterfaceName = Annotated[str, AfterValidator(_interface)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Actor(_Table):
    """``[actor]``."""

    name: EntityName
    """Its id in a lattice, unless another is given."""
    language: Language
    kind: Kind = Kind.CUSTOM
    abi: Abi
    output: InsidePath
    """The module or component that ``lattice build`` makes."""


class Build(_Table):
    """``[build]``."""

    command: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Words of a command that makes ``actor.output``, run in the folder, without a shell; empty for
    the language's own toolchain."""
    sources: Annotated[tuple[InsidePath, ...], Field(min_length=1, max_length=SOURCES_MAX)] = (
        "src/**/*",
    )
    """Globs of the files it is built from: a change to one of them asks for a new build. The
    project file itself always counts."""


class Link(_Table):
    """``[[dev.links]]``: a link that has the actor as its source while it is developed."""

    interface: InterfaceName
    """``ns:package`` or ``ns:package/interface``."""
    provider: str | None = None
    """An installed provider, by its name or a reference, which is started when none runs."""
    target: EntityName | None = None
    """Instead of a provider: the id of something that runs already, such as another actor."""
    name: EntityName = "default"
    config: dict[str, str] = {}
    """What the target gets to know about the link: its target config."""
    provider_config: dict[str, str] = {}
    """What the provider is started with."""

    @model_validator(mode="after")
    def _check_target(self) -> "Link":
        if (self.provider is None) == (self.target is None):
            raise ValueError("want one of provider and target")
        return self


class Dev(_Table):
    """``[dev]``: what the actor runs with while it is developed and tested."""

    http: Annotated[str, AfterValidator(_address)] = "127.0.0.1:8080"
    """Where an actor of kind ``http`` answers."""
    subscriptions: tuple[str, ...] = ()
    """Subjects of an actor of kind ``messaging``."""
    instances: Instances = Instances.FRESH
    config: dict[str, str] = {}
    """The actor's own config."""
    links: Annotated[tuple[Link, ...], Field(max_length=LINKS_MAX)] = ()


class _Document(_Table):
    actor: Actor
    build: Build = Build()
    dev: Dev = Dev()

    @model_validator(mode="after")
    def _check_command(self) -> "_Document":
        if self.actor.language is Language.OTHER and not self.build.command:
            raise ValueError('actor.language = "other" needs build.command')
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """An actor's folder and what its project file says."""

    folder: Path
    """Absolute."""
    actor: Actor
    build: Build
    dev: Dev

    @property
    def output(self) -> Path:
        """Where the built module or component is; it may not have been built yet."""
        return self.folder / self.actor.output

    def sources(self) -> list[Path]:
        """The files it is built from, sorted; the project file is one of them.

        What the folder's tools put there is none of them: nothing below a folder whose name starts
        with a dot, or is ``node_modules``, ``target``, ``build`` or ``__pycache__``.
        """
        found = {self.folder / FILE}
        for pattern in self.build.sources:
            found.update(
                path
                for path in self.folder.glob(pattern)
                if path.is_file() and not self.is_made(path)
            )
        found.discard(self.output)
        return sorted(found)

    def is_made(self, path: Path) -> bool:
        """Whether a file of the folder is below one of those that tools fill."""
        above = path.relative_to(self.folder).parts[:-1]
        return any(part in MADE or part.startswith(".") for part in above)


MADE = frozenset({"__pycache__", "build", "node_modules", "target"})
"""Folders of what tools make."""


class NoProject(errors.NotFound):
    """There is no project file."""

    remedy = "make a project with: lattice new http NAME --language c, and run this in its folder"


def load(folder: Path) -> Project:
    """Read the project file of a folder.

    Raises:
        NotFound: there is none.
        InvalidRequest: it is no project file; says the line, the key, and what would be right.
        PayloadTooLarge: over ``BYTES_MAX``.
    """
    path = folder / FILE
    try:
        with path.open("rb") as file:
            content = file.read(BYTES_MAX + 1)
    except (FileNotFoundError, NotADirectoryError):
        raise NoProject(f"there is no {FILE} in {folder}") from None
    except OSError as error:
        raise errors.InvalidRequest(f"can't read {path}: {error.strerror}") from None
    if len(content) > BYTES_MAX:
        raise errors.PayloadTooLarge(str(path), path.stat().st_size, BYTES_MAX)
    return parse(content, folder=folder.absolute())


def parse(content: bytes, *, folder: Path) -> Project:
    """Read the content of a project file.

    Raises:
        InvalidRequest: as ``load``.
    """
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise errors.InvalidRequest(f"{FILE} is not UTF-8") from None
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise errors.InvalidRequest(_syntax_fault(str(error), text)) from None
    try:
        document = _Document.model_validate(values)
    except ValidationError as error:
        raise errors.InvalidRequest(_fault(error, text)) from None
    return Project(folder=folder, actor=document.actor, build=document.build, dev=document.dev)


def _syntax_fault(message: str, text: str) -> str:
    match = _MARKED.match(message)
    if match is None:
        return f"{FILE} is not TOML: {message}"
    line = match["line"] or str(text.count("\n") + 1)
    return f"{FILE}, line {line}: not TOML: {match['why']}"


def _fault(error: ValidationError, text: str) -> str:
    first = error.errors(include_url=False)[0]
    place = tuple(first["loc"])
    key = ".".join(map(str, place))
    match first["type"]:
        case "extra_forbidden":
            why = f"there is no such key; {_known(place[:-1])}"
        case "missing":
            why = "is missing"
        case "enum":
            why = f"want {first['ctx']['expected']}"
        case "value_error":
            why = str(first["ctx"]["error"])
        case _:
            why = first["msg"]
    line = _line_of(text, place)
    where = f"{FILE}, line {line}" if line else FILE
    return f"{where}: {key}: {why}" if key else f"{where}: {why}"


def _known(place: tuple[int | str, ...]) -> str:
    tables: dict[tuple[str, ...], type[BaseModel]] = {
        (): _Document,
        ("actor",): Actor,
        ("build",): Build,
        ("dev",): Dev,
        ("dev", "links"): Link,
    }
    table = tables[tuple(part for part in place if isinstance(part, str))]
    return f"there are: {', '.join(table.model_fields)}"


def _line_of(text: str, place: tuple[Any, ...]) -> int | None:
    """The line of a key, or of what it is missing from; None where that is not found.

    The parser of the standard library keeps no positions. This one knows headers and keys, which is
    how people write a project file; inline tables are found by the key that has them.
    """
    best, depth = None, 0
    table: tuple[Any, ...] = ()
    counts: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if header := _HEADER.match(line):
            dotted = header[2]
            table = tuple(part.strip(" \"'") for part in dotted.split("."))
            if header[1] == "[[":
                table = (*table, counts.setdefault(dotted, 0))
                counts[dotted] += 1
            here = table
        elif key := _KEY.match(line):
            here = (*table, key[1].strip('"'))
        else:
            continue
        if len(here) > depth and place[: len(here)] == here:
            best, depth = number, len(here)
    return best
