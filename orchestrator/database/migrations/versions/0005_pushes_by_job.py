"""A push is unique within its job.

Before, its hash was unique within the account: inserts went to random pages of a large index.
"""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"

#: How PostgreSQL names a constraint without a name; SQLite leaves it without.
_NAMES = {"uq": "%(table_name)s_%(column_0_N_name)s_key"}


def upgrade() -> None:
    """Replace a unique constraint and an index by one constraint; SQLite copies the table."""
    op.drop_index("ix_push_job", "push")
    with op.batch_alter_table("push", naming_convention=_NAMES) as push:
        push.drop_constraint("push_account_dedupe_key_key", type_="unique")
        push.create_unique_constraint("push_job_id_dedupe_key_key", ["job_id", "dedupe_key"])
