"""Queued jobs have a fairness key, a priority and a start."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"

_QUEUED = sa.text("state = 'queued' AND queue_rank < 1000")


def upgrade() -> None:
    """Add columns with constant defaults, and an index of the queued jobs alone.

    To build the index, PostgreSQL reads the jobs once, and their writers wait for so long.
    Processes of the version before go on working. What they store has an empty fairness key and no
    start; what they claim is the oldest that is due, whatever its key. They submit no job before
    its start either, since it is not due.
    """
    op.add_column("job", sa.Column("fairness_key", sa.String(), nullable=False, server_default=""))
    op.add_column("job", sa.Column("queue_rank", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("job", sa.Column("start_after", sa.BigInteger()))
    op.add_column("account_state", sa.Column("served_key", sa.String()))
    # Those that wait have turns from the start.
    op.execute("UPDATE job SET fairness_key = api_key WHERE state = 'queued'")
    columns = ["account", "state", "fairness_key", "queue_rank", "due_at"]
    op.create_index("ix_job_turn", "job", columns, sqlite_where=_QUEUED, postgresql_where=_QUEUED)
