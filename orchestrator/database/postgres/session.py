"""A process of a shared database: it lives while its session holds the advisory lock of its number.

The server frees the lock when the session ends: at once when the process is killed, after
`_KEEPALIVES` when its network is gone. `expel` finds such processes, and hands over their claims
`GRACE` seconds later.

A process that lives may lose its session too. It confirms several times a second that the server
answers in it, and may act for `FENCE` seconds after it has asked (`Membership`). That is shorter
than the grace, so it is fenced before its claims are handed over. When it connects again within the
grace, it keeps its number, and its claims.
https://www.postgresql.org/docs/current/explicit-locking.html#ADVISORY-LOCKS
"""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

import sqlalchemy as sa

from orchestrator.database.membership import Membership
from orchestrator.database.tables import process
from orchestrator.database.unit_of_work import Tx
from orchestrator.foundation.clock import after

#: Seconds from when a lock is found free until the claims of its process are handed over.
GRACE = 2.0
#: Seconds for which a process may act after it has asked its session for the last time.
FENCE = 1.5
#: The server ends a session whose client has been silent for about five seconds.
_KEEPALIVES = (
    "SET tcp_keepalives_idle = 2; SET tcp_keepalives_interval = 1; SET tcp_keepalives_count = 3;"
    " SET tcp_user_timeout = 5000"
)
#: The first key of the locks, which a database has for all its schemas: the table. The second is
#: the number of a process.
_CLASS: sa.ColumnElement[int] = sa.literal_column("'process'::regclass::oid::int")
_LOCKS = sa.table(
    "pg_locks", *map(sa.column, ("locktype", "database", "classid", "objid", "objsubid", "pid"))
)
_OURS = sa.and_(
    _LOCKS.c.locktype == "advisory",
    _LOCKS.c.database
    == sa.text("(SELECT oid FROM pg_database WHERE datname = current_database())"),
    _LOCKS.c.classid == sa.literal_column("'process'::regclass::oid"),
    # Of two keys.
    _LOCKS.c.objsubid == sa.literal_column("2"),
)
_HELD = sa.exists().where(_OURS, _LOCKS.c.objid == process.c.id)
_FREE = ~_HELD
_MARKED = process.c.lost_at.is_not(None)
_NOW = sa.text("(extract(epoch FROM clock_timestamp()) * 1000)::bigint")
# One statement: no other process sees the row before its lock is held.
_ENTERED = sa.insert(process).values(started_at=_NOW).returning(*process.c).cte("entered")
_ENTER = sa.select(*_ENTERED.c, sa.func.pg_advisory_lock(_CLASS, _ENTERED.c.id))
_NUMBER = sa.bindparam("number", type_=sa.Integer)
_TAKE_LOCK = sa.select(sa.func.pg_try_advisory_lock(_CLASS, _NUMBER))
_FREE_LOCK = sa.select(sa.func.pg_advisory_unlock(_CLASS, _NUMBER))
# A server that lost our row, as an asynchronous standby may, gives our number to another process.
_MINE = sa.and_(
    process.c.id == _NUMBER,
    process.c.started_at == sa.bindparam("since", type_=process.c.started_at.type),
)
_IS_MINE = sa.select(sa.exists().where(_MINE))
_STAY = sa.update(process).where(_MINE).values(lost_at=None).returning(process.c.id)
_END_OTHER = sa.select(sa.func.pg_terminate_backend(_LOCKS.c.pid)).where(
    _OURS, _LOCKS.c.objid == _NUMBER
)
_HAS_LOST = sa.select(sa.exists().where(sa.or_(_FREE, _MARKED)).select_from(process))
# An UPDATE that waited for another row may mark a process that has entered again meanwhile. Unless
# that is undone, such a process has no grace when it loses its session the next time.
_MARK = (
    sa.update(process)
    .where(sa.or_(sa.and_(~_MARKED, _FREE), sa.and_(_MARKED, _HELD)))
    .values(lost_at=sa.case((~_MARKED, _NOW), else_=sa.null()))
)
_OVER = process.c.lost_at <= sa.text(
    f"(extract(epoch FROM clock_timestamp()) * 1000)::bigint - {GRACE * 1000:.0f}"
)
_EXPEL = sa.delete(process).where(_OVER, _FREE).returning(process.c.id)


class _Row(NamedTuple):
    """The number of a process, and what tells its row from another's of the same number."""

    number: int
    since: datetime


class Session:
    """The session of this process, over the connections that it has had. Used by one thread.

    A connection is in autocommit.
    """

    def __init__(self, membership: Membership) -> None:
        self._membership = membership
        #: Our row.
        self._row: _Row | None = None

    def enter(self, connection: sa.Connection) -> bool:
        """Take the lock of our number; of a new one, if our claims have been handed over.

        Return False while the server still sees our last session, which this ends.
        """
        connection.exec_driver_sql(_KEEPALIVES)
        asked = self._membership.now()
        if (row := self._row) is not None:
            mine = row._asdict()
            if connection.scalar(_TAKE_LOCK, mine):
                if connection.scalar(_STAY, mine) is None:
                    connection.execute(_FREE_LOCK, mine)
                    row = None
            elif connection.scalar(_IS_MINE, mine):
                connection.execute(_END_OTHER, mine)
                return False
            else:
                row = None
        if row is None:
            entered = connection.execute(_ENTER).one()
            row = self._row = _Row(entered.id, entered.started_at)
        self._membership.confirm(row.number, after(asked, FENCE))
        return True

    def confirm(self, connection: sa.Connection) -> None:
        """Ask whether the session lives, where others write.

        Raises the errors of the driver, and `ConnectionError` if the server has become read-only.
        """
        asked = self._membership.now()
        if connection.exec_driver_sql("SHOW transaction_read_only").scalar() != "off":
            raise ConnectionError("the server has become read-only")
        assert self._row is not None
        self._membership.confirm(self._row.number, after(asked, FENCE))

    def fence(self) -> None:
        """Note that the connection is gone."""
        self._membership.fence()


def has_lost(tx: Tx) -> bool:
    """Return whether the lock of a process is free, or was when its row was marked."""
    return bool(tx.scalar(_HAS_LOST))


def expel(tx: Tx) -> list[int]:
    """Unit of work: remove processes whose lock has been free for the grace; return their numbers.

    The caller takes back their claims in the same transaction. A process that enters again
    meanwhile waits for it, and gets a new number.
    """
    tx.execute(_MARK)
    return list(tx.scalars(_EXPEL))
