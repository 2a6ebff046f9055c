"""Who else works on a PostgreSQL database."""

from __future__ import annotations

import sqlalchemy as sa

from orchestrator.database import schema
from orchestrator.foundation.errors import ConfigError

_OTHERS = sa.text(
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
    " AND application_name = 'orchestrator' AND pid <> pg_backend_pid()"
)


def check_unused(tx: sa.Connection) -> None:
    """Raise `ConfigError` if a service, or another command, is connected to the database."""
    if count := tx.scalar(_OTHERS):
        raise ConfigError(
            f"{schema.named(tx.engine.url)} is in use by orchestrator over {count} connections; "
            "stop every process that serves it, then run the command again"
        )
