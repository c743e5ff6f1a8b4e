"""The tools of guest languages, for tests, which are skipped where these can't be had."""

import os
from pathlib import Path

import pytest

from lattice import errors
from lattice.guests import commands, tools
from lattice.guests.tools import Toolbox
from lattice.project import Language

TOOLBOX = Toolbox(folder=tools.default_folder(os.environ), environment=dict(os.environ))

NPM_S = 60.0
"""Patience with the registry of npm for one small question."""

_USES_NPM = {Language.ASSEMBLYSCRIPT, Language.JAVASCRIPT, Language.TYPESCRIPT}
_has_registry: bool | None = None


async def require(language: Language) -> None:
    """Skip the test where a language's tools are not, and can't be installed."""
    if language is Language.RUST:
        try:
            await TOOLBOX.rust_target()
        except errors.NotFound as error:
            pytest.skip(error.text)
    elif language in _USES_NPM and not await _npm_answers():
        pytest.skip("npm has no way to its registry here")


async def _npm_answers() -> bool:
    global _has_registry  # noqa: PLW0603 - asked once for all tests
    if _has_registry is None:
        node = await TOOLBOX.find(tools.NODE)
        npm = str(node.program.with_name("npm"))
        environment = node.environment(TOOLBOX.environment)
        try:
            asked = await commands.run(
                (npm, "view", "assemblyscript", "name"),
                folder=Path.cwd(),
                environment=environment,
                timeout_s=NPM_S,
            )
        except errors.DeadlineExceeded:
            _has_registry = False
        else:
            _has_registry = asked.status == 0
    return _has_registry
