"""Named connections: kept, chosen, and what wins over what."""

import json
from pathlib import Path
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner, Result

from lattice import errors
from lattice.cli import contexts, ctx, main, options
from lattice.cli.contexts import Context
from lattice.cli.options import Options

PROD = Context(nats_url="nats://prod:4222", lattice="prod", timeout_ms=5000)


def lattice(*arguments: str, env: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(main.build(), [*arguments, "--output", "json"], env=env)


def test_a_context_is_read_as_it_was_saved() -> None:
    contexts.save("prod", PROD)

    assert contexts.load("prod") == PROD
    assert contexts.all_names() == ["prod"]


def test_without_any_context_nothing_is_said() -> None:
    assert contexts.chosen(None) == Context()
    assert contexts.default_name() is None
    assert contexts.all_names() == []


def test_the_default_context_is_meant_when_none_is_named() -> None:
    contexts.save("prod", PROD)
    contexts.save("other", Context(lattice="other"))
    contexts.set_default("prod")

    assert contexts.chosen(None) == PROD
    assert contexts.chosen("other").lattice == "other"


def test_deleting_the_default_context_leaves_no_default() -> None:
    contexts.save("prod", PROD)
    contexts.set_default("prod")

    contexts.delete("prod")

    assert contexts.chosen(None) == Context()


def test_a_context_that_is_not_there_can_not_be_the_default() -> None:
    with pytest.raises(errors.NotFound, match="no context 'prod'"):
        contexts.set_default("prod")


@pytest.mark.parametrize("name", ["", "../x", ".hidden", "a/b", "a b", "x" * 200])
def test_what_could_lead_out_of_the_directory_is_no_name(name: str) -> None:
    with pytest.raises(errors.InvalidRequest):
        contexts.path(name)


@pytest.mark.parametrize("content", ["", "[]", "{", '{"timeout_ms": -1}', '{"lattice": 1}'])
def test_a_file_that_is_no_context_is_a_typed_error(content: str) -> None:
    contexts.save("bad", PROD)
    contexts.path("bad").write_text(content)

    with pytest.raises(errors.InvalidRequest, match=r"bad\.json is no context"):
        contexts.load("bad")


def test_an_option_wins_over_the_environment_and_that_over_the_context_named() -> None:
    contexts.save("prod", PROD)
    shown: list[tuple[str, str]] = []
    app = typer.Typer()

    async def show(
        options: Options, *, _x: Annotated[bool, typer.Option(help="x")] = False
    ) -> None:
        shown.append((options.servers[0], options.lattice_name))

    options.command(app, "show", example="")(show)
    runner = CliRunner()
    runner.invoke(app, ["--context", "prod"], env={})
    runner.invoke(app, ["--context", "prod"], env={"LATTICE_LATTICE": "env"})
    runner.invoke(app, ["--context", "prod", "-x", "option"], env={"LATTICE_LATTICE": "env"})
    contexts.set_default("prod")
    runner.invoke(app, [])

    assert shown == [
        ("nats://prod:4222", "prod"),
        ("nats://prod:4222", "env"),
        ("nats://prod:4222", "option"),
        ("nats://prod:4222", "prod"),
    ]


def test_the_credentials_of_a_context_go_to_its_own_servers_only(tmp_path: Path) -> None:
    file = tmp_path / "user.creds"
    file.touch()
    contexts.save("prod", Context(nats_url="nats://prod:4222", credentials=str(file)))

    assert Options(context="prod").settings.credentials_file == str(file)
    assert Options(context="prod", nats="nats://other").settings.credentials_file is None


def test_a_context_is_made_of_what_the_options_say() -> None:
    made = lattice("ctx", "new", "prod", "--nats", "nats://prod:4222", "-x", "prod", "-t", "5000")

    assert made.exit_code == 0
    assert contexts.load("prod") == PROD


def test_a_context_is_not_replaced_by_mistake() -> None:
    contexts.save("prod", PROD)

    again = lattice("ctx", "new", "prod", "-x", "other")
    forced = lattice("ctx", "new", "prod", "-x", "other", "--force")

    assert json.loads(again.output)["code"] == "already_exists"
    assert again.exit_code == 5
    assert forced.exit_code == 0
    assert contexts.load("prod") == Context(lattice="other")


def test_a_context_is_changed_by_options_alone() -> None:
    contexts.save("prod", PROD)

    changed = lattice("ctx", "edit", "prod", "--timeout-ms", "100")

    assert json.loads(changed.output)["context"]["timeout_ms"] == 100
    assert contexts.load("prod") == PROD.model_copy(update={"timeout_ms": 100})


def test_a_script_that_says_nothing_to_change_is_told_what_to_say() -> None:
    contexts.save("prod", PROD)

    result = lattice("ctx", "edit", "prod")

    assert result.exit_code == 2
    assert "--nats" in json.loads(result.output)["error"]


def test_use_list_show_and_del_tell_one_story() -> None:
    contexts.save("prod", PROD)

    assert json.loads(lattice("ctx", "use", "prod").output)["default"] == "prod"
    assert json.loads(lattice("ctx", "list").output) == {
        "success": True,
        "contexts": ["prod"],
        "default": "prod",
    }
    assert json.loads(lattice("ctx", "show").output)["context"]["lattice"] == "prod"
    assert lattice("ctx", "del", "prod").exit_code == 0
    assert json.loads(lattice("ctx", "show").output)["name"] is None
    assert lattice("ctx", "default", "--none").exit_code == 0
    assert lattice("ctx", "default").exit_code == 2
    assert lattice("ctx", "show", "prod").exit_code == 3


def test_a_context_of_wash_is_taken_over_and_says_what_was_not(home: Path) -> None:
    wash = home / "wash_contexts"
    wash.mkdir()
    (wash / "index.json").write_text('{"name": "old"}')
    (wash / "old.json").write_text(
        json.dumps(
            {
                "name": "old",
                "cluster_seed": "",
                "ctl_host": "10.0.0.7",
                "ctl_port": 4223,
                "ctl_jwt": "",
                "ctl_seed": "SU1",
                "ctl_credsfile": "/keys/user.creds",
                "ctl_timeout": 3000,
                "lattice_prefix": "mine",
                "js_domain": None,
                "rpc_host": "127.0.0.1",
            }
        )
    )

    assert contexts.wash_names() == ["old"]
    assert ctx.from_wash_context(contexts.wash_file("old")) == (
        Context(
            nats_url="nats://10.0.0.7:4223",
            lattice="mine",
            credentials="/keys/user.creds",
            timeout_ms=3000,
        ),
        ["ctl_seed"],
    )
    assert lattice("ctx", "new", "mine", "--from-wash", "old").exit_code == 0
    assert contexts.load("mine").lattice == "mine"
    assert lattice("ctx", "new", "none", "--from-wash", "absent").exit_code == 3


def test_what_is_no_text_is_not_kept() -> None:
    with pytest.raises(errors.InvalidRequest, match="must be UTF-8"):
        contexts.save("odd", Context(credentials="/home/\udcff"))
