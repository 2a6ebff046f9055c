"""Processes for a supervisor that fail in every way. It imports little: each starts anew.

`python -m tests.harness.supervised FOLDER` is a supervisor of two that drain.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from orchestrator.cli.supervisor import Child, Supervisor, Timing
from orchestrator.foundation.settings import Settings

T = TypeVar("T")


def until(condition: Callable[[], T], what: str) -> T:
    ends = time.monotonic() + 60
    while not (found := condition()):
        assert time.monotonic() < ends, f"never came true: {what}"
        time.sleep(0.01)
    return found


def diary(folder: Path) -> list[str]:
    file = folder / "diary"
    return file.read_text().split() if file.exists() else []


def sign(settings: Settings, words: str = "") -> Path:
    """Add this process, or words, to the shared diary, and return its folder."""
    assert settings.database_file
    folder = settings.database_file.parent
    with (folder / "diary").open("a") as lines:
        lines.write(f"{words or os.getpid()}\n")
    return folder


def fails(settings: Settings, _: socket.socket) -> None:
    sign(settings)
    raise SystemExit(1)


def flaps(settings: Settings, _: socket.socket) -> None:
    """All but the first fail at once; the first ends when four have, and one more is enough."""
    folder = sign(settings)
    if diary(folder)[0] == str(os.getpid()):
        until(lambda: len(diary(folder)) > 4, "four have failed")
    if len(diary(folder)) >= 6:
        os.kill(os.getppid(), signal.SIGTERM)


def lingers(settings: Settings, _: socket.socket) -> None:
    """Ends only at SIGKILL; in a hurry, it answers SIGTERM with SIGINT to the supervisor."""
    hurry = (sign(settings) / "hurry").exists()
    signal.signal(
        signal.SIGTERM, lambda *_: os.kill(os.getppid(), signal.SIGINT) if hurry else None
    )
    os.kill(os.getppid(), signal.SIGTERM)
    while True:
        signal.pause()


def drains(settings: Settings, _: socket.socket) -> None:
    """Ends at SIGTERM."""
    ends = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ends.set())
    sign(settings)
    ends.wait()
    sign(settings, "ended")


def supervise(folder: Path, child: Child, count: int, timing: Timing | None = None) -> None:
    """Run a supervisor until a child or a signal ends it."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        settings = Settings(database_url=f"sqlite:///{folder / 'never.db'}")
        Supervisor(count, child, settings, listening, timing).run()


if __name__ == "__main__":
    supervise(Path(sys.argv[1]), drains, 2)
