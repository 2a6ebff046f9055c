"""Processes for a supervisor that fail in every way. It imports little: each starts anew."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from orchestrator.foundation.settings import Settings

T = TypeVar("T")


def until(condition: Callable[[], T], what: str) -> T:
    ends = time.monotonic() + 60
    while not (found := condition()):
        assert time.monotonic() < ends, f"never came true: {what}"
        time.sleep(0.01)
    return found


def diary(folder: Path) -> list[str]:
    return (folder / "diary").read_text().split()


def sign(settings: Settings) -> Path:
    """Add this process to the shared diary, and return its folder."""
    assert settings.database_file
    folder = settings.database_file.parent
    with (folder / "diary").open("a") as lines:
        lines.write(f"{os.getpid()}\n")
    return folder


def fails(settings: Settings, _: socket.socket) -> None:
    sign(settings)
    raise SystemExit(1)


def flaps(settings: Settings, _: socket.socket) -> None:
    """All but the first fail at once; the first ends when four have, and seven are enough."""
    folder = sign(settings)
    if diary(folder)[0] == str(os.getpid()):
        until(lambda: len(diary(folder)) > 4, "four have failed")
    if len(diary(folder)) >= 7:
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
