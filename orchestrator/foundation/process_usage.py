"""What this process uses: CPU and memory, as the operating system counts them."""

from __future__ import annotations

import os
from pathlib import Path

#: Linux: sizes of the process in pages, the resident one second (proc_pid_statm(5)).
_STATM = Path("/proc/self/statm")


def cpu_seconds() -> float:
    """Return the CPU time of all threads since the process began, in user mode and the kernel."""
    times = os.times()
    return times.user + times.system


def resident_bytes() -> int | None:
    """Return the resident memory; None where the system does not show it in `/proc`."""
    try:
        return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return None
