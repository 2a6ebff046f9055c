"""Who else works on a PostgreSQL database."""

from __future__ import annotations

import sqlalchemy as sa

from orchestrator.database import schema
from orchestrator.foundation.errors import ConfigError

# By the lock of a process too: a URL may have an application_name of its own. The table may not be
# there yet.
_OTHERS = sa.text("""
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
        AND (application_name = 'orchestrator' OR pid IN (
            SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2
                AND classid = to_regclass('process')::oid))
""")


def check_unused(tx: sa.Connection) -> None:
    """Raise `ConfigError` if a service, or another command, is connected to the database."""
    if count := tx.scalar(_OTHERS):
        raise ConfigError(
            f"{schema.named(tx.engine.url)} is in use by orchestrator over {count} connections; "
            "stop every process that serves it, then run the command again"
        )
