"""The page for those who come from wasmCloud has every command of ``wash``, and ours exist."""

import re

import pytest

from tests.support import command_reference
from tests.support.reference_docs import DOCS

PAGE = (DOCS / "coming-from-wasmcloud.md").read_text()

ROWS = re.findall(r"^\| `wash ([a-z ]+)` \| (.*?) \| .*\|$", PAGE, re.MULTILINE)

WASH = """
app delete, app deploy, app get, app history, app list, app put, app status, app undeploy,
app validate, build, call, capture, claims inspect, claims sign, claims token, completions,
config del, config get, config put, ctx default, ctx del, ctx edit, ctx list, ctx new, dev, down,
drain, get claims, get hosts, get inventory, get links, inspect, keys gen, keys get, keys list,
label, link del, link put, link query, new, par create, par insert, par inspect, plugin, pull,
push, scale component, secrets del, secrets get, secrets put, spy, start component,
start provider, stop component, stop host, stop provider, ui, up, update component, wit
"""
"""Every command of ``wash`` 0.44; 0.43 has the same."""

OURS = {listed.name for listed in command_reference.commands()}


def test_every_command_of_wash_has_its_row() -> None:
    wanted = {" ".join(name.split()) for name in WASH.split(",")}

    assert {name for name, _ in ROWS} == wanted
    assert len(ROWS) == len(wanted)


@pytest.mark.parametrize(("wash", "here"), ROWS, ids=lambda text: str(text).strip("`"))
def test_what_does_it_here_exists(wash: str, here: str) -> None:
    if here in {"not there", "not needed"}:
        return
    match = re.fullmatch(r"`lattice ([a-z ]+)`", here)
    assert match, f"{wash}: {here}"
    assert match[1] in OURS
