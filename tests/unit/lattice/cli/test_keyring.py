"""Keys in files."""

import stat
from pathlib import Path

import pytest

from lattice import errors
from lattice.cli import keyring
from lattice.cli.keyring import Keyring
from lattice.identity import keys
from lattice.identity.keys import Kind


@pytest.fixture
def ring(tmp_path: Path) -> Keyring:
    return Keyring(tmp_path / "keys")


def test_a_key_is_kept_for_its_owner_only(ring: Keyring) -> None:
    seed = keys.new_seed(Kind.ACCOUNT)

    path = ring.save("me_account", seed)

    assert path == ring.directory / "me_account.nk"
    assert path.read_text() == seed
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(ring.directory.stat().st_mode) == 0o700
    assert ring.load("me_account").seed == ring.load("me_account.nk").seed == seed
    assert ring.names() == ["me_account"]


def test_no_key_is_ever_replaced(ring: Keyring) -> None:
    seed = keys.new_seed(Kind.ACCOUNT)
    ring.save("me", seed)

    with pytest.raises(errors.AlreadyExists):
        ring.save("me", keys.new_seed(Kind.ACCOUNT))
    assert ring.load("me").seed == seed
    assert [path.name for path in ring.directory.iterdir()] == ["me.nk"]


def test_a_directory_that_is_not_there_has_no_keys(ring: Keyring) -> None:
    assert ring.names() == []
    with pytest.raises(errors.NotFound) as caught:
        ring.load("me")
    assert "lattice keys list" in caught.value.remedy


@pytest.mark.parametrize("name", ["", ".nk", "../me", "/etc/passwd", ".hidden", "x" * 200])
def test_what_can_t_be_a_file_of_the_directory_is_no_name(ring: Keyring, name: str) -> None:
    with pytest.raises(errors.InvalidRequest, match="not a name"):
        ring.save(name, keys.new_seed(Kind.ACCOUNT))


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"SA but no seed", bytes(5000)])
def test_a_file_that_is_no_seed_is_refused_without_repeating_it(
    ring: Keyring, content: bytes
) -> None:
    ring.directory.mkdir()
    (ring.directory / "odd.nk").write_bytes(content)

    with pytest.raises(errors.InvalidRequest) as caught:
        ring.load("odd")
    assert "but no seed" not in caught.value.text


def test_a_directory_that_is_a_file_is_a_typed_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ring = Keyring(tmp_path / "file")

    with pytest.raises(errors.InvalidRequest, match="not a directory"):
        ring.save("me", keys.new_seed(Kind.ACCOUNT))
    with pytest.raises(errors.InvalidRequest, match="can't read"):
        ring.names()


def test_keys_are_where_the_user_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("LATTICE_HOME", raising=False)
    assert keyring.keyring(None).directory == Path("~/.lattice/keys").expanduser()

    monkeypatch.setenv("LATTICE_HOME", str(tmp_path))
    assert keyring.keyring(None).directory == tmp_path / "keys"
    assert keyring.keyring(Path("~/mine")).directory == Path("~/mine").expanduser()


def test_a_missing_key_is_made_once_and_then_used(
    ring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("USER", "ada")

    first, note = keyring.account(None, ring, make=True)
    second, silence = keyring.account(None, ring, make=True)

    assert (first.kind, first.public_key) == (Kind.ACCOUNT, second.public_key)
    assert (str(ring.directory / "ada_account.nk") in note, silence) == (True, "")


def test_no_key_is_made_for_somebody_who_does_not_want_one(ring: Keyring) -> None:
    with pytest.raises(errors.NotFound):
        keyring.account(None, ring, make=False)
    with pytest.raises(errors.NotFound):
        keyring.subject(None, ring, "echo", Kind.COMPONENT, make=False)
    assert not ring.directory.exists()


def test_an_actor_has_a_key_of_its_own_under_wash_s_name(ring: Keyring) -> None:
    public, _ = keyring.subject(None, ring, "echo", Kind.COMPONENT, make=True)

    assert public == ring.load("echo_module").public_key
    assert public.startswith("M")


def test_an_issuer_may_be_a_seed_or_a_file(ring: Keyring, tmp_path: Path) -> None:
    seed = keys.new_seed(Kind.ACCOUNT)
    file = tmp_path / "seed"
    file.write_text(f"{seed}\n")

    assert keyring.account(seed, ring, make=False)[0].seed == seed
    assert keyring.account(str(file), ring, make=False)[0].seed == seed


def test_a_subject_may_be_a_public_key(ring: Keyring) -> None:
    pair = keys.parse_seed(keys.new_seed(Kind.COMPONENT))

    for given in (pair.public_key, pair.seed):
        found, _ = keyring.subject(given, ring, "echo", Kind.COMPONENT, make=False)
        assert found == pair.public_key


def test_keys_in_each_other_s_place_are_refused(ring: Keyring) -> None:
    with pytest.raises(errors.InvalidRequest, match="of kind component, want account"):
        keyring.account(keys.new_seed(Kind.COMPONENT), ring, make=False)
    with pytest.raises(errors.InvalidRequest, match="of kind account, want component"):
        keyring.subject(keys.new_seed(Kind.ACCOUNT), ring, "echo", Kind.COMPONENT, make=False)


def test_a_mistyped_seed_is_not_repeated(ring: Keyring) -> None:
    seed = keys.new_seed(Kind.ACCOUNT)

    for mistyped in (seed[:-1], seed + "A", seed[:-1] + "1", seed.lower().replace("s", "S", 1)):
        with pytest.raises(errors.LatticeError) as caught:
            keyring.account(mistyped, ring, make=False)
        assert mistyped not in caught.value.text
