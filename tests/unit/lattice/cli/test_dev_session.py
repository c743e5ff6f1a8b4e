"""Whose turn it is to develop a project, where its state is kept, and where it answers."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from lattice import errors, project
from lattice.cli import dev

PROJECT = b"""
[actor]
name = "shop"
language = "c"
abi = "wapc"
output = "build/shop.wasm"
"""


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_a_project_is_held_by_one_process_at_a_time(tmp_path: Path) -> None:
    found = project.parse(PROJECT, folder=tmp_path)

    with (
        dev.held(tmp_path / "state", found),
        pytest.raises(errors.Conflict, match=f"{tmp_path}, as process {os.getpid()}:"),
        dev.held(tmp_path / "state", found),
    ):
        pass
    with dev.held(tmp_path / "state", found):
        assert (tmp_path / "state" / "lock").read_text() == f"{os.getpid()}\n"


def test_state_that_may_not_be_written_is_denied(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    found = project.parse(PROJECT, folder=tmp_path)

    with pytest.raises(errors.Denied), dev.held(tmp_path / "file" / "state", found):
        pass


def test_two_projects_of_one_name_have_states_of_their_own(tmp_path: Path) -> None:
    environment = {"XDG_DATA_HOME": str(tmp_path)}
    one, other = (dev.data_dir(tmp_path / name / "shop", environment) for name in ("a", "b"))

    assert one != other
    assert one.parent == tmp_path / "lattice" / "dev"
    assert one.name.startswith("shop-")


def test_one_project_has_one_state_however_it_is_reached(tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "alias").symlink_to(tmp_path / "shop")

    assert dev.data_dir(tmp_path / "alias", {}) == dev.data_dir(tmp_path / "shop", {})


@pytest.mark.parametrize("address", ["[::1]:9000", "10.0.0.7:9000"])
def test_an_address_that_is_not_here_to_judge_is_left_as_it_is(address: str) -> None:
    assert dev.free_address(address) == address


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0"])
def test_a_taken_port_is_replaced_on_the_same_host(host: str, taken: int) -> None:
    chosen = dev.free_address(f"{host}:{taken}")

    assert chosen.startswith(f"{host}:")
    assert chosen != f"{host}:{taken}"


def test_an_open_port_is_chosen() -> None:
    assert not dev.free_address("127.0.0.1:0").endswith(":0")
