"""Compiled modules on disk: found again, never trusted blindly, bounded."""

import os
import stat
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from host.engine import Engine, EngineSettings, EngineStatistics
from host.engine.cache import KEY_NAME, SUFFIX, Cache
from tests.support.host_calls import execution, run
from tests.support.wat import actor


async def load_and_run(
    directory: Path, name: str = "echo", *, bytes_max: int = 1 << 20, fuel: bool = False
) -> EngineStatistics:
    """One start of a host: an engine, a module, a call."""
    engine = Engine(
        EngineSettings(instances_max=2, cache_dir=directory, cache_bytes_max=bytes_max, fuel=fuel)
    )
    try:
        module = await engine.load(actor(name))
        assert await run(execution(module, b"payload"))
        return engine.statistics()
    finally:
        engine.close()


def artefacts(directory: Path) -> list[Path]:
    return sorted(directory.glob(f"*{SUFFIX}"))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def test_a_second_start_compiles_nothing(tmp_path: Path) -> None:
    first = await load_and_run(tmp_path / "cache")
    second = await load_and_run(tmp_path / "cache")
    assert (first.compiled, first.cache_hits) == (1, 0)
    assert (second.compiled, second.cache_hits) == (0, 1)


async def test_the_cache_is_readable_by_this_user_alone(tmp_path: Path) -> None:
    directory = tmp_path / "cache"
    await load_and_run(directory)
    assert mode(directory) == 0o700
    assert {mode(path) for path in artefacts(directory)} == {0o600}
    assert mode(directory / KEY_NAME) == 0o600


async def test_a_directory_open_to_others_is_closed_to_them(tmp_path: Path) -> None:
    opened = tmp_path
    opened.chmod(0o755)
    await load_and_run(opened)
    assert mode(tmp_path) == 0o700


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def replace_by_code_without_a_tag(path: Path) -> None:
    path.write_bytes(path.read_bytes()[32:])


def change_the_key(path: Path) -> None:
    (path.parent / KEY_NAME).write_bytes(os.urandom(32))


def cut_the_key_short(path: Path) -> None:
    (path.parent / KEY_NAME).write_bytes(b"short")


@pytest.mark.parametrize(
    "spoil",
    [
        flip_a_bit,
        cut_short,
        empty,
        replace_by_code_without_a_tag,
        change_the_key,
        cut_the_key_short,
    ],
)
async def test_a_spoilt_artefact_is_compiled_again_and_never_loaded(
    tmp_path: Path, spoil: object
) -> None:
    await load_and_run(tmp_path)
    (path,) = artefacts(tmp_path)
    assert callable(spoil)
    spoil(path)

    with capture_logs() as logs:
        spoilt = await load_and_run(tmp_path)
    assert (spoilt.compiled, spoilt.cache_hits) == (1, 0)
    assert [line["log_level"] for line in logs if "authentic" in line["event"]] == ["warning"]
    assert (await load_and_run(tmp_path)).cache_hits == 1


async def test_an_artefact_of_one_module_cannot_stand_in_for_another(tmp_path: Path) -> None:
    await load_and_run(tmp_path, "echo")
    (echo,) = artefacts(tmp_path)
    await load_and_run(tmp_path, "relay")
    (relay,) = (path for path in artefacts(tmp_path) if path != echo)
    relay.write_bytes(echo.read_bytes())

    assert (await load_and_run(tmp_path, "relay")).compiled == 1


async def test_settings_that_shape_the_code_have_artefacts_of_their_own(tmp_path: Path) -> None:
    await load_and_run(tmp_path)
    assert (await load_and_run(tmp_path, fuel=True)).compiled == 1
    assert len(artefacts(tmp_path)) == 2


async def test_a_directory_that_cannot_be_made_only_costs_time(tmp_path: Path) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_bytes(b"")
    statistics = await load_and_run(in_the_way / "cache")
    assert statistics.compiled == 1


def test_the_least_recently_used_artefact_goes_first(tmp_path: Path) -> None:
    cache = Cache(tmp_path, bytes_max=1000, fingerprint="")
    for age, name in enumerate(["old", "older", "oldest"]):
        cache.put(name, bytes(250))
        os.utime(tmp_path / f"{name}{cache._suffix}", ns=(0, -age * 10**9 + 10**12))
    assert cache.get("oldest") is not None

    cache.put("new", bytes(250))
    present = {name for name in ("old", "older", "oldest", "new") if cache.get(name)}
    assert present == {"old", "oldest", "new"}


def test_an_artefact_larger_than_the_cache_is_not_kept(tmp_path: Path) -> None:
    cache = Cache(tmp_path, bytes_max=100, fingerprint="")
    cache.put("large", bytes(100))
    assert cache.get("large") is None


def test_two_hosts_that_share_a_directory_share_the_key(tmp_path: Path) -> None:
    first = Cache(tmp_path, bytes_max=1000, fingerprint="same")
    second = Cache(tmp_path, bytes_max=1000, fingerprint="same")
    first.put("module", b"code")
    assert second.get("module") == b"code"
    assert not list(tmp_path.glob(".*")), "nothing temporary is left"


def test_what_a_killed_host_left_unfinished_goes_and_the_key_stays(tmp_path: Path) -> None:
    cache = Cache(tmp_path, bytes_max=100, fingerprint="f")
    abandoned = tmp_path / ".abandoned"
    abandoned.write_bytes(b"x" * 90)
    for path in (abandoned, tmp_path / KEY_NAME):
        os.utime(path, (1_000, 1_000))

    cache.put("digest", b"y" * 60)

    assert not abandoned.exists()
    assert (tmp_path / KEY_NAME).exists()
    assert cache.get("digest") == b"y" * 60
