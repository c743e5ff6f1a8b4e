"""``lattice test`` on a project's own tests, and what its fixtures do there."""

import sys
from pathlib import Path

import pytest

from tests.e2e.test_dev import STORE, example, new_project
from tests.support import command_line, wat
from tests.support.command_line import Outcome

pytestmark = pytest.mark.timeout(300)

RUN_TIMEOUT_S = 120.0
"""For a run of pytest, which starts a lattice for every test."""

TESTS = """
def test_it_counts(actor):
    assert actor.http.get("/page").result().json() == {"counter": 1}


async def test_it_counts_on_from_what_is_stored(actor, lattice):
    await lattice.keyvalue.set("page", "41")
    assert (await actor.http.get("/page")).json() == {"counter": 42}


async def test_it_says_that_its_store_is_away(actor, lattice):
    with lattice.fail("wasmcloud:keyvalue", "unavailable"):
        assert (await actor.http.get("/")).status_code == 503
"""

GREETS = """
[[dev.links]]
interface = "test:target"
target = "somebody"
"""


def project(folder: Path, tests: str, *, actor: str = "counter", more: str = STORE) -> Path:
    made = new_project(folder, example(actor), more=more)
    (made / "tests").mkdir()
    (made / "tests" / "test_actor.py").write_text(tests)
    return made


async def run(folder: Path, *arguments: str) -> Outcome:
    words = ("test", "--folder", str(folder), *arguments)
    return await command_line.run(*words, timeout_s=RUN_TIMEOUT_S)


async def test_a_project_s_tests_are_run_against_fakes_in_lattices_of_their_own(
    tmp_path: Path,
) -> None:
    outcome = await run(project(tmp_path / "shop", TESTS))

    assert outcome.status == 0, outcome.output + outcome.errors
    assert "3 passed" in outcome.output


async def test_a_failing_test_is_pytest_s_status_and_report(tmp_path: Path) -> None:
    tests = TESTS.replace('{"counter": 42}', '{"counter": 43}')
    outcome = await run(project(tmp_path / "shop", tests))

    assert outcome.status == 1
    assert "1 failed, 2 passed" in outcome.output
    assert "test_it_counts_on_from_what_is_stored" in outcome.output


async def test_arguments_are_passed_on_to_pytest(tmp_path: Path) -> None:
    folder = project(tmp_path / "shop", TESTS)

    picked = await run(folder, "--", "-k", "away")
    named = await run(folder, "tests/test_actor.py::test_it_counts")
    none = await run(folder, "--", "-k", "nothing")

    assert "1 passed, 2 deselected" in picked.output
    assert "1 passed" in named.output
    assert none.status == 5, "pytest's own for no tests"


async def test_with_real_capabilities_the_project_s_own_config_is_used(tmp_path: Path) -> None:
    refused = STORE + 'provider_config = { backend = "redis", url = "redis://127.0.0.1:1" }\n'
    folder = project(tmp_path / "shop", TESTS.split("async", maxsplit=1)[0], more=refused)

    faked = await run(folder)
    real = await run(folder, "--real")

    assert faked.status == 0, faked.output
    assert real.status == 1
    assert "redis at 127.0.0.1:1" in real.output


async def test_a_project_that_does_not_build_is_not_tested(tmp_path: Path) -> None:
    folder = project(tmp_path / "shop", TESTS)
    (folder / "source.wasm").write_bytes(b"int main(")

    outcome = await run(folder)

    assert outcome.status == 1
    assert "expected a module" in outcome.errors
    assert "passed" not in outcome.output


async def test_a_project_without_tests_is_told_where_they_go(tmp_path: Path) -> None:
    outcome = await run(new_project(tmp_path / "shop", example("echo")))

    assert outcome.status == 3
    assert "tests/test_actor.py" in outcome.errors


async def test_a_link_to_another_actor_is_answered_by_the_test(tmp_path: Path) -> None:
    tests = """
from lattice import errors
import pytest

async def test_it(actor, lattice):
    with pytest.raises(errors.ActorError, match="lattice.fake"):
        await actor.call("Ask.Name")
    lattice.fake("test:target", Name=lambda: "world")
    assert (await actor.call("Ask.Name")).value == "world"
    assert lattice.capability("test:target").operations() == ["Ask.Name", "Ask.Name"]
"""
    folder = project(tmp_path / "asks", tests, more=GREETS)
    (folder / "source.wasm").write_bytes(wat.actor("relay"))

    outcome = await run(folder)

    assert outcome.status == 0, outcome.output + outcome.errors


async def test_where_pytest_is_missing_it_says_how_to_get_it(tmp_path: Path) -> None:
    folder = project(tmp_path / "shop", TESTS)
    hidden = (
        "import sys, importlib.util as u; find = u.find_spec;"
        "u.find_spec = lambda name, *rest: None if name == 'pytest' else find(name, *rest);"
        f"sys.argv = ['lattice', 'test', '--folder', {str(folder)!r}];"
        "from lattice.cli.main import main; main()"
    )

    outcome = await command_line.run_shell(f'{sys.executable} -c "{hidden}"')

    assert outcome.status == 3
    assert "pip install 'lattice-runtime[testing]'" in outcome.errors


async def test_the_plugin_costs_other_test_runs_nothing() -> None:
    probe = (
        "import sys; before = set(sys.modules); import pytest; with_pytest = set(sys.modules);"
        "import lattice.pytest_plugin;"
        "print(sorted(set(sys.modules) - with_pytest))"
    )

    outcome = await command_line.run_shell(f'{sys.executable} -P -c "{probe}"')

    assert outcome.output.strip() == "['lattice', 'lattice.pytest_plugin']", outcome.errors
