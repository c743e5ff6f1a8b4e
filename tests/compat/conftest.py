"""Stock wasmCloud programs against our hosts. Without the programs on PATH these tests are skipped:
they are Rust programs, whose build takes longer than everything else here together.

    cargo install wash --version 0.43.0 --locked
"""

import asyncio
import json
import os
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support.cluster import Cluster, LocalHost, lattice_cluster

PATIENCE_S = 30.0


@pytest.fixture
async def cluster(compiled: Path) -> AsyncIterator[Cluster]:
    async with lattice_cluster(compiled) as cluster:
        yield cluster


@dataclass(frozen=True)
class Wash:
    """wasmCloud's own command line, connected to a test's lattice."""

    program: str
    environment: dict[str, str]
    hosts: list[LocalHost]

    async def run(self, *arguments: str) -> str:
        """What a command prints; it must succeed."""
        output, problems, status = await self._run(*arguments)
        assert status == 0, f"wash {' '.join(arguments)}: {output}\n{problems}"
        return output

    async def json(self, *arguments: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(await self.run(*arguments, "--output", "json"))
        return found

    async def fail(self, *arguments: str) -> str:
        """What a command says that must fail."""
        output, problems, status = await self._run(*arguments)
        assert status != 0, output
        return output + problems

    async def _run(self, *arguments: str) -> tuple[str, str, int | None]:
        process = await asyncio.create_subprocess_exec(
            self.program,
            *arguments,
            env=self.environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(PATIENCE_S):
            output, problems = await process.communicate()
        return output.decode(), problems.decode(), process.returncode


def stock(program: str) -> str:
    """Where a stock program is."""
    if (found := shutil.which(program)) is None:
        pytest.skip(f"{program} is not on PATH")
    return found


@pytest.fixture
async def wash(cluster: Cluster, tmp_path: Path) -> Wash:
    """``wash`` and a lattice of two hosts."""
    program = stock("wash")
    hosts = await cluster.start_hosts(2)
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "WASMCLOUD_CTL_PORT": str(urlsplit(cluster.nats.url).port),
    }
    return Wash(program, environment, hosts)
