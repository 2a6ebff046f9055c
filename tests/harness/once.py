"""What every test repeats and none is about, done once in a process.

* `share_statements`: engines share their compiled statements.
* `note_absent`: a module that is not installed is not looked for again.
* `end_sooner`: services end without the pauses of their polling.
* `skip_syncs`: commits of SQLite do not wait for the disk.
"""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from collections.abc import Awaitable
from functools import partial
from typing import Any

import sqlalchemy as sa
import uvicorn.server

from orchestrator.database.postgres import notify
from orchestrator.database.sqlite import engine, writer


class _Statements(dict[Any, Any]):
    """Compiled statements by the type of their dialect: SQLAlchemy caches them for one engine."""

    def get(self, key: Any, default: Any = None) -> Any:
        dialect, *statement = key
        return super().get((type(dialect), *statement), default)

    def __setitem__(self, key: Any, compiled: Any) -> None:
        dialect, *statement = key
        super().__setitem__((type(dialect), *statement), compiled)


def share_statements() -> None:
    """Let all engines that this process creates from now on share their compiled statements."""
    options = {"compiled_cache": _Statements()}
    sa.create_engine = partial(sa.create_engine, execution_options=options)


def note_absent(module: str) -> None:
    """Let imports of a module that is not installed fail at once: httpcore tries each request."""
    if importlib.util.find_spec(module) is None:
        sys.modules[module] = None  # type: ignore[assignment]


class _Hasty:
    """The module `asyncio`, with a tenth of each pause."""

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio, name)

    def sleep(self, seconds: float) -> Awaitable[None]:
        return asyncio.sleep(seconds / 10)


def end_sooner() -> None:
    """Let services of this process end sooner: what polls for the end polls ten times as often.

    That is uvicorn, which pauses for 0.1 s three times, and a listener of PostgreSQL.
    """
    vars(uvicorn.server).update(asyncio=_Hasty())
    notify._INTERVAL, notify._PROBE = notify._INTERVAL / 10, notify._PROBE * 10


def skip_syncs() -> None:
    """Let no commit of SQLite wait for the disk, as with `fsync = off` on PostgreSQL.

    The machine does not lose power; what a process has written outlives its kill.
    """

    def wait_for_nothing(tx: sa.Connection, _wait: bool) -> None:
        engine._run(tx.connection, "PRAGMA synchronous=OFF")

    vars(writer).update(wait_for_disk=wait_for_nothing)
