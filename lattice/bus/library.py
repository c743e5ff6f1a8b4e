"""nats-py, imported without aiohttp, which takes longer to import than all the rest of a command.

nats-py imports it wherever it is installed, and needs it for WebSockets only.
"""

import importlib
import importlib.util
import sys
from typing import Any

WEB_SOCKETS = ("ws://", "wss://")


def _import_without_aiohttp() -> None:
    if "aiohttp" in sys.modules:
        return
    sys.modules["aiohttp"] = None  # type: ignore[assignment]
    try:
        importlib.import_module("nats.aio.transport")
    finally:
        del sys.modules["aiohttp"]


def import_web_sockets() -> None:
    """Import what connections over WebSockets need, where it is installed."""
    transport: Any = importlib.import_module("nats.aio.transport")
    if importlib.util.find_spec("aiohttp") is not None:
        transport.aiohttp = importlib.import_module("aiohttp")
        transport.multidict = importlib.import_module("multidict")


_import_without_aiohttp()
