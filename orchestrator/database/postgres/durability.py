"""Settings of a server under which a crash or a failover may lose what was acknowledged.

https://www.postgresql.org/docs/current/runtime-config-wal.html
"""

from __future__ import annotations

from typing import NamedTuple

import sqlalchemy as sa

from orchestrator.database.postgres import hosts

_SETTINGS = sa.text("""
    SELECT current_setting('fsync') = 'on' AS fsync,
        current_setting('full_page_writes') = 'on' AS full_page_writes,
        current_setting('synchronous_commit') AS synchronous_commit,
        current_setting('synchronous_standby_names') <> '' AS synchronous,
        pg_is_in_recovery() AS in_recovery,
        (SELECT count(*) FROM pg_stat_replication) AS standbys
""")


class Risk(NamedTuple):
    """What is at risk and why, and what to change. `fatal`: the service cannot work."""

    found: str
    fix: str
    fatal: bool = False


def risks(tx: sa.Connection, url: sa.URL) -> list[Risk]:
    """Return the risks of the server that a URL leads to."""
    server = tx.execute(_SETTINGS).one()
    if server.in_recovery:
        return [Risk("this server is a standby: nothing can be written", _PRIMARY, fatal=True)]
    standbys = f"{server.standbys} standby{'s' if server.standbys > 1 else ''}"
    asynchronous = server.synchronous_commit in ("off", "local") or not server.synchronous
    names_one = not hosts.several(url) and "target_session_attrs" not in url.query
    found = [
        (not server.fsync, Risk("fsync is off: a crash of its machine destroys data", _ON)),
        (
            not server.full_page_writes,
            Risk("full_page_writes is off: a crash of its machine may destroy data", _ON),
        ),
        (
            server.synchronous_commit == "off",
            Risk("synchronous_commit is off: a crash loses the newest commits", _ON),
        ),
        (
            server.standbys and asynchronous,
            Risk(f"replication to {standbys} is asynchronous: a failover loses commits", _SYNC),
        ),
        (
            server.standbys and names_one,
            Risk(f"database_url names one host, and its server has {standbys}", _NAMES),
        ),
    ]
    return [risk for applies, risk in found if applies]


_ON = "turn it on"
_PRIMARY = (
    "name the primary in database_url, or all servers: postgresql://user@host1,host2/database"
)
_SYNC = (
    "set synchronous_standby_names and synchronous_commit = on; with Patroni: synchronous_mode: on"
)
_NAMES = (
    "name all servers: postgresql://user@host1,host2/database; or, if that host always leads to "
    "the primary, add ?target_session_attrs=read-write"
)
