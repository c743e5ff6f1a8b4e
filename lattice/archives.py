"""Provider archives: one provider's programs for several kinds of machine, with signed claims.

A tar, or a gzipped one, with ``claims.jwt``, a ``{arch}-{os}.bin`` for each kind of machine, and
perhaps the provider's interface as ``world.wasm``. The claims have the hash of each of them.

What is read comes from strangers: sizes are bounded before anything is unpacked, and nothing is
ever written to a path that an archive names.
"""

import gzip
import io
import platform
import re
import sys
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import IO, Self

from lattice import errors, limits
from lattice.identity import claims as identity
from lattice.identity.claims import Claims
from lattice.identity.keys import Kind

CLAIMS_FILE = "claims.jwt"
WORLD_FILE = "world.wasm"

UNPACKED_BYTES_MAX = 4 * limits.PROVIDER_BYTES_MAX
"""All of an archive, unpacked: programs compress to a third, tar bombs to nothing."""

ENTRIES_MAX = 100
"""Files in an archive; there are not as many kinds of machine."""

_GZIP = b"\x1f\x8b"
_TAR, _TAR_AT = b"ustar", 257
_PROGRAM_SUFFIX = ".bin"
_TARGET = re.compile(r"[A-Za-z0-9_]+(?:-[A-Za-z0-9_]+)+")
_ARCHES = {"arm64": "aarch64", "AMD64": "x86_64"}
_SYSTEMS = {"darwin": "macos", "win32": "windows"}
"""Where Rust has other words than Python."""

_HEADER_BYTES_MAX = limits.KIB
"""What a tar may say of a file besides the file: its name, and that is short."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderArchive:
    """What one kind of machine needs of an archive; verified."""

    claims: Claims
    binary: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """All of an archive; verified."""

    claims: Claims
    binaries: Mapping[str, bytes]
    """Programs by ``{arch}-{os}``."""
    world: bytes | None
    """The provider's interface, as an encoded WIT package."""


def this_machine() -> str:
    """The kind of this machine, in Rust's words: ``x86_64-linux``, ``aarch64-macos``."""
    arch, system = platform.machine(), sys.platform
    return f"{_ARCHES.get(arch, arch)}-{_SYSTEMS.get(system, system)}"


def is_archive(content: bytes) -> bool:
    """Whether it begins as an archive does; the first KiB will do."""
    return is_compressed(content) or content[_TAR_AT : _TAR_AT + len(_TAR)] == _TAR


def is_compressed(content: bytes) -> bool:
    return content.startswith(_GZIP)


def read(content: bytes, target: str) -> ProviderArchive:
    """The program for one kind of machine, with its claims, signature and hash verified.

    Raises:
        InvalidRequest: not a provider archive.
        NotFound: nothing in it is for this kind of machine.
        PayloadTooLarge: more in it than any provider needs.
        Denied: a signature or a hash is wrong.
    """
    contents = unpack(content, only=target)
    try:
        binary = contents.binaries[target]
    except KeyError:
        there = ", ".join(sorted(targets(contents.claims))) or "no machine"
        raise errors.NotFound(
            f"the provider archive has no program for {target}, but for {there}"
        ) from None
    return ProviderArchive(claims=contents.claims, binary=binary)


def unpack(content: bytes, *, only: str | None = None) -> Contents:
    """Everything in an archive, or the programs of one kind of machine only; verified.

    Raises:
        InvalidRequest, PayloadTooLarge, Denied: as ``read``.
    """
    token = world = None
    binaries: dict[str, bytes] = {}
    for name, file in _files(content):
        if name == CLAIMS_FILE:
            token = _take(file, name, identity.TOKEN_BYTES_MAX)
        elif name == WORLD_FILE:
            world = _take(file, name, limits.MODULE_BYTES_MAX)
        elif name.endswith(_PROGRAM_SUFFIX):
            target = name.removesuffix(_PROGRAM_SUFFIX)
            if only in (None, target):
                binaries[target] = _take(file, name, limits.PROVIDER_BYTES_MAX)
    if token is None:
        raise _malformed(f"there is no {CLAIMS_FILE} in it")
    if only is None and not binaries:
        raise _malformed("there is no program in it")
    files = binaries if world is None else binaries | {WORLD_FILE: world}
    return Contents(claims=_verified(token, files), binaries=binaries, world=world)


def create(
    claims: Claims,
    binaries: Mapping[str, bytes],
    issuer_seed: str,
    *,
    world: bytes | None = None,
    compress: bool = False,
) -> bytes:
    """An archive of these programs, by ``{arch}-{os}``, with the claims and their hashes signed.

    Raises:
        InvalidRequest: no programs, a target that is no file name, or as ``claims.sign``.
        PayloadTooLarge: an archive that nobody would read.
    """
    files = dict(binaries)
    if not files:
        raise errors.InvalidRequest("a provider archive needs a program for some machine")
    for target in files:
        check_target(target)
    if world is not None:
        files[WORLD_FILE] = world
    hashes = {name: identity.hash_of(file) for name, file in sorted(files.items())}
    signed = identity.sign(replace(claims, target_hashes=hashes), issuer_seed)
    entries = {CLAIMS_FILE: signed.token.encode()}
    entries |= {
        name if name == WORLD_FILE else name + _PROGRAM_SUFFIX: files[name] for name in hashes
    }
    archive = _pack(entries)
    if compress:
        # No time in it: the same contents are the same archive.
        archive = gzip.compress(archive, mtime=0)
    if len(archive) > limits.PROVIDER_BYTES_MAX:
        raise errors.PayloadTooLarge("the archive", len(archive), limits.PROVIDER_BYTES_MAX)
    return archive


def targets(claims: Claims) -> list[str]:
    """The kinds of machine that a provider's claims speak of."""
    return [name for name in claims.target_hashes if name != WORLD_FILE]


def check_target(target: str) -> str:
    """Check the name of a kind of machine.

    Raises:
        InvalidRequest: not of the form ``{arch}-{os}``.
    """
    if not _TARGET.fullmatch(target):
        raise errors.InvalidRequest(f"{target[:100]!r} is not of the form ARCH-OS: x86_64-linux")
    return target


def _verified(token: bytes, files: Mapping[str, bytes]) -> Claims:
    try:
        claims = identity.decode_and_verify(token.decode("ascii").strip())
    except UnicodeDecodeError:
        raise _malformed(f"{CLAIMS_FILE} is not text") from None
    if claims.kind != Kind.PROVIDER.word:
        raise _malformed(f"its claims are about a {claims.kind}")
    for name, file in files.items():
        if claims.target_hashes.get(name) != identity.hash_of(file):
            raise errors.Denied(
                f"{name} was put into the provider archive, or changed, after {claims.issuer}"
                " signed it: the hash in the claims is of something else"
            )
    return replace(claims, covers_content=True)


class _Entry(tarfile.TarInfo):
    """What a tar says of a file, refused where it can't be of a provider archive."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        entry = super().frombuf(buf, encoding, errors)
        if entry.size < 0:
            raise _malformed("a file of negative size")
        # What the library reads whole before anybody is asked.
        if entry.type not in tarfile.REGULAR_TYPES and entry.size > _HEADER_BYTES_MAX:
            raise _malformed("a header that is larger than any we know")
        return entry


class _Bounded(io.RawIOBase):
    """An unpacked archive that ends in an error where it would get too large."""

    def __init__(self, source: io.BufferedIOBase) -> None:
        self._source = source
        self._taken_bytes = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        taken = self._source.read(size)
        self._taken_bytes += len(taken)
        if self._taken_bytes > UNPACKED_BYTES_MAX:
            raise errors.PayloadTooLarge(
                "the provider archive, unpacked,", self._taken_bytes, UNPACKED_BYTES_MAX
            )
        return taken


def _files(content: bytes) -> Iterator[tuple[str, IO[bytes]]]:
    """The files of an archive by name, each to be read before the next."""
    if not is_archive(content):
        raise _malformed("it is neither a tar nor a gzipped tar")
    packed = io.BytesIO(content)
    source = gzip.GzipFile(fileobj=packed) if is_compressed(content) else packed
    seen: set[str] = set()
    with (
        _reading(),
        source,
        tarfile.open(fileobj=_Bounded(source), mode="r|", tarinfo=_Entry) as archive,
    ):
        for number, entry in enumerate(archive):
            if number == ENTRIES_MAX:
                raise _malformed(f"more than {ENTRIES_MAX} files")
            if entry.isdir():
                continue
            name = _name(entry)
            if name in seen:
                raise _malformed(f"{name!r} is in it twice")
            seen.add(name)
            file = archive.extractfile(entry)
            assert file is not None, "only regular files get here"
            yield name, file


def _name(entry: tarfile.TarInfo) -> str:
    path = PurePosixPath(entry.name)
    if not entry.isreg():
        raise _malformed(f"{entry.name[:100]!r} is not a file")
    if path.is_absolute() or len(path.parts) != 1 or ".." in path.parts:
        raise _malformed(f"{entry.name[:100]!r} is not at its top")
    return path.name


def _take(file: IO[bytes], name: str, bytes_max: int) -> bytes:
    content = file.read(bytes_max + 1)
    if len(content) > bytes_max:
        raise errors.PayloadTooLarge(f"{name} in the provider archive", len(content), bytes_max)
    return content


def _pack(entries: Mapping[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for name, content in entries.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            entry.mode = 0o755 if name.endswith(_PROGRAM_SUFFIX) else 0o644
            archive.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


@contextmanager
def _reading() -> Iterator[None]:
    """Whatever the libraries say of bytes that are no archive, in our words."""
    try:
        yield
    except (tarfile.TarError, zlib.error, OSError, EOFError, ValueError, OverflowError) as error:
        raise _malformed(str(error)[:200] or type(error).__name__) from None


def _malformed(why: str) -> errors.InvalidRequest:
    return errors.InvalidRequest(f"it is not a provider archive: {why}")
