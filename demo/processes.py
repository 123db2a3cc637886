"""A process and all below it: what they take together."""

from contextlib import suppress

import psutil


def family(pid: int) -> list[psutil.Process]:
    """The process and its descendants; none when it has ended."""
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def proportional_bytes(pid: int) -> int:
    """Memory of a family; proportional, so that shared pages count once."""
    total = 0
    for process in family(pid):
        # It may end between listing and looking.
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied, FileNotFoundError):
            total += int(process.memory_full_info().pss)
    return total


def cpu_s(pid: int) -> float:
    """CPU seconds, user and system, of a family so far."""
    total = 0.0
    for process in family(pid):
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
    return total
