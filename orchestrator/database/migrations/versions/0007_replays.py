"""Replays are rows; dead deliveries have indexes; API keys may have a rate limit."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Add the table, the indexes and the column; NULL is the rate of the settings."""
    op.create_table(
        "replay",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("api_key", sa.String(), nullable=False),
        sa.Column("subscriber_id", sa.String()),
        sa.Column("event_id", sa.String()),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("types", sa.Text()),
        sa.Column("since", sa.BigInteger()),
        sa.Column("until", sa.BigInteger()),
        sa.Column("missed", sa.Boolean(), nullable=False),
        sa.Column("rate", sa.Float()),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("cursor", sa.String(), nullable=False),
        sa.Column("newest", sa.String(), nullable=False),
        sa.Column("counted", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("replayed", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("due_at", sa.BigInteger()),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("finished_at", sa.BigInteger()),
    )
    due, dead = sa.text("due_at IS NOT NULL"), sa.text("state = 'dead'")
    op.create_index("ix_replay_due", "replay", ["due_at"], sqlite_where=due, postgresql_where=due)
    op.create_index(
        "ix_delivery_dead", "delivery", ["id"], sqlite_where=dead, postgresql_where=dead
    )
    op.create_index(
        "ix_delivery_dead_of",
        "delivery",
        ["subscriber_id", "id"],
        sqlite_where=dead,
        postgresql_where=dead,
    )
    op.add_column("api_key", sa.Column("rate_limit", sa.Integer()))
