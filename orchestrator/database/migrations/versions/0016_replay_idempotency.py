"""A replay has the idempotency key of its request."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    """Add a nullable column and its index: replays are few.

    Processes of 0015 go on working. They ignore the key: a request that is repeated to one of them
    may begin a second replay.
    """
    op.add_column("replay", sa.Column("idempotency_key", sa.String()))
    given = sa.text("idempotency_key IS NOT NULL")
    op.create_index(
        "ix_replay_idempotency",
        "replay",
        ["api_key", "idempotency_key"],
        unique=True,
        sqlite_where=given,
        postgresql_where=given,
    )
