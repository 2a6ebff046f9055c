"""A subscriber may have a retry policy of its own."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    """Add a nullable column: no lock that lasts.

    Processes of 0017 go on working, and retry by the standard schedule.
    """
    op.add_column("subscriber", sa.Column("retry", sa.Text()))
