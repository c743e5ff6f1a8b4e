"""``python -m tests.faults [--seed N] [--minutes N] [--servers 1|3] [--fault NAME ...]``."""

import argparse
import asyncio
import faulthandler
import random
import sys
from pathlib import Path

from rich.console import Console

from lattice import log
from tests.faults import report
from tests.faults.nemeses import table
from tests.faults.run import Settings, run, windows

HERE = Path(__file__).parent
REPORT = HERE / "report.json"
HISTORY = HERE / "history.jsonl"
LOGS = HERE / "logs"

SEED_MAX = 10_000


def main() -> None:
    options = _options()
    settings = Settings(
        seed=options.seed,
        duration_s=options.minutes * 60,
        servers=options.servers or 1 + 2 * (options.seed % 2),
        faults=tuple(options.fault),
    )
    faulthandler.enable()
    log.configure(level="critical")
    console = Console(width=max(120, Console().width))
    console.print(f"seed {settings.seed}, nats-servers: {settings.servers}; the schedule:")
    for window in windows(settings):
        console.print(str(window), highlight=False)
    with HISTORY.open("w") as file:
        found = asyncio.run(run(settings, file=file, logs=LOGS))
    report.write(found, REPORT)
    report.show(found, console)
    sys.exit(0 if found.ok else 1)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make faults", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(SEED_MAX))
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--servers", type=int, choices=(1, 3), help="by default the seed decides")
    parser.add_argument(
        "--fault",
        action="append",
        default=[],
        choices=[nemesis.name for nemesis in table.NEMESES],
        metavar="NAME",
        help="only this one; may be repeated",
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
