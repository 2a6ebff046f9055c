"""The token bucket of an account with a rate limit."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add both columns; NULL is a full bucket."""
    op.add_column("account_state", sa.Column("tokens", sa.Float()))
    op.add_column("account_state", sa.Column("tokens_at", sa.BigInteger()))
