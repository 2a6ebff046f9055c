"""Latencies are learned: a histogram each, and when a job was last seen at work."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    """Add a table and a nullable column. Processes of the version before go on without them."""
    op.add_column("job", sa.Column("alive_at", sa.BigInteger()))
    op.create_table(
        "latency",
        sa.Column("account", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("capability", sa.String(), nullable=False),
        sa.Column("counts", sa.Text(), nullable=False),
        *(
            sa.Column(name, sa.Float(), nullable=False)
            for name in ("pushed", "lost", "asked", "fixed")
        ),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("account", "model", "capability"),
    )
