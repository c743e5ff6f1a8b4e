"""What this process has open."""

from pathlib import Path


def open_below(directory: Path) -> list[str]:
    """Files and directories below one."""
    found = []
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            target = str(descriptor.readlink())
        except FileNotFoundError:
            continue
        if target.startswith(str(directory)):
            found.append(target)
    return found
