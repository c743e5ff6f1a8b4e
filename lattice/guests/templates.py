"""Folders for new actors: what a language has of each kind, and the files that makes.

A template is some folders of this package, one laid over the other: what all have in common, or all
of a kind, or of a kind and an ABI; then ``LANGUAGE/shared`` and ``LANGUAGE/KIND``. In files' names
and text ``{{word}}`` stands for what differs from actor to actor; a name that begins with ``dot-``
is written with a dot, and one that ends in ``.in`` without that.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from lattice import errors
from lattice.guests import recipes
from lattice.project import Kind, Language

NAME_CHARS_MAX = 64
"""A name becomes that of a crate, a package, a WIT package and a folder."""

_NAME = re.compile(r"[a-z][a-z0-9]*(?:-[a-z][a-z0-9]*)*")
_TOKEN = re.compile(r"\{\{([a-z_]+)\}\}")

KINDS: Mapping[Language, tuple[Kind, ...]] = {
    Language.ASSEMBLYSCRIPT: (Kind.HTTP, Kind.MESSAGING, Kind.CUSTOM),
    Language.C: (Kind.HTTP, Kind.MESSAGING, Kind.CUSTOM),
    Language.GO: (Kind.HTTP, Kind.MESSAGING, Kind.CUSTOM),
    Language.JAVASCRIPT: (Kind.HTTP, Kind.MESSAGING, Kind.CUSTOM),
    Language.PYTHON: (Kind.HTTP, Kind.MESSAGING, Kind.CUSTOM),
    Language.RUST: (Kind.HTTP, Kind.MESSAGING, Kind.CUSTOM),
    Language.TYPESCRIPT: (Kind.HTTP, Kind.MESSAGING, Kind.CUSTOM),
    Language.ZIG: (Kind.HTTP, Kind.MESSAGING, Kind.CUSTOM),
}
"""What there are templates for."""

LANGUAGE_NAMES: Mapping[Language, str] = {
    Language.ASSEMBLYSCRIPT: "AssemblyScript",
    Language.C: "C",
    Language.GO: "Go",
    Language.JAVASCRIPT: "JavaScript",
    Language.PYTHON: "Python",
    Language.RUST: "Rust",
    Language.TYPESCRIPT: "TypeScript",
    Language.ZIG: "Zig",
}
"""As people write them."""


_PURPOSES: Mapping[Kind, str] = {
    Kind.HTTP: "An actor that answers HTTP requests",
    Kind.MESSAGING: "An actor that answers messages",
    Kind.CUSTOM: "An actor with an interface of its own, `example:greeter/greeter`",
}

_ATTEMPTS: Mapping[Kind, str] = {
    Kind.HTTP: "curl -s http://127.0.0.1:8080/ada",
    Kind.MESSAGING: "nats request {{name}}.greet ada",
    Kind.CUSTOM: "lattice call {{name}} greeter.greet --json '[\"ada\"]' --decode msgpack",
}
"""What to type while ``lattice dev`` runs."""

_DEVS: Mapping[Kind, str] = {
    Kind.HTTP: '''\
[dev]
http = "127.0.0.1:8080"
instances = "{{instances}}"''',
    Kind.MESSAGING: '''\
[dev]
subscriptions = ["{{name}}.>"]
instances = "{{instances}}"

[[dev.links]]
interface = "wasmcloud:messaging"
provider = "messaging"''',
    Kind.CUSTOM: '''\
[dev]
instances = "{{instances}}"''',
}
"""The end of the project file: what the actor runs with."""

_REUSED = frozenset(
    {
        *((Language.PYTHON, kind) for kind in Kind),
        *((Language.GO, kind) for kind in Kind),
        # Those of the other kinds run in QuickJS, which starts in a tenth of a millisecond.
        (Language.JAVASCRIPT, Kind.HTTP),
        (Language.TYPESCRIPT, Kind.HTTP),
    }
)
"""What starts so slowly that its instances are kept between calls."""


@dataclass(frozen=True, slots=True)
class File:
    """A file of a new project."""

    path: str
    """Relative to the project's folder, with ``/``."""
    content: bytes


def files(kind: Kind, language: Language, name: str) -> list[File]:
    """The files of a new project, sorted by path.

    Raises:
        InvalidRequest: the language has no template of that kind, or the name is none.
    """
    check_name(name)
    if kind not in KINDS.get(language, ()):
        able = sorted(language for language, kinds in KINDS.items() if kind in kinds)
        raise errors.InvalidRequest(
            f"there is no template for {kind} in {language}; there is one in: {', '.join(able)}"
        )
    words = {
        "abi": recipes.ABIS[language].value,
        "crate": name.replace("-", "_"),
        "kind": kind.value,
        "language": language.value,
        "language_name": LANGUAGE_NAMES[language],
        "name": name,
        "instances": "reuse" if (language, kind) in _REUSED else "fresh",
        "purpose": _PURPOSES[kind],
    }
    words["attempt"] = _filled(_ATTEMPTS[kind], words)
    words["dev"] = _filled(_DEVS[kind], words)
    found: dict[str, bytes] = {}
    for folder in (
        "common/all",
        f"common/{kind}",
        f"common/{words['abi']}/{kind}",
        f"{language}/shared",
        f"{language}/{kind}",
    ):
        found.update(_rendered(_ROOT.joinpath(folder), words))
    return [File(path, content) for path, content in sorted(found.items())]


def check_name(name: str) -> None:
    """Whether every language takes it as a name.

    Raises:
        InvalidRequest: it does not.
    """
    if len(name) > NAME_CHARS_MAX or not _NAME.fullmatch(name):
        raise errors.InvalidRequest(
            f"{name[:NAME_CHARS_MAX]!r} is no name for a project: want words of a-z and 0-9 joined"
            f" by -, each with a letter first, {NAME_CHARS_MAX} characters at most"
        )


def write(made: list[File], folder: Path) -> None:
    """Write the files of a new project into a folder that is empty or not there.

    Raises:
        AlreadyExists: there is something in it.
        InvalidRequest: it can't be written.
    """
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise errors.AlreadyExists(f"{folder} is there already, and not empty")
        for file in made:
            path = folder / file.path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(file.content)
    except OSError as error:
        raise errors.InvalidRequest(f"can't write {folder}: {error.strerror}") from None


_ROOT = resources.files("lattice.guests") / "templates"


def _rendered(folder: Traversable, words: Mapping[str, str]) -> Iterator[tuple[str, bytes]]:
    for path, content in _walk(folder, ""):
        text = _filled(content.decode(), words)
        yield _filled(path.removesuffix(".in"), words), text.encode()


def _filled(text: str, words: Mapping[str, str]) -> str:
    return _TOKEN.sub(lambda match: words[match[1]], text)


def _walk(folder: Traversable, prefix: str) -> Iterator[tuple[str, bytes]]:
    if not folder.is_dir():
        return
    for entry in folder.iterdir():
        name = entry.name
        if name.startswith("dot-"):
            name = f".{name.removeprefix('dot-')}"
        if entry.is_dir():
            yield from _walk(entry, f"{prefix}{name}/")
        else:
            yield f"{prefix}{name}", entry.read_bytes()
