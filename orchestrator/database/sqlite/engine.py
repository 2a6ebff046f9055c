"""SQLite as a production store: WAL, `synchronous=FULL` except for claims, one process."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.pool import PoolProxiedConnection

from orchestrator.database.sqlite.files import lock_of
from orchestrator.foundation.errors import ConfigError

#: Pages of the log, 16 MiB, after which a commit checkpoints.
CHECKPOINT = 4000
_WRITER = (
    "journal_mode=WAL",
    "synchronous=FULL",
    "busy_timeout=5000",
    "temp_store=MEMORY",
    # Small: the operating system caches the pages of the file too.
    "cache_size=-16384",
    "journal_size_limit=67108864",
    # Only the writer checkpoints: after such a commit, and on a tick.
    f"wal_autocheckpoint={CHECKPOINT}",
)
_READER = (
    "busy_timeout=5000",
    "query_only=ON",
    "temp_store=MEMORY",
    "cache_size=-2048",
    "wal_autocheckpoint=0",
)


def path_of(url: str) -> Path:
    """Return the database file of a URL, absolute. Raises `ConfigError` for a URL without one."""
    parsed = sa.make_url(url)
    if parsed.drivername not in ("sqlite", "sqlite+pysqlite"):
        raise ConfigError(
            f"database_url: {parsed.drivername} is not supported; "
            "use sqlite:///orchestrator.db or postgresql://..."
        )
    if not parsed.database or parsed.database == ":memory:":
        raise ConfigError(
            "database_url names no file; jobs must survive a restart: use sqlite:///orchestrator.db"
        )
    # Absolute: the working folder of a host application may change.
    return Path(parsed.database).absolute()


def checked_path(url: str) -> Path:
    """Return the database file of a URL, absolute, if it exists or could be made. Nothing is made.

    Raises `ConfigError` for a URL without a file, and a missing or read-only folder.
    """
    path = path_of(url)
    if not os.path.isdir(path.parent):
        raise ConfigError(
            f"database_url: {path.parent} is not there; make that folder, or name a file in another"
        )
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise ConfigError(
            f"database_url: {path.parent} cannot be written; allow it, or name another folder"
        )
    if path.exists() and not (path.is_file() and os.access(path, os.R_OK | os.W_OK)):
        raise ConfigError(
            f"database_url: {path} is no file that can be read and written; name another"
        )
    return path


class Lock:
    """An advisory lock next to the file: one process owns it, and the kernel frees it at exit."""

    def __init__(self, url: str) -> None:
        self._path = path_of(url)
        self._held: int | None = None

    def take(self) -> None:
        """Take the lock. Raises `ConfigError` if another process has it, or it cannot be made."""
        path = lock_of(self._path)
        try:
            self._held = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Readable by the owner only; the log files take the mode of the database. Only once the
            # lock is ours: https://sqlite.org/howtocorrupt.html#_posix_advisory_locks_canceled_by_a_separate_thread_doing_close_
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except BlockingIOError as error:
            self.release()
            raise ConfigError(
                f"{self._path} is in use by another orchestrator process. SQLite serves "
                "one process: stop the other one, or name another file in database_url."
            ) from error
        except OSError as error:
            raise ConfigError(
                f"cannot open {path}: {error.strerror}; check that the folder exists"
            ) from error

    def __enter__(self) -> Lock:
        self.take()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    @property
    def held(self) -> bool:
        """True while this process has the lock."""
        return self._held is not None

    def release(self) -> None:
        """Release the lock."""
        if self._held is not None:
            os.close(self._held)
            self._held = None


#: The name of every savepoint: it means the innermost. The driver keeps so many texts prepared, and
#: a connection that is kept would have a new one for each savepoint.
_SAVEPOINT = "unit"


class ManualTransactionDialect(SQLiteDialect_pysqlite):
    """SQLite's dialect with explicit transactions: the driver would begin them late, and deferred.

    The statements go straight to the driver: as SQLAlchemy events and clauses they would cost ten
    times what SQLite itself does.
    """

    supports_statement_cache = True
    #: The statement that begins a transaction.
    begin = "BEGIN"

    def do_begin(self, dbapi_connection: PoolProxiedConnection) -> None:
        _run(dbapi_connection, self.begin)

    def do_savepoint(self, connection: sa.Connection, name: str) -> None:
        _run(connection.connection, f"SAVEPOINT {_SAVEPOINT}")

    def do_release_savepoint(self, connection: sa.Connection, name: str) -> None:
        _run(connection.connection, f"RELEASE {_SAVEPOINT}")

    def do_rollback_to_savepoint(self, connection: sa.Connection, name: str) -> None:
        _run(connection.connection, f"ROLLBACK TO {_SAVEPOINT}")


def wait_for_disk(tx: sa.Connection, wait: bool) -> None:
    """Set whether the next commit waits for the disk; if not, a later one does."""
    _run(tx.connection, f"PRAGMA synchronous={'FULL' if wait else 'NORMAL'}")


def checkpoint_with_commit(tx: sa.Connection, allowed: bool) -> None:
    """Set whether the next commit may checkpoint, if it makes the log long enough."""
    _run(tx.connection, f"PRAGMA wal_autocheckpoint={CHECKPOINT if allowed else 0}")


def _run(connection: PoolProxiedConnection, statement: str) -> None:
    driver = connection.driver_connection
    assert driver is not None
    driver.execute(statement).close()


def wait_for_locks(connection: PoolProxiedConnection, seconds: float) -> None:
    """Set for how long a statement of a connection waits for a lock of another program."""
    _run(connection, f"PRAGMA busy_timeout={seconds * 1000:.0f}")


def is_locked(error: sa.exc.DBAPIError) -> bool:
    """True if another program holds a lock that a statement needs."""
    return getattr(error.orig, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY


registry.register("sqlite.manual", __name__, ManualTransactionDialect.__name__)
#: The name of the dialect in a URL.
DRIVER = "sqlite+manual"


def engines(url: str, check: Callable[[], None] = lambda: None) -> tuple[sa.Engine, sa.Engine]:
    """Return the writing engine (one connection, `BEGIN IMMEDIATE`) and the reading one.

    `check` is called before a file is opened, and may raise `Unavailable`.
    """
    writer = _engine(url, check, "rwc", "BEGIN IMMEDIATE", _WRITER, poolclass=sa.pool.StaticPool)
    # A reader that is opened later makes no file in the place of one that is gone.
    return writer, _engine(url, check, "rw", "BEGIN", _READER, pool_size=8, max_overflow=0)


def _engine(
    url: str,
    check: Callable[[], None],
    mode: str,
    begin: str,
    pragmas: tuple[str, ...],
    **pool: Any,
) -> sa.Engine:
    name = f"file:{quote(str(path_of(url)))}?mode={mode}"

    def connect() -> sqlite3.Connection:
        check()
        return sqlite3.connect(
            name, uri=True, isolation_level=None, check_same_thread=False, cached_statements=512
        )

    engine = sa.create_engine(sa.make_url(url).set(drivername=DRIVER), creator=connect, **pool)
    assert isinstance(engine.dialect, ManualTransactionDialect)
    engine.dialect.begin = begin

    @sa.event.listens_for(engine, "connect")
    def connected(connection: Any, _record: Any) -> None:
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}").close()

    return engine


@contextlib.contextmanager
def as_config_error() -> Iterator[None]:
    """Raise errors of SQLite as `ConfigError`."""
    try:
        yield
    except (sqlite3.DatabaseError, sa.exc.DatabaseError) as error:
        reason = getattr(error, "orig", error)
        raise ConfigError(
            f"database_url: {reason}; name another file, or restore this one"
        ) from error


@contextlib.contextmanager
def read_only(url: str) -> Iterator[sa.Connection]:
    """Yield a read-only connection to a file. Raises `ConfigError` if it is not a database."""
    engine = engines(url)[1]
    try:
        with as_config_error(), engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()
