"""Where processes behind one socket keep what they count, so that each can tell Prometheus of all of them."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

#: Read by the client library; `orchestrator.metrics` is not imported for it, since it would look at once.
_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"


@contextlib.contextmanager
def shared() -> Iterator[Path]:
    """Make a folder that processes which start meanwhile share. It is gone afterwards, and they should be."""
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
    """Let go of what was true of a process while it lived. What it counted stays: counters never go back."""
    for file in folder.glob(f"gauge_live*_{pid}.db"):
        file.unlink(missing_ok=True)
