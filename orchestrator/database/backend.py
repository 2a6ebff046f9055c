"""The two databases behind the store: SQLite for one process, PostgreSQL for many."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import NamedTuple, Protocol

import sqlalchemy as sa

from orchestrator.database import schema
from orchestrator.database.membership import ALONE, Membership
from orchestrator.database.postgres import engine as postgres
from orchestrator.database.postgres import session
from orchestrator.database.postgres.durability import Risk, risks
from orchestrator.database.postgres.notify import NotifyChannel
from orchestrator.database.sqlite import engine as sqlite
from orchestrator.database.sqlite.files import OpenFiles
from orchestrator.database.sqlite.writer import Writer
from orchestrator.database.unit_of_work import Tx, Unit

#: Read-only connections.
READERS = 4


class Database(Protocol):
    """What the store needs of a database."""

    #: Makes connections that cannot write.
    reading: sa.Engine
    #: True if other processes may use it too.
    shared: bool
    #: The number by which this process claims work.
    membership: Membership

    @property
    def commits(self) -> int:
        """Transactions committed so far."""

    def start(self) -> None:
        """Open the database and make its tables. Raises `ConfigError`."""

    def put(self, unit: Unit) -> None:
        """Queue a unit. Raises `Unavailable`."""

    def checkpoint(self) -> None:
        """Keep the files of the database short."""

    def listen(self, notify: Callable[[str], object]) -> None:
        """Call `notify`, on any thread, with each stage that another process woke.

        Return when this process has a number, or is fenced until it has one.
        """

    def has_lost(self, tx: Tx) -> bool:
        """Return whether a process that claims work may have ended."""

    def expel(self, tx: Tx) -> list[int]:
        """Unit of work: return the numbers of processes that have ended, once."""

    def refuse(self) -> None:
        """Refuse new units, on the loop, before `close` on another thread."""

    def close(self) -> None:
        """Commit what waits, then close the database."""


def database_of(url: str, executor: Callable[[int, str], Executor]) -> Database:
    """Return the database of a URL. Raises `ConfigError` if it is not supported."""
    return Postgres(url) if postgres.is_postgres(url) else Sqlite(url, executor)


class Inspection(NamedTuple):
    """A database that can be used: its name for display, and its revision; None if it is empty.

    `pooled`: it is reached through a connection pooler. `risks`: why its server may lose data.
    """

    name: str
    revision: str | None
    pooled: bool = False
    risks: Sequence[Risk] = ()


def inspect(url: str, *, exclusive: bool = False) -> Inspection:
    """Check that a database can be used: it can be opened, and is empty or has our schema.

    Raises `ConfigError`. Nothing is made. `exclusive`: no other process may have a SQLite file.
    """
    if postgres.is_postgres(url):
        with postgres.read_only(url) as tx:
            revision, parsed = schema.check(tx, allow_empty=True), postgres.url_of(url)
            return Inspection(
                schema.named(parsed), revision, postgres.is_pooled(tx), risks(tx, parsed)
            )
    file = sqlite.checked_path(url)
    if not file.exists():
        return Inspection(str(file), None)
    with sqlite.read_only(url) as tx:
        revision = schema.check(tx, allow_empty=True)
    if exclusive:
        with sqlite.Lock(url):
            pass
    return Inspection(str(file), revision)


class Sqlite:
    """One file, one process, one writing connection."""

    shared = False

    def __init__(self, url: str, executor: Callable[[int, str], Executor]) -> None:
        self.membership = Membership(ALONE)
        self._lock = sqlite.Lock(url)
        self._files = OpenFiles(sqlite.path_of(url))
        # Before a reader is opened too: with the log of this file, SQLite would damage another.
        self._engine, self.reading = sqlite.engines(url, self._files.check)
        self._writer = Writer(self._engine, executor(1, "commit"), self._files.check)
        self.put = self._writer.put
        self.refuse = self._writer.refuse
        self.checkpoint = self._writer.checkpoint

    @property
    def commits(self) -> int:
        return self._writer.commits

    def start(self) -> None:
        self._lock.take()
        try:
            with sqlite.as_config_error(), self._engine.begin() as tx:
                schema.prepare(tx)
            self._files.remember()
            self._writer.open()
        except BaseException:
            self._lock.release()
            raise

    def listen(self, notify: Callable[[str], object]) -> None:
        """Do nothing: there is no other process."""

    def has_lost(self, tx: Tx) -> bool:
        """Return False: there is no other process."""
        return False

    def expel(self, tx: Tx) -> list[int]:
        """Return nothing: there is no other process."""
        return []

    def close(self) -> None:
        self.reading.dispose()
        if self._lock.held:
            self._writer.close()
        self._engine.dispose()
        self._lock.release()


class Postgres:
    """A server that replicas share."""

    shared = True

    def __init__(self, url: str) -> None:
        #: For the start, then for the session of this process.
        self._engine = postgres.engine_of(url, 1)
        self._writing = postgres.engine_of(url, postgres.WRITERS, pipelined=True)
        self.reading = postgres.engine_of(url, READERS, read_only=True)
        self._writers = postgres.Writers(self._writing)
        self.membership = Membership()
        self._wakes = NotifyChannel(self._engine, self.membership)
        self.put = self._writers.put
        self.refuse = self._writers.refuse
        self.listen = self._wakes.listen
        self.has_lost = session.has_lost
        self.expel = session.expel

    @property
    def commits(self) -> int:
        return self._writers.commits

    def start(self) -> None:
        with postgres.as_config_error(), self._engine.begin() as tx:
            schema.prepare(tx)
        self._writers.start()

    def checkpoint(self) -> None:
        """Do nothing: the server checkpoints by itself."""

    def close(self) -> None:
        self._wakes.close()
        self._writers.close()
        self.reading.dispose()
        self._writing.dispose()
        self._engine.dispose()
