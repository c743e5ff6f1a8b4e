"""``lattice``, and ``python -m lattice.cli`` for the interpreter that is running.

Importing the commands is most of a short run's time, so an interrupt may well come then.
"""

import gc
import sys

INTERRUPTED = 130
"""As shells report a program that SIGINT ended."""


def main() -> None:
    """Run the command line of this process."""
    # What is imported stays: to look for garbage in it takes a tenth of the time.
    gc.disable()
    try:
        from lattice.cli import main as commands  # noqa: PLC0415 - to be within reach of `except`

        gc.enable()
        commands.main()
    except KeyboardInterrupt:
        # A command ends by itself then; this is for the moments before it runs.
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
