"""One database for all replicas of a run: real SQL on SQLite, in memory, run inline on the loop."""

from __future__ import annotations

from functools import cache
from typing import Any

import sqlalchemy as sa

from orchestrator.tables import metadata


@cache
def engine() -> sa.Engine:
    """Return the one engine: made once, since compiling its statements takes longer than a run."""
    made = sa.create_engine("sqlite://", poolclass=sa.pool.StaticPool, connect_args={"check_same_thread": False})

    @sa.event.listens_for(made, "connect")
    def connected(connection: Any, _record: Any) -> None:
        connection.isolation_level = None

    @sa.event.listens_for(made, "begin")
    def begun(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN")

    with made.begin() as tx:
        metadata.create_all(tx)
    return made


def emptied() -> sa.Engine:
    """Return the engine over empty tables."""
    with engine().begin() as tx:
        for table in metadata.sorted_tables:
            tx.execute(sa.delete(table))
    return engine()
