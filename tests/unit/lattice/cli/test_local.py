"""A lattice on this machine: what can be decided before anything is started."""

import asyncio
import os
import socket
from pathlib import Path

import pytest

import lattice
from lattice import errors
from lattice.cli import demo, local, up
from lattice.cli.demo import Answer
from lattice.cli.local import LocalHost, LocalLattice
from lattice.cli.options import Options
from lattice.cli.output import Failed
from lattice.wire.control import Host


def test_a_port_that_somebody_listens_on_is_not_free() -> None:
    with socket.create_server((local.LOOPBACK, 0)) as server:
        port = server.getsockname()[1]
        assert not local.is_port_free(port)
    assert local.is_port_free(port)


def test_a_data_directory_is_held_by_one_at_a_time(tmp_path: Path) -> None:
    with (
        local.locked(tmp_path / "data"),
        pytest.raises(errors.Conflict, match="--data-dir"),
        local.locked(tmp_path / "data"),
    ):
        pytest.fail("it was locked twice")
    with local.locked(tmp_path / "data"):
        pass


def test_a_data_directory_that_can_not_be_made_is_a_typed_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(errors.Denied, match="file"), local.locked(tmp_path / "file"):
        pytest.fail("a file was taken for a directory")


def test_a_child_finds_our_packages_wherever_it_is_started() -> None:
    environment = local.module_environment({"PYTHONPATH": "/mine", "A": "b"})

    root = str(Path(lattice.__file__).resolve().parents[1])
    assert environment == {"A": "b", "PYTHONPATH": os.pathsep.join([root, "/mine"])}
    assert "-P" in local.module_command("host")


async def test_a_host_that_was_there_before_is_not_taken_for_ours() -> None:
    ours = await _host("alpha")
    answers = [_answer("alpha", "N-old"), _answer("beta", "N-beta")]

    local.recognise([ours], answers, {"N-old"})
    assert ours.id == ""

    local.recognise([ours], [*answers, _answer("alpha", "N-new")], {"N-old"})
    assert ours.id == "N-new"


async def test_a_signal_before_anything_waits_for_it_breaks_off_the_start() -> None:
    with local.interruption() as end:
        end.ask()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.sleep(0)


async def test_the_first_signal_asks_for_an_end_and_the_next_for_one_at_once() -> None:
    with local.interruption() as end:
        asyncio.get_running_loop().call_soon(end.ask)
        await end.wait(LocalLattice(servers=(), lattice="default"))

        end.ask()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.sleep(0)


async def test_when_every_host_was_stopped_there_is_nothing_left_to_wait_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    hosts = [await _host("alpha"), await _host("beta")]

    with local.interruption() as end:
        await end.wait(LocalLattice(servers=(), lattice="default", hosts=hosts))

    assert "host alpha was stopped" in capsys.readouterr().err


async def test_a_host_that_ends_by_itself_is_named() -> None:
    hosts = [await _host("alpha", program="false")]
    lattice = LocalLattice(servers=(), lattice="default", hosts=hosts)

    with local.interruption() as end, pytest.raises(Failed, match="host alpha ended with status"):
        await end.wait(lattice)


def test_hosts_are_numbered_and_named_after_their_machine_in_a_shared_lattice() -> None:
    assert up.host_names(2, machine=None) == ["host-1", "host-2"]
    assert up.host_names(1, machine="my_box.example.org") == ["my-box-1"]
    assert up.host_names(1, machine="") == ["host-1"]


def test_state_is_kept_where_the_xdg_specification_says() -> None:
    assert up.default_data_dir({"XDG_DATA_HOME": "/data"}) == Path("/data/lattice/up")
    assert up.default_data_dir({}) == Path("~/.local/share/lattice/up").expanduser()


def test_what_to_type_next_begins_with_what_is_not_the_default() -> None:
    usual = LocalLattice(servers=("nats://127.0.0.1:4222",), lattice="default")
    other = LocalLattice(servers=("nats://u:secret@h:1",), lattice="mine")

    assert up.next_commands(usual, Options())[0] == "lattice get hosts"
    assert up.next_commands(other, Options())[:2] == [
        "export LATTICE_NATS_URL=nats://h:1",
        "export LATTICE_LATTICE=mine",
    ]


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ('{"counter": 1}\n200\n', Answer(200, '{"counter": 1}\n')),
        ('{"title": "no"}503\n', Answer(503, '{"title": "no"}')),
        ("000\n", Answer(0, "")),
        ("", Answer(None, "")),
    ],
    ids=["body with a line end", "body without", "no connection", "no output"],
)
def test_what_curl_prints_is_taken_apart(text: str, answer: Answer) -> None:
    assert demo.parse_curl(text) == answer


@pytest.mark.parametrize("body", ["", "x", "[]", '{"counter": "1"}', '{"error": "no_link"}'])
def test_an_answer_without_a_count_has_none(body: str) -> None:
    assert Answer(200, body).counter is None


def test_the_demo_finds_its_actor_from_any_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    assert Path(demo.find_example("counter.wasm")).is_file()


def test_where_nats_runs_already_the_demo_keeps_out_of_the_default_lattice() -> None:
    assert demo.default_lattice(()) == "default"
    assert demo.default_lattice(("nats://h:1",)) == "demo"


def test_what_goes_wrong_in_a_step_keeps_its_code_and_names_the_step() -> None:
    async def act(_lattice: LocalLattice) -> None: ...

    with (
        pytest.raises(errors.AlreadyExists, match=r"step 3 \(count\) failed: port 1 is taken"),
        demo.step_named(3, demo.Step("count", act)),
    ):
        raise errors.AlreadyExists("port 1 is taken")


async def test_a_host_that_had_to_be_killed_fails_the_demo() -> None:
    demo.check_ends([await _host("alpha")])

    with pytest.raises(Failed, match="host beta ended with status 1"):
        demo.check_ends([await _host("alpha"), await _host("beta", program="false")])


async def _host(name: str, *, program: str = "true") -> LocalHost:
    process = await asyncio.create_subprocess_exec(program)
    await process.wait()
    return LocalHost(name=name, process=process, log_file=None)


def _answer(name: str, host_id: str) -> Host:
    return Host(id=host_id, friendly_name=name, labels={}, lattice="default", uptime_seconds=1)
