"""The ways to the primary: a URL of all servers, HAProxy, and PgBouncer behind HAProxy."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from tests.failover.daemons import Daemon
from tests.failover.patroni import Cluster
from tests.harness.processes import free_port

#: As in Patroni's documentation, with shorter intervals; it asks Patroni which is the primary.
_HAPROXY = """
global
    maxconn 200
defaults
    mode tcp
    retries 2
    timeout client 30m
    timeout connect 3s
    timeout server 30m
    timeout check 2s
listen primary
    bind 127.0.0.1:{port}
    option httpchk OPTIONS /primary
    http-check expect status 200
    default-server inter 1s fall 2 rise 1 on-marked-down shutdown-sessions
{servers}
"""
_PGBOUNCER = """
[databases]
* = host=127.0.0.1 port={server}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {users}
pool_mode = transaction
default_pool_size = 10
max_client_conn = 200
server_login_retry = 1
"""

Route = Callable[[Cluster, Path], contextlib.AbstractContextManager[str]]


@contextlib.contextmanager
def hosts(cluster: Cluster, _place: Path) -> Iterator[str]:
    """Yield the `host:port` of all servers."""
    yield ",".join(f"127.0.0.1:{node.port}" for node in cluster.nodes)


@contextlib.contextmanager
def haproxy(cluster: Cluster, place: Path) -> Iterator[str]:
    """Run HAProxy during the block; yield its `host:port`."""
    servers = "\n".join(
        f"    server {node.name} 127.0.0.1:{node.port} check port {node.api}"
        for node in cluster.nodes
    )
    port, file = free_port(), place / "haproxy.cfg"
    file.write_text(_HAPROXY.format(port=port, servers=servers))
    daemon = Daemon(place, "haproxy", ("haproxy", "-db", "-f", str(file)))
    try:
        yield f"127.0.0.1:{port}"
    finally:
        daemon.end()


@contextlib.contextmanager
def pgbouncer(cluster: Cluster, place: Path) -> Iterator[str]:
    """Run PgBouncer in transaction mode, in front of HAProxy; yield its `host:port`."""
    port, file, users = free_port(), place / "pgbouncer.ini", place / "users.txt"
    users.write_text('"postgres" ""\n')
    with haproxy(cluster, place) as behind:
        server = behind.rpartition(":")[2]
        file.write_text(_PGBOUNCER.format(server=server, port=port, users=users))
        daemon = Daemon(place, "pgbouncer", ("pgbouncer", str(file)))
        try:
            yield f"127.0.0.1:{port}"
        finally:
            daemon.end()


ROUTES: Mapping[str, Route] = {"several hosts": hosts, "HAProxy": haproxy, "PgBouncer": pgbouncer}
