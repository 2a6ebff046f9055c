"""The two databases behind the store, alike from there: SQLite for one process, PostgreSQL for as many as one likes."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from typing import Protocol

import sqlalchemy as sa

from orchestrator.database import schema
from orchestrator.database.postgres import engine as postgres
from orchestrator.database.postgres.notify import NotifyChannel
from orchestrator.database.sqlite.engine import Lock, as_config_error, engines, opened, usable
from orchestrator.database.sqlite.writer import Writer
from orchestrator.database.unit_of_work import Unit

#: Connections that only read.
READERS = 4


class Database(Protocol):
    """What the store needs of a database."""

    #: Gives connections that cannot write.
    reading: sa.Engine
    #: True if other processes may work on it too.
    shared: bool

    @property
    def commits(self) -> int:
        """Transactions committed so far."""

    def start(self) -> None:
        """Take the database. Raises `ConfigError`."""

    def put(self, unit: Unit) -> None:
        """Have a unit run and committed. Raises `Unavailable`."""

    def checkpoint(self) -> None:
        """Do what keeps its files short."""

    def listen(self, heard: Callable[[str], object]) -> None:
        """Call `heard`, on any thread, with each stage that another process woke."""

    def close(self) -> None:
        """Finish what waits, then let go."""


def database_of(url: str, beside: Callable[[int, str], Executor]) -> Database:
    """Return the database of a URL. Raises `ConfigError` if no such database is supported."""
    if postgres.is_postgres(url):
        return Postgres(url)
    return Sqlite(url, beside)


def look(url: str) -> str:
    """Return what people may see of a database that can be had, and is as we need it or empty. Nothing is made.

    Raises `ConfigError`. A SQLite file may be another process's meanwhile.
    """
    if postgres.is_postgres(url):
        with postgres.reached(url) as tx:
            schema.fits(tx)
        return schema.named(postgres.url_of(url))
    file = usable(url)
    if file.exists():
        with opened(url) as tx:
            schema.fits(tx)
    return str(file)


def check(url: str) -> str:
    """Look at a database, also for another process that has it to itself. Raises `ConfigError`. Nothing is made."""
    shown = look(url)
    if not postgres.is_postgres(url) and usable(url).exists():
        with Lock(url):
            return shown
    return shown


class Sqlite:
    """One file, one process, one connection that writes."""

    shared = False

    def __init__(self, url: str, beside: Callable[[int, str], Executor]) -> None:
        self._lock = Lock(url)
        self._engine, self.reading = engines(url)
        self._writer = Writer(self._engine, beside(1, "commit"))

    @property
    def commits(self) -> int:
        """Transactions committed so far."""
        return self._writer.commits

    def start(self) -> None:
        """Take the file for this process and make its tables. Raises `ConfigError`."""
        self._lock.take()
        try:
            with as_config_error(), self._engine.begin() as tx:
                schema.prepare(tx)
        except BaseException:
            self._lock.release()
            raise

    def put(self, unit: Unit) -> None:
        """Have a unit run and committed. Raises `Unavailable`."""
        self._writer.put(unit)

    def checkpoint(self) -> None:
        """Move the write-ahead log into the file when there is a moment for it."""
        self._writer.checkpoint()

    def listen(self, heard: Callable[[str], object]) -> None:
        """Nobody else is there."""

    def close(self) -> None:
        """Finish what waits, then let go of the file."""
        self.reading.dispose()
        if self._lock.held:
            self._writer.close()
        self._engine.dispose()
        self._lock.release()


class Postgres:
    """A server that replicas share."""

    shared = True

    def __init__(self, url: str) -> None:
        self._engine = postgres.engine_of(url, postgres.WRITERS + 1)
        self.reading = postgres.engine_of(url, READERS, read_only=True)
        self._writers = postgres.Writers(self._engine)
        self._wakes = NotifyChannel(self._engine)

    @property
    def commits(self) -> int:
        """Transactions committed so far."""
        return self._writers.commits

    def start(self) -> None:
        """Make the tables, if they are not there. Raises `ConfigError`."""
        with postgres.as_config_error(), self._engine.begin() as tx:
            schema.prepare(tx)
        self._writers.start()

    def put(self, unit: Unit) -> None:
        """Have a unit run and committed. Raises `Unavailable`."""
        self._writers.put(unit)

    def checkpoint(self) -> None:
        """The server's own business."""

    def listen(self, heard: Callable[[str], object]) -> None:
        """Call `heard` on a thread with each stage that another process woke."""
        self._wakes.listen(heard)

    def close(self) -> None:
        """Finish what waits, then let the server go."""
        self._wakes.close()
        self._writers.close()
        self.reading.dispose()
        self._engine.dispose()
