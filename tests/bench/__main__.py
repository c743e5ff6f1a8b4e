"""``python -m tests.bench [PART ...]``: every part when none is named; see ``PARTS``."""

import asyncio
import faulthandler
import sys
import traceback

import uvloop

from lattice import log
from tests.bench import (
    chain,
    cold_calls,
    control_plane,
    cpu,
    engine,
    failover,
    http_actor,
    idle,
    languages,
    nats_echo,
    overload,
    report,
    scale,
)

PARTS = {
    "calls": cold_calls.measure,
    "engine": engine.measure,
    "idle": idle.measure,
    "cpu": cpu.measure,
    "scale": scale.measure,
    "nats": nats_echo.measure,
    "overload": overload.measure,
    "http": http_actor.measure,
    "chain": chain.measure,
    "control": control_plane.measure,
    "failover": failover.measure,
    "languages": languages.measure,
}
"""A part is a coroutine that gives rows; it starts what it needs and leaves nothing behind."""

PART_S_MAX = 300.0
"""Longest that a part may take, what it installs included; all together take a few minutes."""


def main() -> None:
    names = sys.argv[1:] or list(PARTS)
    if unknown := set(names) - set(PARTS):
        sys.exit(f"no part named {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    faulthandler.enable()
    log.configure(level="error")
    rows: list[report.Row] = []
    failed = []
    for name in names:
        sys.stderr.write(f"measuring {name} …\n")
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                rows += runner.run(_measured(name))
        except Exception:
            # The others can still be had, and took their time.
            traceback.print_exc()
            failed.append(name)
    reached = report.publish(rows, complete=set(names) == set(PARTS) and not failed)
    if failed:
        sys.exit(f"could not be measured: {', '.join(failed)}")
    sys.exit(0 if reached else 1)


async def _measured(name: str) -> list[report.Row]:
    async with asyncio.timeout(PART_S_MAX):
        return await PARTS[name]()


if __name__ == "__main__":
    main()
