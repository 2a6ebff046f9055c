"""Fixtures of the command line's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.command_line import Fake, faked, isolate


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Run each test in its own folder, without this machine's settings."""
    isolate(monkeypatch, tmp_path)


@pytest.fixture
def fake() -> Iterator[Fake]:
    """A server with scripted answers."""
    with faked() as found:
        yield found
