"""A short selection of the fault suite, as ``make test`` runs it: real processes, fixed seeds.

Each run has one or two faults, and is judged by every checker.
"""

from pathlib import Path

import pytest
from rich.console import Console

from tests.faults import report
from tests.faults.run import Settings, run


async def judge(logs: Path, *faults: str, duration_s: float, servers: int = 1) -> None:
    settings = Settings(
        seed=1, duration_s=duration_s, servers=servers, faults=faults, is_short=True
    )
    found = await run(settings, logs=logs)
    if not found.ok:
        report.show(found, Console(width=200))
    assert found.ok, found.violations[0].text
    assert {row.fault for row in found.faults} == set(faults)
    assert next(row for row in found.calls if row.way == "all").answered > 0


@pytest.mark.timeout(120)
async def test_promises_hold_while_a_host_is_killed_and_connections_are_reset(
    tmp_path: Path,
) -> None:
    await judge(tmp_path, "host killed", "connections reset", duration_s=15)


@pytest.mark.timeout(120)
async def test_promises_hold_while_the_leader_of_three_nats_servers_is_killed(
    tmp_path: Path,
) -> None:
    await judge(tmp_path, "NATS leader killed", duration_s=20, servers=3)
