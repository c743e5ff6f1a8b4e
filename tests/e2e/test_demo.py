"""``make demo`` is this command: it verifies itself, and leaves nothing behind."""

from tests.support import command_line


async def test_the_demo_verifies_every_step_and_ends() -> None:
    outcome = await command_line.run("demo", "--once")

    assert outcome.status == 0, outcome.output + outcome.errors
    assert '{"counter": 3}' in outcome.output
    assert "no_link" in outcome.output
    assert "Undeployed application: hello" in outcome.output


async def test_a_demo_that_fails_names_the_step() -> None:
    unreachable = {"LATTICE_NATS_URL": f"nats://127.0.0.1:{command_line.free_port()}"}

    outcome = await command_line.run("demo", "--once", environment=unreachable)

    assert outcome.status != 0
    assert "no NATS server answers" in outcome.output + outcome.errors
