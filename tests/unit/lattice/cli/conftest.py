from pathlib import Path

import pytest

from lattice import log


@pytest.fixture(autouse=True)
def quiet_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the process's log as the tests have it."""
    monkeypatch.setattr(log, "configure", lambda **_: None)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home for contexts and keys of the test's own: nobody's default context is in force."""
    for name in ("LATTICE_HOME", "WASH_CONTEXTS"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    monkeypatch.delenv("LATTICE_CONTEXT", raising=False)
    return tmp_path
