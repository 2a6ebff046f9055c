"""The account comes last in what is unique about a job.

Where it came first, PostgreSQL's planner could look for an account's due jobs among all it ever had.
"""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"

#: PostgreSQL names what was left without a name like this, SQLite not at all.
_NAMES = {"uq": "%(table_name)s_%(column_0_N_name)s_key"}


def upgrade() -> None:
    """Turn the unique constraint and the unique index round; SQLite copies the table for it."""
    op.drop_index("ix_job_vendor_task", "job")
    with op.batch_alter_table("job", naming_convention=_NAMES) as job:
        job.drop_constraint("job_account_external_task_id_key", type_="unique")
        job.create_unique_constraint(
            "job_external_task_id_account_key", ["external_task_id", "account"]
        )
    op.create_index("ix_job_vendor_task", "job", ["vendor_task_id", "account"], unique=True)
