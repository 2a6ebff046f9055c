"""Accounts may be given a rate: what is left of it, and since when."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add both columns; an account nobody counted for starts with all of its rate."""
    op.add_column("account_state", sa.Column("tokens", sa.Float()))
    op.add_column("account_state", sa.Column("tokens_at", sa.BigInteger()))
