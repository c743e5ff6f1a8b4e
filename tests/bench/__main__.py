"""``python -m tests.bench [PART ...]``: every part when none is named; see ``PARTS``."""

import asyncio
import faulthandler
import sys

import uvloop

from lattice import log
from tests.bench import (
    control_plane,
    engine,
    failover,
    http_actor,
    idle,
    nats_echo,
    overload,
    report,
)

PARTS = {
    "engine": engine.measure,
    "idle": idle.measure,
    "nats": nats_echo.measure,
    "overload": overload.measure,
    "http": http_actor.measure,
    "control": control_plane.measure,
    "failover": failover.measure,
}


def main() -> None:
    names = sys.argv[1:] or list(PARTS)
    if unknown := set(names) - set(PARTS):
        sys.exit(f"no part named {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    faulthandler.enable()
    log.configure(level="error")
    rows: list[report.Row] = []
    for name in names:
        sys.stderr.write(f"measuring {name} …\n")
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            rows += runner.run(PARTS[name]())
    sys.exit(0 if report.publish(rows) else 1)


if __name__ == "__main__":
    main()
