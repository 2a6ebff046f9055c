"""Runs migrations on the connection and in the transaction of `schema`. Loaded by Alembic."""

from __future__ import annotations

from alembic import context

from orchestrator.database.schema import CONNECTION, VERSION_TABLE
from orchestrator.database.tables import metadata

context.configure(
    connection=context.config.attributes[CONNECTION],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    render_as_batch=True,
    transaction_per_migration=False,
)
with context.begin_transaction():
    context.run_migrations()
