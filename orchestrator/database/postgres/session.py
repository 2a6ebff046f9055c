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
_FREE = ~sa.exists().where(_OURS, _LOCKS.c.objid == process.c.id)
_NOW = sa.text("(extract(epoch FROM clock_timestamp()) * 1000)::bigint")
# One statement: no other process sees the row before its lock is held.
_ENTERED = sa.insert(process).values(started_at=_NOW).returning(process.c.id).cte("entered")
_ENTER = sa.select(_ENTERED.c.id, sa.func.pg_advisory_lock(_CLASS, _ENTERED.c.id))
_NUMBER = sa.bindparam("number", type_=sa.Integer)
_TAKE_LOCK = sa.select(sa.func.pg_try_advisory_lock(_CLASS, _NUMBER))
_FREE_LOCK = sa.select(sa.func.pg_advisory_unlock(_CLASS, _NUMBER))
_MINE = sa.update(process).where(process.c.id == _NUMBER)
_STAY = _MINE.values(lost_at=None).returning(process.c.id)
_END_OTHER = sa.select(sa.func.pg_terminate_backend(_LOCKS.c.pid)).where(
    _OURS, _LOCKS.c.objid == _NUMBER
)
_HAS_LOST = sa.select(sa.exists().where(_FREE).select_from(process))
_MARK = sa.update(process).where(process.c.lost_at.is_(None), _FREE).values(lost_at=_NOW)
_OVER = process.c.lost_at <= sa.text(
    f"(extract(epoch FROM clock_timestamp()) * 1000)::bigint - {GRACE * 1000:.0f}"
)
_EXPEL = sa.delete(process).where(_OVER, _FREE).returning(process.c.id)


class Session:
    """The session of this process, over the connections that it has had. Used by one thread.

    A connection is in autocommit.
    """

    def __init__(self, membership: Membership) -> None:
        self._membership = membership
        self._number: int | None = None

    def enter(self, connection: sa.Connection) -> bool:
        """Take the lock of our number; of a new one, if our claims have been handed over.

        Return False while the server still sees our last session: it has been told to end it.
        """
        connection.exec_driver_sql(_KEEPALIVES)
        asked = self._membership.now()
        if (number := self._number) is not None:
            if not connection.scalar(_TAKE_LOCK, {"number": number}):
                connection.execute(_END_OTHER, {"number": number})
                return False
            if connection.scalar(_STAY, {"number": number}) is None:
                connection.execute(_FREE_LOCK, {"number": number})
                number = None
        if number is None:
            number = self._number = connection.execute(_ENTER).scalar_one()
        self._membership.confirm(number, after(asked, FENCE))
        return True

    def confirm(self, connection: sa.Connection) -> None:
        """Ask whether the session lives. Raises the errors of the driver."""
        asked = self._membership.now()
        connection.exec_driver_sql("SELECT 1")
        assert self._number is not None
        self._membership.confirm(self._number, after(asked, FENCE))

    def fence(self) -> None:
        """Note that the connection is gone."""
        self._membership.fence()


def has_lost(tx: Tx) -> bool:
    """Return whether the lock of a process is free."""
    return bool(tx.scalar(_HAS_LOST))


def expel(tx: Tx) -> list[int]:
    """Unit of work: remove processes whose lock has been free for the grace; return their numbers.

    The caller takes back their claims in the same transaction. A process that enters again
    meanwhile waits for it, and gets a new number.
    """
    tx.execute(_MARK)
    return list(tx.scalars(_EXPEL))
