"""A claim names the process that holds it, so that it can be taken back when the process ends."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Add a table and nullable columns: no lock that lasts, and processes of 0011 go on working.

    What they claim comes back by its lease alone.
    """
    op.create_table(
        "process",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("lost_at", sa.BigInteger()),
    )
    op.add_column("job", sa.Column("claimed_by", sa.Integer()))
    op.add_column("delivery", sa.Column("claimed_by", sa.Integer()))
