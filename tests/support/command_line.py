"""The ``lattice`` command as a user has it: a process of its own, sharing only the machine."""

import asyncio
import json
import os
import signal
import socket
import sysconfig
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tests.support.children import descendants, has_ended

LATTICE = Path(sysconfig.get_path("scripts")) / "lattice"

READY_TIMEOUT_S = 45.0
END_TIMEOUT_S = 30.0
COMMAND_TIMEOUT_S = 300.0
"""Patience with a command that installs a compiler, or has a host compile an interpreter."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command ended and what it said."""

    status: int
    output: str
    errors: str

    @property
    def json(self) -> dict[str, Any]:
        value = json.loads(self.output)
        assert isinstance(value, dict)
        return value


@dataclass(frozen=True, slots=True)
class Lattice:
    """A lattice that ``lattice up`` runs."""

    nats_url: str
    hosts: dict[str, str]
    """Host ids by friendly name."""
    process: asyncio.subprocess.Process

    async def run(self, *arguments: str) -> Outcome:
        """Run ``lattice ARGUMENTS`` against it."""
        return await run(*arguments, environment={"LATTICE_NATS_URL": self.nats_url})

    async def shell(self, line: str, *, directory: Path | None = None) -> Outcome:
        """Run a line as it would be typed, against it; in a directory, that is the home as well."""
        environment = {"LATTICE_NATS_URL": self.nats_url}
        if directory is not None:
            environment["LATTICE_HOME"] = str(directory / ".lattice")
        return await run_shell(line, environment=environment, directory=directory)


async def run(
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    timeout_s: float = COMMAND_TIMEOUT_S,
) -> Outcome:
    process = await asyncio.create_subprocess_exec(
        LATTICE, *arguments, env=_environment(environment), **_PIPES
    )
    return await _outcome(process, timeout_s)


async def run_shell(
    line: str, *, environment: Mapping[str, str] | None = None, directory: Path | None = None
) -> Outcome:
    """Run a line as it would be typed, with ``lattice`` and this Python on the path."""
    process = await asyncio.create_subprocess_shell(
        line, env=_environment(environment), cwd=directory, **_PIPES
    )
    return await _outcome(process)


@asynccontextmanager
async def up(data_dir: Path, *arguments: str) -> AsyncIterator[Lattice]:
    """``lattice up`` on a free port; afterwards nothing of it may be left."""
    process = await asyncio.create_subprocess_exec(
        LATTICE,
        "up",
        "--port",
        str(free_port()),
        "--data-dir",
        str(data_dir),
        "--output",
        "json",
        *arguments,
        env=_environment(None),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(READY_TIMEOUT_S):
            ready = json.loads(await process.stdout.readline())
        names = {host["name"]: host["id"] for host in ready["hosts"]}
        yield Lattice(ready["nats_url"], names, process)
    finally:
        family = descendants(process.pid)
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(END_TIMEOUT_S):
            await process.wait()
        assert not [child for child in family if not has_ended(child)]


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def is_listening(port: int) -> bool:
    """Whether somebody takes connections on a port of this machine."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except ConnectionError:
        return False
    return True


def is_free(port: int) -> bool:
    """Whether a port of this machine can be listened on."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


_PIPES: dict[str, Any] = {
    "stdin": asyncio.subprocess.DEVNULL,
    "stdout": asyncio.subprocess.PIPE,
    "stderr": asyncio.subprocess.PIPE,
}


def _environment(extra: Mapping[str, str] | None) -> dict[str, str]:
    own = {key: value for key, value in os.environ.items() if not key.startswith("LATTICE_")}
    path = f"{LATTICE.parent}{os.pathsep}{own.get('PATH', '')}"
    # Nobody's contexts and keys but the test's own.
    isolated = {"LATTICE_HOME": os.devnull, "WASH_CONTEXTS": os.devnull}
    return own | {"PATH": path, "NO_COLOR": "1", "COLUMNS": "200"} | isolated | dict(extra or {})


async def _outcome(
    process: asyncio.subprocess.Process, timeout_s: float = COMMAND_TIMEOUT_S
) -> Outcome:
    try:
        async with asyncio.timeout(timeout_s):
            output, errors = await process.communicate()
    finally:
        if process.returncode is None:
            # A shell leaves what it waits for behind.
            for child in descendants(process.pid):
                with suppress(psutil.NoSuchProcess):
                    child.kill()
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return Outcome(process.returncode, output.decode(), errors.decode())
