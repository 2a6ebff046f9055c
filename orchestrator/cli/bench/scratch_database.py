"""A database for one run: a file in a temporary folder, or a schema on a PostgreSQL server."""

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

from orchestrator.cli.bench.measurement import Plan
from orchestrator.database import schema
from orchestrator.database.postgres import engine as postgres
from orchestrator.database.sqlite import engine as sqlite

#: Marks folders and schemas of ours, should a bench be killed.
_PREFIX = "orchestrator_bench_"


@dataclass(frozen=True, slots=True)
class ScratchDatabase:
    """A database and a folder, both removed when the run ends."""

    folder: Path
    url: str

    @contextlib.contextmanager
    def writing(self, *, durable: bool = False) -> Iterator[sa.Engine]:
        """Yield an engine with the schema created. Unless `durable`, fsync is left to the end."""
        with self._engine(None if durable else "synchronous=OFF") as engine:
            with engine.begin() as tx:
                schema.prepare(tx)
            yield engine
        if not postgres.is_postgres(self.url):
            descriptor = os.open(sqlite.path_of(self.url), os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sa.Connection]:
        """Yield a transaction; a service may run meanwhile.

        On SQLite it never checkpoints: only the service may (https://sqlite.org/wal.html#walresetbug).
        """
        with self._engine("wal_autocheckpoint=0") as engine, engine.begin() as tx:
            yield tx

    @contextlib.contextmanager
    def reading(self) -> Iterator[sa.Engine]:
        """Yield an engine that cannot write; services may run, and end, meanwhile."""
        server = postgres.is_postgres(self.url)
        reader = postgres.engine_of(self.url, 1, read_only=True) if server else None
        engine = reader or sqlite.engines(self.url)[1]
        try:
            yield engine
        finally:
            engine.dispose()

    @contextlib.contextmanager
    def _engine(self, pragma: str | None) -> Iterator[sa.Engine]:
        """Yield an engine of one connection; `pragma` is for SQLite."""
        server = postgres.is_postgres(self.url)
        engine = postgres.engine_of(self.url, 1) if server else sqlite.engines(self.url)[0]

        def connected(connection: Any, _record: object) -> None:
            if pragma and not server:
                connection.execute(f"PRAGMA {pragma}").close()

        sa.event.listen(engine, "connect", connected)
        try:
            yield engine
        finally:
            engine.dispose()


@contextlib.contextmanager
def scratch_database(plan: Plan) -> Iterator[ScratchDatabase]:
    """Create a database. Raises `ConfigError` if it cannot be reached or written."""
    server = postgres.is_postgres(plan.database)
    parent = Path(tempfile.gettempdir())
    if plan.database and not server:
        parent = sqlite.checked_path(plan.database).parent
    # We choose the name, because Ctrl-C may come right after mkdir.
    folder = parent / (_PREFIX + secrets.token_hex(6))
    try:
        folder.mkdir(mode=0o700)
        with contextlib.ExitStack() as stack:
            file = f"sqlite:///{folder}/bench.db"
            url = stack.enter_context(_schema(plan.database, folder.name)) if server else file
            yield ScratchDatabase(folder, url)
    finally:
        if folder.exists():
            shutil.rmtree(folder)


@contextlib.contextmanager
def _schema(url: str, name: str) -> Iterator[str]:
    """Create a schema, yield a URL that selects it, and drop it."""
    engine = postgres.engine_of(url, 1)
    try:
        with postgres.as_config_error(), engine.begin() as tx:
            tx.execute(sa.schema.CreateSchema(name))
        try:
            options = {"options": f"-csearch_path={name}"}
            within = postgres.url_of(url).update_query_dict(options, append=True)
            yield within.set(drivername="postgresql").render_as_string(hide_password=False)
        finally:
            with engine.begin() as tx:
                tx.execute(sa.schema.DropSchema(name, cascade=True))
    finally:
        engine.dispose()
