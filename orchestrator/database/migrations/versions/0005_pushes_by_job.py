"""A push is met again beside the other pushes of its job.

What was unique was a hash within an account: each push went to another place of an index as large as all of them.
"""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"

#: PostgreSQL names what was left without a name like this, SQLite not at all.
_NAMES = {"uq": "%(table_name)s_%(column_0_N_name)s_key"}


def upgrade() -> None:
    """Let one unique constraint do what it and an index did; SQLite copies the table for it."""
    op.drop_index("ix_push_job", "push")
    with op.batch_alter_table("push", naming_convention=_NAMES) as push:
        push.drop_constraint("push_account_dedupe_key_key", type_="unique")
        push.create_unique_constraint("push_job_id_dedupe_key_key", ["job_id", "dedupe_key"])
