"""The database of all replicas: SQLite in memory with the real SQL, run on the loop."""

from __future__ import annotations

from functools import cache

import sqlalchemy as sa

from orchestrator.database import schema
from orchestrator.database.sqlite.engine import ManualTransactionDialect
from orchestrator.database.tables import metadata


@cache
def engine() -> sa.Engine:
    """Return the shared engine. Made once: compiling its statements takes longer than a run."""
    driver = {"isolation_level": None, "check_same_thread": False, "cached_statements": 512}
    made = sa.create_engine("sqlite+manual://", poolclass=sa.pool.StaticPool, connect_args=driver)
    assert isinstance(made.dialect, ManualTransactionDialect)
    with made.begin() as tx:
        # Not the declared tables alone: triggers too.
        schema.upgrade(tx)
    return made


def empty_engine() -> sa.Engine:
    """Delete all rows and return the engine.

    A connection that was ended hard, in a test before, is replaced, and its database is gone.
    """
    with engine().begin() as tx:
        if not sa.inspect(tx).has_table("job"):
            schema.upgrade(tx)
        for table in metadata.sorted_tables:
            tx.execute(sa.delete(table))
    return engine()
