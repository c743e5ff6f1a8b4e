"""How much memory this process has."""

import ctypes
import gc
import os
from contextlib import suppress
from pathlib import Path


def settled_bytes() -> int:
    """Resident memory once what was freed is given back: or it would be used again unseen."""
    gc.collect()
    with suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    return resident_bytes()


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
