"""Accounts are held while their vendor refuses them; failures of subscribers are counted."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """Add nullable columns: no lock that lasts, and processes of 0012 go on working.

    They know of no holds: they submit jobs of held accounts, and fail them as before.
    """
    for name, kind in (
        ("paused_since", sa.BigInteger()),
        ("held_reason", sa.String()),
        ("held_since", sa.BigInteger()),
        ("held_message", sa.String()),
        ("look_at", sa.BigInteger()),
        ("looks", sa.Integer()),
        ("probing", sa.Boolean()),
    ):
        op.add_column("account_state", sa.Column(name, kind))
    op.add_column("subscriber", sa.Column("failures", sa.Integer()))
