"""``lattice up``: a whole lattice from one command, and nothing left of it afterwards."""

import os
import signal
from pathlib import Path

from lattice.bus.server import NatsServer
from tests.support import command_line
from tests.support.children import descendants

ECHO = Path(__file__).parents[2] / "deploy" / "examples" / "echo" / "echo.wasm"


async def test_one_line_of_json_tells_where_everything_is(tmp_path: Path) -> None:
    async with command_line.up(tmp_path, "--hosts", "2", "--label", "zone=a") as lattice:
        assert lattice.nats_url.startswith("nats://127.0.0.1:")
        assert len(lattice.hosts) == 2

        hosts = (await lattice.run("get", "hosts", "--output", "json")).json["hosts"]
        assert {host["id"] for host in hosts} == set(lattice.hosts.values())
        assert all(host["labels"]["zone"] == "a" for host in hosts)


async def test_what_one_host_has_compiled_the_others_find(tmp_path: Path) -> None:
    async with command_line.up(tmp_path, "--hosts", "2") as lattice:
        for name in lattice.hosts:
            start = ("start", "component", str(ECHO), f"echo-{name}", "--host-id", name)
            assert (await lattice.run(*start)).status == 0

    assert len(compiled(tmp_path)) == 1


async def test_ctrl_c_ends_everything_it_started(tmp_path: Path) -> None:
    async with command_line.up(tmp_path, "--hosts", "2") as lattice:
        family = descendants(lattice.process.pid)
        assert len(family) >= 3, "a nats-server and two hosts"

        lattice.process.send_signal(signal.SIGINT)
        await lattice.process.wait()

        assert not [process for process in family if process.is_running()]


async def test_nothing_survives_when_it_is_killed(tmp_path: Path) -> None:
    async with command_line.up(tmp_path, "--hosts", "2") as lattice:
        assert (
            await lattice.run("start", "provider", "lattice+process://keyvalue", "kv")
        ).status == 0
        family = descendants(lattice.process.pid)
        assert len(family) >= 4, "a nats-server, two hosts and a provider"

        lattice.process.kill()
        await lattice.process.wait()

        for process in family:
            process.wait(timeout=command_line.END_TIMEOUT_S)


async def test_hosts_join_a_server_that_runs_already(tmp_path: Path) -> None:
    server = await NatsServer.start()
    try:
        async with command_line.up(tmp_path, "--nats", server.url) as lattice:
            assert lattice.nats_url == server.url
        assert server.pid in {process.pid for process in descendants(os.getpid())}
    finally:
        await server.aclose()


def compiled(data_dir: Path) -> list[Path]:
    """The code that hosts keep in a data directory."""
    return list(data_dir.glob("hosts/**/*.cwasm"))
