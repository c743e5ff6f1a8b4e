"""What ``lattice up`` says when it is up."""

import pytest

from lattice.bus.server import NatsServer
from lattice.cli import up
from lattice.cli.local import LocalLattice
from lattice.cli.options import Options
from lattice.cli.output import Form, show
from tests.support.nats_server import nats_server


async def test_it_says_when_it_joined_a_server_that_was_there(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with nats_server() as own:
        assert "no server was started" not in said(own, capsys)
        assert "no server was started" in said(None, capsys)


def said(server: NatsServer | None, capsys: pytest.CaptureFixture[str]) -> str:
    lattice = LocalLattice(servers=("nats://127.0.0.1:4222",), lattice="default", server=server)
    show(up.ready_result(lattice, Options()), Form.TEXT)
    return capsys.readouterr().out
