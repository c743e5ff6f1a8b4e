"""structlog, set up once per process: constant phrases with keys, to standard error.

It imports rich for tracebacks that we don't have it write, and with it pygments and attrs: four
megabytes of every host and every provider. So it is imported without, wherever this module comes
before it; ``host``, ``providers`` and ``lattice.bus`` begin with it.
"""

import importlib
import logging
import sys
from typing import Literal


def _import_without_rich() -> None:
    if "structlog" in sys.modules:
        return
    # The command line has it already, for what it prints.
    present = sys.modules.get("rich")
    sys.modules["rich"] = None  # type: ignore[assignment]
    try:
        importlib.import_module("structlog")
    finally:
        del sys.modules["rich"]
        if present is not None:
            sys.modules["rich"] = present


_import_without_rich()

import structlog  # noqa: E402


def configure(*, level: str = "info", form: Literal["text", "json"] = "text") -> None:
    """Send log lines to standard error, so that standard output stays for results."""
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if form == "json"
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(),
            # The default prints local variables: payloads, configs and seeds among them.
            exception_formatter=structlog.dev.plain_traceback,
        )
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.StackInfoRenderer(),
            *([structlog.processors.format_exc_info] if form == "json" else []),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[level.upper()]
        ),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    # Libraries that use the standard logger report failures we already turn into typed errors.
    logging.basicConfig(stream=sys.stderr, level=logging.ERROR, format="%(name)s: %(message)s")
