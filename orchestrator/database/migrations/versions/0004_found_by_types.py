"""Subscribers are found by their event types through an index."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Index subscribers by types; the lanes of callback URLs are in another part of the index."""
    op.create_index("ix_subscriber_types", "subscriber", ["callback_origin", "types"])
