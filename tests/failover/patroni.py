"""Three PostgreSQL servers under Patroni, with etcd as its store."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psycopg
import yaml

from tests.failover.daemons import Daemon
from tests.harness import clusters
from tests.harness.processes import free_port

Json = dict[str, Any]
NODES = 3
#: Seconds. The shortest that Patroni takes: a primary whose machine is gone keeps its lock for the
#: first.
TTL, LOOP, RETRY = 20, 1, 3
_START_TIMEOUT = 90.0


def shared_settings(*, synchronous: bool) -> Json:
    """Return the settings that Patroni keeps in its store."""
    return {
        "ttl": TTL,
        "loop_wait": LOOP,
        "retry_timeout": RETRY,
        # A server that has crashed is not waited for.
        "primary_start_timeout": 0,
        "synchronous_mode": synchronous,
        "synchronous_mode_strict": synchronous,
        "postgresql": {
            "use_pg_rewind": True,
            "parameters": {"max_connections": 100, "shared_buffers": "16MB"},
        },
    }


@dataclass
class Node:
    """A server, and the Patroni that starts, stops and promotes it."""

    place: Path
    name: str
    etcd: int
    synchronous: bool
    port: int = field(default_factory=free_port)
    api: int = field(default_factory=free_port)
    _patroni: Daemon | None = None

    @property
    def data(self) -> Path:
        """The folder of the server."""
        return self.place / self.name

    def start(self) -> None:
        """Start Patroni, which makes or starts the server."""
        file = self.place / f"{self.name}.yaml"
        file.write_text(yaml.safe_dump(self._settings()))
        self._patroni = Daemon(self.place, self.name, ("patroni", str(file)))

    def _settings(self) -> Json:
        address, api = (f"127.0.0.1:{port}" for port in (self.port, self.api))
        trust = [f"host {what} all 127.0.0.1/32 trust" for what in ("all", "replication")]
        return {
            "scope": "failover",
            "name": self.name,
            "restapi": {"listen": api, "connect_address": api},
            "etcd3": {"host": f"127.0.0.1:{self.etcd}"},
            "bootstrap": {
                "dcs": shared_settings(synchronous=self.synchronous),
                "initdb": [{"encoding": "UTF8"}],
            },
            "postgresql": {
                "listen": address,
                "connect_address": address,
                "data_dir": str(self.data),
                "bin_dir": str(Path(clusters.program("postgres")).parent),
                "authentication": {
                    "superuser": {"username": "postgres"},
                    "replication": {"username": "replicator"},
                },
                "pg_hba": trust,
                "basebackup": {"checkpoint": "fast"},
                "parameters": {"unix_socket_directories": ""},
            },
        }  # fmt: skip

    def pids(self, kind: str = "") -> list[int]:
        """Return the processes of the server whose title contains `kind`, the first one first."""
        with contextlib.suppress(FileNotFoundError):
            first = int((self.data / "postmaster.pid").read_text().split()[0])
            children = Path(f"/proc/{first}/task/{first}/children").read_text().split()
            return [pid for pid in (first, *map(int, children)) if kind in _title(pid)]
        return []

    def kill_server(self) -> None:
        """Kill the server and its sessions; Patroni lives."""
        _send(self.pids(), signal.SIGKILL)

    def kill(self) -> None:
        """Kill Patroni and the server, as a machine that loses power."""
        if self._patroni is not None:
            self._patroni.kill()
        self.kill_server()

    def stop_sending(self) -> None:
        """Stop the processes that send WAL: the standbys fall behind."""
        _send(self.pids("walsender"), signal.SIGSTOP)


def _title(pid: int) -> str:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/cmdline").read_text()
    return ""


def _send(pids: list[int], what: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, what)


class Cluster:
    """The servers. Its methods block; call them in a thread."""

    def __init__(self, place: Path, *, synchronous: bool) -> None:
        self.synchronous = synchronous
        client, peer = f"http://127.0.0.1:{free_port()}", f"http://127.0.0.1:{free_port()}"
        options = {
            "listen-client-urls": client,
            "advertise-client-urls": client,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": f"default={peer}",
            "data-dir": str(place / "store"),
        }
        words = [f"--{name}={value}" for name, value in options.items()]
        self._etcd = Daemon(place, "etcd", ("etcd", *words))
        port = int(client.rpartition(":")[2])
        self.nodes = [Node(place, f"node{n}", port, synchronous) for n in range(NODES)]

    def start(self) -> None:
        """Start all servers, and wait until each has its role."""
        for node in self.nodes:
            node.start()
        self.wait_complete()

    def roles(self) -> dict[str, str]:
        """Return the role of each server that works: `leader`, `sync_standby` or `replica`.

        A standby does if it streams on the timeline of the primary: one that comes back runs before
        `pg_rewind` stops it again.
        """
        members: list[Json] = []
        for node in self.nodes:
            with contextlib.suppress(httpx.HTTPError):
                answer = httpx.get(f"http://127.0.0.1:{node.api}/cluster", timeout=2)
                members = answer.json()["members"]
                break
        leader = next((one for one in members if one["role"] == "leader"), {})
        return {
            one["name"]: one["role"]
            for one in members
            if one["state"] == ("running" if one is leader else "streaming")
            and one.get("timeline") == leader.get("timeline")
        }

    def wait_complete(self) -> None:
        """Wait until there are a primary and its standbys, one of them synchronous if any is."""
        standbys = ["replica"] * (NODES - 1)
        if self.synchronous:
            standbys[-1] = "sync_standby"
        ends = time.monotonic() + _START_TIMEOUT
        while sorted(self.roles().values()) != sorted(["leader", *standbys]):
            assert time.monotonic() < ends, f"the cluster is not complete: {self.roles()}"
            time.sleep(0.2)

    def primary(self) -> Node:
        """Return the primary of a complete cluster."""
        roles = self.roles()
        return next(node for node in self.nodes if roles.get(node.name) == "leader")

    def create_database(self, name: str) -> None:
        """Create an empty database."""
        url = f"postgresql://postgres@127.0.0.1:{self.primary().port}/postgres"
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())

    def end(self) -> None:
        """End all servers at once: their files are deleted."""
        for node in self.nodes:
            node.kill()
        self._etcd.kill()


@contextlib.contextmanager
def running(*, synchronous: bool) -> Iterator[tuple[Cluster, Path]]:
    """Run a cluster until the end of the block; yield it, and the folder of its files."""
    place = clusters.folder("failover-")
    cluster = Cluster(place, synchronous=synchronous)
    try:
        cluster.start()
        yield cluster, place
    except BaseException:
        print(f"the logs are in {place}", file=sys.stderr, flush=True)
        cluster.end()
        raise
    cluster.end()
    shutil.rmtree(place)
