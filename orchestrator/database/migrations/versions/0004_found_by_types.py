"""Subscribers are found by what they want, however many there are."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Index those that are not the lane of a callback URL by their types, and the lanes beside them."""
    op.create_index("ix_subscriber_types", "subscriber", ["callback_origin", "types"])
