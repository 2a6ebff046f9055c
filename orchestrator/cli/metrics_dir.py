"""The folder in which several processes share their metrics, so that each can report all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

#: Read by the Prometheus client library at import.
_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"


@contextlib.contextmanager
def shared() -> Iterator[Path]:
    """Create the folder for child processes; it is deleted at the end of the block."""
    before = os.environ.get(_VARIABLE)
    with tempfile.TemporaryDirectory(prefix="orchestrator-metrics-") as folder:
        os.environ[_VARIABLE] = folder
        try:
            yield Path(folder)
        finally:
            del os.environ[_VARIABLE]
            if before is not None:
                os.environ[_VARIABLE] = before


def forget(folder: Path, pid: int) -> None:
    """Delete the gauges of a process that has ended. Its counters stay: they never decrease."""
    for file in folder.glob(f"gauge_live*_{pid}.db"):
        file.unlink(missing_ok=True)
