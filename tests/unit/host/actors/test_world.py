"""What an actor finds through WASI: its config asks, and the host's operator allows."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from host.actors.world import DIRECTORIES_MAX, STRINGS_BYTES_MAX, Allowed, parse_allowed, world_of
from host.engine import NOTHING, Directory
from host.settings import HostSettings
from lattice import errors

ALLOWED = {"media": Allowed(Path("/srv/media"), False), "tmp": Allowed(Path("/srv/tmp"), True)}


def test_without_a_word_in_its_config_an_actor_finds_nothing() -> None:
    assert world_of({"color": "blue"}, ALLOWED) == NOTHING


def test_a_config_names_directories_arguments_and_variables() -> None:
    world = world_of(
        {
            "wasi.preopen./data": "media",
            "wasi.preopen./scratch": "tmp:rw",
            "wasi.preopen./look": "tmp",
            "wasi.args": "program 'two words'",
            "wasi.env.HOME": "/=x",
        },
        ALLOWED,
    )
    assert world.directories == (
        Directory(guest_path="/data", host_path=Path("/srv/media")),
        Directory(guest_path="/scratch", host_path=Path("/srv/tmp"), writable=True),
        Directory(guest_path="/look", host_path=Path("/srv/tmp")),
    )
    assert world.arguments == (b"program", b"two words")
    assert world.environment == (b"HOME=/=x",)


@pytest.mark.parametrize(
    ("value", "said"),
    [("secrets", "LATTICE_PREOPEN=secrets=/PATH"), ("media:rw", "read-only"), ("/etc", "no dir")],
)
def test_what_the_host_does_not_allow_is_denied(value: str, said: str) -> None:
    with pytest.raises(errors.Denied, match=said):
        world_of({"wasi.preopen./data": value}, ALLOWED)


@pytest.mark.parametrize(
    "config",
    [
        {"wasi.preopen.data": "media"},
        {"wasi.preopen.": "media"},
        {"wasi.args": "'open"},
        {"wasi.env.A": "x\0y"},
        {"wasi.env.": "x"},
        {"wasi.env.A=B": "x"},
        {"wasi.env.A": "x" * STRINGS_BYTES_MAX},
        {f"wasi.preopen./{number}": "media" for number in range(DIRECTORIES_MAX + 1)},
    ],
    ids=["relative", "nowhere", "quote", "zero", "no name", "no such name", "too long", "too many"],
)
def test_what_makes_no_sense_is_refused(config: dict[str, str]) -> None:
    with pytest.raises(errors.InvalidRequest):
        world_of(config, ALLOWED)


def test_the_setting_lists_directories_by_name() -> None:
    assert parse_allowed("media=/srv/media, tmp=/srv/tmp:rw") == ALLOWED
    assert HostSettings(preopen="media=/srv/media").preopens == parse_allowed("media=/srv/media")
    assert HostSettings().preopens == {}


@pytest.mark.parametrize("text", ["/srv", "a=srv", "=/srv", "a=/x,a=/y", "a:rw=/x"])
def test_any_other_setting_is_refused(text: str) -> None:
    with pytest.raises(ValidationError, match="NAME=/PATH"):
        HostSettings(preopen=text)
