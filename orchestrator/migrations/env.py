"""Runs migrations on the connection `orchestrator.schema` hands over, in its transaction. Alembic loads this file."""

from __future__ import annotations

from alembic import context

from orchestrator.schema import CONNECTION, VERSION_TABLE
from orchestrator.tables import metadata

context.configure(
    connection=context.config.attributes[CONNECTION],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    render_as_batch=True,
    transaction_per_migration=False,
)
with context.begin_transaction():
    context.run_migrations()
