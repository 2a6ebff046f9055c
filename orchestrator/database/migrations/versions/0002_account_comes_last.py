"""The account comes last in the unique columns of a job.

With the account first, PostgreSQL could scan all its jobs for the due ones.
"""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"

#: How PostgreSQL names a constraint without a name; SQLite leaves it without.
_NAMES = {"uq": "%(table_name)s_%(column_0_N_name)s_key"}


def upgrade() -> None:
    """Reverse the unique constraint and the unique index; SQLite copies the table for it."""
    op.drop_index("ix_job_vendor_task", "job")
    with op.batch_alter_table("job", naming_convention=_NAMES) as job:
        job.drop_constraint("job_account_external_task_id_key", type_="unique")
        job.create_unique_constraint(
            "job_external_task_id_account_key", ["external_task_id", "account"]
        )
    op.create_index("ix_job_vendor_task", "job", ["vendor_task_id", "account"], unique=True)
