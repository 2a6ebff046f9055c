"""A database for one run: a file in a temporary folder, or a schema of its own on a PostgreSQL server."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from orchestrator.cli.bench.plan import Plan
from orchestrator.database import schema
from orchestrator.database.postgres import engine as postgres
from orchestrator.database.sqlite import engine as sqlite

#: So that databases we made can be told from others, should a bench be killed.
_PREFIX = "orchestrator_bench_"


@dataclass(frozen=True, slots=True)
class Place:
    """A database and a folder. Both are gone when the run ends."""

    folder: Path
    url: str

    @property
    def kind(self) -> str:
        """`sqlite` or `postgresql`."""
        return "postgresql" if postgres.is_postgres(self.url) else "sqlite"

    @contextlib.contextmanager
    def writing(self, *, durable: bool = False) -> Iterator[sa.Engine]:
        """Give an engine to fill the database with, its tables made. Unless durable, the disk is asked once, last."""
        engine = self._engine()
        if self.kind == "sqlite" and not durable:
            sa.event.listen(engine, "connect", _hasty)
        try:
            with engine.begin() as tx:
                schema.prepare(tx)
            yield engine
        finally:
            engine.dispose()
        if self.kind == "sqlite":
            _flush(sqlite.path_of(self.url))

    @contextlib.contextmanager
    def beside(self) -> Iterator[sa.Connection]:
        """Give a transaction while a service has the database. It moves no log: on SQLite only the service may."""
        engine = self._engine()
        if self.kind == "sqlite":
            sa.event.listen(engine, "connect", _modest)
        try:
            with engine.begin() as tx:
                yield tx
        finally:
            engine.dispose()

    @contextlib.contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Give a connection, once no service is there any more."""
        engine = self._engine()
        try:
            with engine.connect() as connection:
                yield connection
        finally:
            engine.dispose()

    def _engine(self) -> sa.Engine:
        return (
            postgres.engine_of(self.url, 1)
            if self.kind == "postgresql"
            else sqlite.engines(self.url)[0]
        )


@contextlib.contextmanager
def place(plan: Plan) -> Iterator[Place]:
    """Make a place. Raises `ConfigError` if the database cannot be reached or written."""
    server = postgres.is_postgres(plan.database)
    beside = None if server or not plan.database else sqlite.usable(plan.database).parent
    with _folder(beside) as folder:
        if not server:
            yield Place(folder, f"sqlite:///{folder}/bench.db")
            return
        with _schema(plan.database) as url:
            yield Place(folder, url)


@contextlib.contextmanager
def _folder(beside: Path | None) -> Iterator[Path]:
    """Make a folder, and remove it. Its name is known before it is there: Ctrl-C may come as soon as it is."""
    folder = (beside or Path(tempfile.gettempdir())) / (_PREFIX + secrets.token_hex(8))
    try:
        folder.mkdir(mode=0o700)
        yield folder
    finally:
        if folder.exists():
            shutil.rmtree(folder)


@contextlib.contextmanager
def _schema(url: str) -> Iterator[str]:
    """Make a schema that a URL leads to, and drop it."""
    name = _PREFIX + secrets.token_hex(6)
    engine = postgres.engine_of(url, 1)
    try:
        with postgres.as_config_error(), engine.begin() as tx:
            tx.execute(sa.schema.CreateSchema(name))
        try:
            within = postgres.url_of(url).update_query_dict(
                {"options": f"-csearch_path={name}"}, append=True
            )
            yield within.set(drivername="postgresql").render_as_string(hide_password=False)
        finally:
            with engine.begin() as tx:
                tx.execute(sa.schema.DropSchema(name, cascade=True))
    finally:
        engine.dispose()


def _hasty(connection: Any, _record: object) -> None:
    """Leave it to the end to ask the disk."""
    connection.execute("PRAGMA synchronous=OFF").close()


def _modest(connection: Any, _record: object) -> None:
    """Leave the log alone: https://sqlite.org/wal.html#walresetbug."""
    connection.execute("PRAGMA wal_autocheckpoint=0").close()


def _flush(path: Path) -> None:
    """Have what was written on the disk before anything is measured."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
