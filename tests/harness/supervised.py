"""Processes for a supervisor that fail in every way. It imports little: each may start anew.

`python -m tests.harness.supervised FOLDER` is a supervisor of two that drain.
"""

from __future__ import annotations

import multiprocessing
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


def settings_of(folder: Path) -> Settings:
    """Return settings that lead to a folder."""
    return Settings(database_url=f"sqlite:///{folder / 'never.db'}")


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
        os.kill(supervising(), signal.SIGTERM)


def lingers(settings: Settings, _: socket.socket) -> None:
    """Ends only at SIGKILL; in a hurry, it answers SIGTERM with SIGINT to the supervisor."""
    hurry = (sign(settings) / "hurry").exists()
    signal.signal(
        signal.SIGTERM, lambda *_: os.kill(supervising(), signal.SIGINT) if hurry else None
    )
    os.kill(supervising(), signal.SIGTERM)
    while True:
        signal.pause()


def supervising() -> int:
    """Return the pid of the supervisor."""
    supervisor = multiprocessing.parent_process()
    assert supervisor
    assert supervisor.pid
    return supervisor.pid


def drains(settings: Settings, _: socket.socket) -> None:
    """Ends at SIGTERM."""
    ends = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ends.set())
    sign(settings)
    ends.wait()
    sign(settings, "ended")


def supervise(folder: Path, child: Child, count: int, timing: Timing) -> None:
    """Run a supervisor until a child or a signal ends it. Its processes are forked: most fail."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    with socket.create_server(("127.0.0.1", 0)) as listening:
        supervisor = Supervisor(count, child, settings_of(folder), listening, timing)
        vars(supervisor).update(_spawn=context)
        supervisor.run()


def main() -> None:
    """Supervise two that drain, started as the product starts its processes."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        Supervisor(2, drains, settings_of(Path(sys.argv[1])), listening).run()


if __name__ == "__main__":
    main()
