"""Indexes by which lists are read in the order of ids, and timelines in the order of time."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

#: Name, table, column, and the condition of the indexed rows: those without a common value.
_RARE = (
    ("ix_job_state", "job", "state", "state <> 'succeeded'"),
    ("ix_job_resolved", "job", "resolved_by", "resolved_by <> 'push'"),
    (
        "ix_event_type",
        "event",
        "type",
        "type <> 'job.processing' AND type <> 'job.submitted' AND type <> 'job.succeeded'",
    ),
    ("ix_delivery_state", "delivery", "state", "state <> 'delivered'"),
)


def upgrade() -> None:
    """Add the indexes, and reorder that of traces."""
    op.create_index("ix_job_account", "job", ["account", "id"])
    op.create_index("ix_job_model", "job", ["model", "id"])
    for name, table, column, condition in _RARE:
        some = sa.text(condition)
        op.create_index(name, table, [column, "id"], sqlite_where=some, postgresql_where=some)
    op.drop_index("ix_trace_job", "trace")
    op.create_index("ix_trace_job", "trace", ["job_id", "at", "id"])
