"""Files that people name."""

import stat
from pathlib import Path

import pytest

from lattice import errors
from lattice.cli import files


def test_a_file_is_written_with_the_directories_it_wants(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b"

    files.write(path, b"one")
    files.write(path, b"two")

    assert files.read(path, 3) == b"two"
    assert list(path.parent.iterdir()) == [path]
    # As any other program would have made it.
    (tmp_path / "other").touch()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / "other").stat().st_mode)


def test_what_can_t_be_read_is_a_typed_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"four")

    with pytest.raises(errors.NotFound, match="there is no file"):
        files.read(tmp_path / "none", 10)
    with pytest.raises(errors.InvalidRequest, match="can't read"):
        files.read(tmp_path / "file" / "below", 10)
    with pytest.raises(errors.InvalidRequest, match="not a file"):
        files.read(tmp_path, 1 << 20)
    with pytest.raises(errors.PayloadTooLarge):
        files.read(tmp_path / "file", 3)


def test_what_can_t_be_written_is_a_typed_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(errors.InvalidRequest, match="can't write"):
        files.write(tmp_path / "file" / "below", b"")
    with pytest.raises(errors.InvalidRequest, match="can't write"):
        files.write(tmp_path, b"")
    assert [path.name for path in tmp_path.parent.glob(f".{tmp_path.name}.*")] == []


@pytest.mark.parametrize("name", ["x" * 100_000, "none", "."])
def test_what_is_no_file_is_none_whatever_its_name(name: str) -> None:
    assert not files.is_file(Path(name))


def test_the_home_of_nobody_is_a_typed_error() -> None:
    with pytest.raises(errors.InvalidRequest, match="~nobody-here/x: there is no such home"):
        files.named("~nobody-here/x")
