"""One of several processes of the service: a new interpreter that imports it, and serves."""

from __future__ import annotations

import gc
import socket

from orchestrator.foundation.settings import Settings


def worker(settings: Settings, listening: socket.socket) -> None:
    """Serve until a signal."""
    # Imports leave almost no garbage: collecting it takes a third of the start. `tune_gc` enables
    # collection.
    gc.disable()
    # Here, not with the reference to this function, which the process resolves first.
    from orchestrator.cli.service import child

    child(settings, listening)
