"""``python -m lattice.reconcile``: one reconciler in the foreground, until it is asked to stop."""

import asyncio
import signal
import sys

from pydantic import ValidationError

from lattice import errors, log
from lattice.reconcile.settings import ReconcilerSettings
from lattice.reconcile.standalone import Standalone

USAGE_STATUS = 2
FAILURE_STATUS = 1


def main() -> int:
    """Run it; returns the exit status."""
    try:
        settings = ReconcilerSettings()
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        sys.stderr.write(f"error: setting {where}: {first['msg']}\n")
        return USAGE_STATUS
    log.configure(level=settings.log_level, form=settings.log_format)
    try:
        asyncio.run(_until_signalled(settings))
    except errors.LatticeError as error:
        sys.stderr.write(f"error: {error.text} [{error.code}]\n")
        return FAILURE_STATUS
    return 0


async def _until_signalled(settings: ReconcilerSettings) -> None:
    standalone = Standalone(
        settings.nats, settings.lattice, name=settings.name, prefix=settings.ctl_topic_prefix
    )
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, standalone.request_stop)
    await standalone.run()


if __name__ == "__main__":
    sys.exit(main())
