"""`orchestrator migrate --from`: the same service on PostgreSQL."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from orchestrator.database.postgres import engine as postgres
from orchestrator.database.sqlite import engine as sqlite
from orchestrator.database.sqlite.engine import Lock
from orchestrator.database.tables import trace
from orchestrator.foundation.clock import EPOCH
from orchestrator.foundation.settings import key_file
from tests.harness import databases
from tests.harness.api_caller import ADMIN
from tests.harness.command_line import run
from tests.harness.live import order, restartable

SOURCE = "sqlite:///source.db"


@pytest.fixture
def target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of an empty database on PostgreSQL, which the settings name, and a key."""
    address = databases.url("postgresql", tmp_path, empty=True)
    monkeypatch.setenv("ORCHESTRATOR_DATABASE_URL", address)
    monkeypatch.setenv("ORCHESTRATOR_SECRET_KEYS", '["a long random text"]')
    yield address
    databases.drop(address)


@pytest.fixture
def source() -> Path:
    """A SQLite file with all tables."""
    databases.url("sqlite", Path.cwd())
    return Path("test.db").rename("source.db")
