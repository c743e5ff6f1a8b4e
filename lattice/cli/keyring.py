"""Seeds in files, as ``wash`` keeps them: one file each, ``NAME.nk``, for nobody else to read.

They live in ``$LATTICE_KEYS``, or ``$WASH_KEYS``, or ``keys`` under ``$LATTICE_HOME``, which is
``~/.lattice`` unless it is set.
"""

import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from lattice import errors, limits
from lattice.cli import files
from lattice.identity import keys
from lattice.identity.keys import KeyPair, Kind

SUFFIX = ".nk"

KEY_BYTES_MAX = limits.KIB
"""Largest file that is taken for a seed; one has 58 bytes."""

NAME_CHARS_MAX = 128
"""Longest name of a key: it becomes a file's."""

WORDS: Mapping[Kind, str] = {kind: kind.word for kind in Kind} | {
    Kind.COMPONENT: "module",
    Kind.HOST: "server",
    Kind.PROVIDER: "service",
}
"""``wash``'s words for kinds in the names of files."""

_LIKE_SEED = re.compile(r"S[A-Za-z0-9]{40,}")
_NAME = re.compile(r"[^/\0]+")

DirectoryOption = Annotated[
    Path | None,
    typer.Option(
        "--directory",
        "-d",
        envvar=["LATTICE_KEYS", "WASH_KEYS"],
        metavar="DIR",
        help="Where keys are kept.",
        show_default="~/.lattice/keys",
    ),
]
IssuerOption = Annotated[
    str | None,
    typer.Option(
        "--issuer",
        "-i",
        envvar=["LATTICE_ISSUER_KEY", "WASH_ISSUER_KEY"],
        metavar="KEY",
        help="File with the seed of the account that signs, or better in the environment than here"
        " the seed itself.",
        show_default="USER_account.nk, made if need be",
    ),
]
DisableKeygenOption = Annotated[
    bool, typer.Option("--disable-keygen", help="Make no keys; fail where one is missing.")
]


def subject_option(text: str, *, default: str) -> Any:
    """The option for the key of who is signed, ``text`` being its help."""
    return typer.Option(
        "--subject",
        "-s",
        envvar=["LATTICE_SUBJECT_KEY", "WASH_SUBJECT_KEY"],
        metavar="KEY",
        help=text,
        show_default=default,
    )


class NoKey(errors.NotFound):
    """There is no key of that name."""

    remedy = "see which there are with: lattice keys list"


@dataclass(frozen=True, slots=True)
class Keyring:
    """The keys in one directory."""

    directory: Path

    def path(self, name: str) -> Path:
        """Where a key is stored.

        Raises:
            InvalidRequest: not a name for one.
        """
        name = name.removesuffix(SUFFIX)
        if not _NAME.fullmatch(name) or name.startswith(".") or len(name) > NAME_CHARS_MAX:
            raise errors.InvalidRequest(f"{name[:NAME_CHARS_MAX]!r} is not a name for a key")
        return self.directory / f"{name}{SUFFIX}"

    def names(self) -> list[str]:
        """Every key there is, sorted; none where there is no directory.

        Raises:
            InvalidRequest: it can't be read.
        """
        try:
            return sorted(path.stem for path in self.directory.iterdir() if path.suffix == SUFFIX)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise errors.InvalidRequest(f"can't read {self.directory}: {error.strerror}") from None

    def load(self, name: str) -> KeyPair:
        """A key.

        Raises:
            NotFound: there is none of that name.
            InvalidRequest: not a name for one, or its file is none.
        """
        path = self.path(name)
        try:
            return load_file(path)
        except errors.NotFound:
            raise NoKey(f"there is no key {name!r} in {self.directory}") from None

    def save(self, name: str, seed: str) -> Path:
        """Store a new key, for this user only to read.

        Raises:
            AlreadyExists: there is one of that name; keys are not replaced.
            InvalidRequest: not a name for one, or the directory can't be written.
        """
        path = self.path(name)
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Made for this user only, and under its name only when it is whole.
            with tempfile.NamedTemporaryFile("w", dir=self.directory, prefix=".") as file:
                file.write(seed)
                file.flush()
                os.link(file.name, path)
        except FileExistsError:
            if not path.is_file():
                raise errors.InvalidRequest(f"{self.directory} is not a directory") from None
            raise errors.AlreadyExists(f"there is a key {path} already") from None
        except OSError as error:
            raise errors.InvalidRequest(f"can't write {path}: {error.strerror}") from None
        return path

    def find_or_make(self, name: str, kind: Kind, *, make: bool) -> tuple[KeyPair, str]:
        """The key ``NAME_KIND``, and what people should know if it is a new one.

        Raises:
            NotFound: there is none, and none is to be made.
            InvalidRequest: its file is none, or of another kind; or it can't be written.
        """
        name = f"{name}_{WORDS[kind]}"
        try:
            return of_kind(self.load(name), kind, what=f"key {name}"), ""
        except errors.NotFound:
            if not make:
                raise
        seed = keys.new_seed(kind)
        try:
            path = self.save(name, seed)
        except errors.AlreadyExists:
            # Somebody made it in between, and it is theirs that counts.
            return of_kind(self.load(name), kind, what=f"key {name}"), ""
        return keys.parse_seed(seed), f"made a new key, keep it: {path}"


def keyring(given: Path | None) -> Keyring:
    """The keys in the directory that is given, or else in this user's own."""
    if given is None:
        home = os.environ.get("LATTICE_HOME")
        given = (Path(home) if home else Path("~/.lattice")) / "keys"
    return Keyring(files.named(given))


def account(given: str | None, ring: Keyring, *, make: bool) -> tuple[KeyPair, str]:
    """The key of the account that signs: what is given, or else this user's.

    Raises:
        NotFound: there is none, and none is to be made.
        InvalidRequest: not the seed of an account; it is not repeated.
    """
    if given is not None:
        return of_kind(_given(given, "issuer"), Kind.ACCOUNT, what="issuer"), ""
    return ring.find_or_make(os.environ.get("USER") or "user", Kind.ACCOUNT, make=make)


def subject(
    given: str | None, ring: Keyring, name: str, kind: Kind, *, make: bool
) -> tuple[str, str]:
    """The public key of what is signed: what is given, or else the key of that name.

    Raises:
        NotFound: there is none, and none is to be made.
        InvalidRequest: not a key of that kind.
    """
    if given is None:
        pair, note = ring.find_or_make(name, kind, make=make)
        return pair.public_key, note
    if given.startswith(kind) and len(given) == keys.PUBLIC_CHARS:
        return keys.parse_public(given, what="subject").text, ""
    return of_kind(_given(given, "subject"), kind, what="subject").public_key, ""


def of_kind(pair: KeyPair, kind: Kind, *, what: str) -> KeyPair:
    """The key, if it is of this kind.

    Raises:
        InvalidRequest: it is of another.
    """
    if pair.kind is not kind:
        raise errors.InvalidRequest(
            f"the {what} {pair.public_key} is of kind {pair.kind.word}, want {kind.word}"
            f" (public key {kind}…, seed S{kind}…)"
        )
    return pair


def load_file(path: Path) -> KeyPair:
    """The key whose seed is in a file.

    Raises:
        NotFound: there is no such file.
        InvalidRequest: it may not be read, or is no seed.
    """
    try:
        text = files.read(path, KEY_BYTES_MAX).decode("ascii").strip()
    except (UnicodeDecodeError, errors.PayloadTooLarge):
        raise errors.InvalidRequest(f"{path} is no seed") from None
    return keys.parse_seed(text, what=f"content of {path}")


def _given(text: str, what: str) -> KeyPair:
    # Not even a mistyped seed is looked for among files: an error would repeat it.
    if _LIKE_SEED.fullmatch(text):
        return keys.parse_seed(text, what=f"{what}'s seed")
    return load_file(files.named(text))
