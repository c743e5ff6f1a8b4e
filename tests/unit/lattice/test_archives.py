import gzip
import io
import json
import tarfile
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lattice import archives, errors
from lattice.identity import claims as identity
from lattice.identity import keys
from lattice.identity.claims import Claims
from lattice.identity.keys import Kind
from tests.unit.lattice.identity.golden import COMPONENT, ISSUER, PROVIDER, golden

ACCOUNT = keys.parse_seed(keys.new_seed(Kind.ACCOUNT))

KEEPER = Claims(
    kind="provider",
    subject=PROVIDER,
    name="Keeper",
    vendor="Acme",
    revision=2,
    version="0.2.0",
    issued_at=1_800_000_000,
)
PROGRAMS = {"x86_64-linux": b"\x7fELF intel", "aarch64-linux": b"\x7fELF arm"}


def keeper(*, compress: bool = False, world: bytes | None = None) -> bytes:
    return archives.create(KEEPER, PROGRAMS, ACCOUNT.seed, compress=compress, world=world)


def tar(*entries: tuple[tarfile.TarInfo | str, bytes], how: int = tarfile.GNU_FORMAT) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=how) as archive:
        for entry, content in entries:
            info = tarfile.TarInfo(entry) if isinstance(entry, str) else entry
            if info.isreg():
                info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return packed.getvalue()


def token() -> bytes:
    hashes = {target: identity.hash_of(program) for target, program in PROGRAMS.items()}
    return identity.sign(replace(KEEPER, target_hashes=hashes), ACCOUNT.seed).token.encode()


def link(name: str, kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, "/etc/passwd"
    return info


@pytest.mark.parametrize("target", ["x86_64-linux", "aarch64-linux"])
@pytest.mark.parametrize("compressed", [True, False], ids=["compressed", "plain"])
def test_what_wasmcloud_packed_is_read_and_verified(target: str, *, compressed: bool) -> None:
    content = golden("archive") if compressed else gzip.decompress(golden("archive"))

    found = archives.read(content, target)

    assert found.binary == f"#!/bin/sh\necho {target.removesuffix('-linux')}\n".encode()
    assert (found.claims.issuer, found.claims.subject) == (ISSUER, PROVIDER)
    assert (found.claims.name, found.claims.vendor) == ("keeper", "Acme")
    assert found.claims.covers_content
    assert json.loads(found.claims.config_schema or "")["type"] == "object"


@pytest.mark.parametrize("compress", [True, False], ids=["compressed", "plain"])
def test_what_we_pack_is_what_comes_out(*, compress: bool) -> None:
    content = keeper(compress=compress, world=b"interface")

    found = archives.unpack(content)

    assert archives.is_archive(content[:1024])
    assert archives.is_compressed(content) == compress
    assert (found.binaries, found.world) == (PROGRAMS, b"interface")
    assert (found.claims.name, found.claims.revision) == ("Keeper", 2)
    assert sorted(archives.targets(found.claims)) == sorted(PROGRAMS)
    assert archives.read(content, "x86_64-linux").binary == PROGRAMS["x86_64-linux"]


def test_a_machine_that_nothing_is_for_learns_what_there_is() -> None:
    with pytest.raises(errors.NotFound, match="for s390x-linux, but for aarch64-linux, x86_64"):
        archives.read(keeper(), "s390x-linux")


def test_this_machine_has_a_name_that_an_archive_may_have() -> None:
    assert archives.check_target(archives.this_machine()) == archives.this_machine()


@pytest.mark.parametrize("target", ["", "linux", "a-", "../x-linux", "world.wasm", "a b-c", "é-é"])
def test_another_name_for_a_kind_of_machine_is_refused(target: str) -> None:
    with pytest.raises(errors.InvalidRequest, match="ARCH-OS"):
        archives.create(KEEPER, {target: b""}, ACCOUNT.seed)


def test_an_archive_of_nothing_is_not_made() -> None:
    with pytest.raises(errors.InvalidRequest, match="needs a program"):
        archives.create(KEEPER, {}, ACCOUNT.seed)


@pytest.mark.parametrize("how", [tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT, tarfile.PAX_FORMAT])
def test_a_tar_of_any_dialect_is_read(how: int) -> None:
    content = tar(
        ("./x86_64-linux.bin", PROGRAMS["x86_64-linux"]), ("./claims.jwt", token()), how=how
    )

    assert archives.read(content, "x86_64-linux").binary == PROGRAMS["x86_64-linux"]


def test_a_changed_program_is_denied() -> None:
    content = tar(("claims.jwt", token()), ("x86_64-linux.bin", b"something else"))

    with pytest.raises(errors.Denied, match=r"x86_64-linux .* after"):
        archives.read(content, "x86_64-linux")


def test_a_program_that_was_put_in_is_denied() -> None:
    content = tar(("claims.jwt", token()), ("riscv64-linux.bin", b"unsigned"))

    with pytest.raises(errors.Denied, match="put into"):
        archives.read(content, "riscv64-linux")


def test_a_changed_interface_is_denied() -> None:
    entries = ("claims.jwt", token()), ("x86_64-linux.bin", PROGRAMS["x86_64-linux"])

    with pytest.raises(errors.Denied, match=r"world\.wasm"):
        archives.read(tar(*entries, ("world.wasm", b"another")), "x86_64-linux")


def test_forged_claims_are_denied() -> None:
    header, body, _ = token().decode().split(".")
    _, _, signature = identity.sign(KEEPER, ACCOUNT.seed).token.split(".")
    content = tar(
        ("claims.jwt", f"{header}.{body}.{signature}".encode()),
        ("x86_64-linux.bin", PROGRAMS["x86_64-linux"]),
    )

    with pytest.raises(errors.Denied, match="forged"):
        archives.read(content, "x86_64-linux")


def test_the_claims_of_an_actor_are_refused() -> None:
    actor = Claims(kind="component", subject=COMPONENT, hash="", issued_at=0)
    content = tar(("claims.jwt", identity.sign(actor, ACCOUNT.seed).token.encode()))

    with pytest.raises(errors.InvalidRequest, match="about a component"):
        archives.read(content, "x86_64-linux")


@pytest.mark.parametrize(
    ("entries", "fault"),
    [
        ([("x86_64-linux.bin", b"")], r"no claims\.jwt"),
        ([("claims.jwt", b"\xff")], "not text"),
        ([("claims.jwt", b"a.b")], "malformed"),
        ([("claims.jwt", b""), ("claims.jwt", b"")], "twice"),
        ([("claims.jwt", b""), ("./claims.jwt", b"")], "twice"),
        ([("/etc/claims.jwt", b"")], "not at its top"),
        ([("../claims.jwt", b"")], "not at its top"),
        ([("..", b"")], "not at its top"),
        ([("a/x86_64-linux.bin", b"")], "not at its top"),
        ([(link("claims.jwt", tarfile.SYMTYPE), b"")], "not a file"),
        ([(link("claims.jwt", tarfile.LNKTYPE), b"")], "not a file"),
        ([(link("claims.jwt", tarfile.FIFOTYPE), b"")], "not a file"),
        ([(f"{n}.bin", b"") for n in range(archives.ENTRIES_MAX + 1)], "more than"),
        ([("x" * 5000 + ".bin", b"")], "header"),
    ],
    ids=[
        "no claims",
        "claims of bytes",
        "claims of text",
        "claims twice",
        "claims twice, spelled differently",
        "absolute path",
        "path upwards",
        "upwards",
        "path down",
        "symbolic link",
        "hard link",
        "pipe",
        "too many files",
        "endless name",
    ],
)
def test_what_no_provider_archive_has_is_refused(
    entries: list[tuple[tarfile.TarInfo | str, bytes]], fault: str
) -> None:
    with pytest.raises(errors.InvalidRequest, match=fault):
        archives.read(tar(*entries), "x86_64-linux")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x7fELF",
        b"\0asm\x01\0\0\0",
        b"\x1f\x8b",
        b"\x1f\x8b" + bytes(100),
        gzip.compress(b"no tar"),
        gzip.compress(b""),
        gzip.compress(keeper())[:200],
        keeper()[:2000],
        bytes(257) + b"ustar" + bytes(1000),
    ],
    ids=[
        "nothing",
        "a program",
        "a module",
        "two bytes",
        "a broken gzip",
        "gzipped text",
        "gzipped nothing",
        "a cut gzip",
        "a cut tar",
        "zeros",
    ],
)
def test_what_is_no_archive_is_refused(content: bytes) -> None:
    with pytest.raises(errors.InvalidRequest, match="not a provider archive"):
        archives.unpack(content)


def test_an_archive_that_unpacks_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "UNPACKED_BYTES_MAX", 1 << 20)
    bomb = gzip.compress(tar(("other.bin", bytes(2 << 20)), ("claims.jwt", token())))

    assert len(bomb) < 10_000
    with pytest.raises(errors.PayloadTooLarge, match="unpacked"):
        archives.read(bomb, "x86_64-linux")


def test_claims_larger_than_a_token_are_refused() -> None:
    with pytest.raises(errors.PayloadTooLarge, match=r"claims\.jwt"):
        archives.read(tar(("claims.jwt", bytes(identity.TOKEN_BYTES_MAX + 1))), "x86_64-linux")


def test_a_pax_header_without_end_is_refused_unread() -> None:
    header = tarfile.TarInfo("claims.jwt")
    header.type, header.size = tarfile.XHDTYPE, 1 << 40
    content = header.tobuf() + bytes(1024)

    with pytest.raises(errors.InvalidRequest, match="header"):
        archives.unpack(content)


def test_a_file_of_negative_size_is_refused() -> None:
    header = tarfile.TarInfo("claims.jwt")
    header.size = -1
    content = header.tobuf(tarfile.GNU_FORMAT) + bytes(1024)

    with pytest.raises(errors.InvalidRequest, match="negative"):
        archives.unpack(content)


@settings(max_examples=300)
@given(st.data())
def test_no_damage_makes_the_reader_stumble(data: st.DataObject) -> None:
    content = bytearray(data.draw(st.sampled_from([PLAIN, COMPRESSED])))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))

    try:
        found = archives.read(bytes(content), "x86_64-linux")
    except (errors.InvalidRequest, errors.Denied, errors.NotFound, errors.PayloadTooLarge):
        return
    assert found.binary == PROGRAMS["x86_64-linux"]


PLAIN, COMPRESSED = keeper(), keeper(compress=True)
