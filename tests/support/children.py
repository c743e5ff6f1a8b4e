"""The processes that a test started; each may end between two looks at it."""

import psutil


def descendants(pid: int) -> list[psutil.Process]:
    """Every living process that a process started, however far down."""
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def has_ended(process: psutil.Process) -> bool:
    """Whether a process is gone, or only its status is left."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def arguments(process: psutil.Process) -> list[str]:
    """The command line of a process; empty once it has ended."""
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []
