"""How much memory there is for this process: the machine's, or what its control group grants."""

import os
from contextlib import suppress
from pathlib import Path

_GROUP_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
"""Where a container's limit stands, in version 2 and in version 1 of control groups."""


def machine_bytes() -> int:
    """Memory that this process could use if it were alone."""
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for file in _GROUP_LIMITS:
        # "max" where there is no limit.
        with suppress(OSError, ValueError):
            machine = min(machine, int(file.read_text()))
    return machine
