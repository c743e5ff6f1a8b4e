from pathlib import Path

import pytest
from pydantic import ValidationError

from host.settings import HostSettings


def test_the_data_directory_may_be_named_by_its_home(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert HostSettings(data_dir=Path("~/data")).data_dir == tmp_path / "data"
    assert HostSettings().data_dir == tmp_path / ".cache/lattice"


def test_the_home_of_nobody_is_a_wrong_setting() -> None:
    with pytest.raises(ValidationError, match="there is no home directory for ~nobody-at-all"):
        HostSettings(data_dir=Path("~nobody-at-all/data"))
