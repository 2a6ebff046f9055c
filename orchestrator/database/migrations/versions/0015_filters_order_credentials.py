"""A subscriber may have a filter, an order and credentials."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    """Add nullable columns: no lock that lasts.

    Processes of 0014 go on working. They know of no filters and no order: give them to subscribers
    when all processes are of this version.
    """
    op.add_column("subscriber", sa.Column("filter", sa.Text()))
    op.add_column("subscriber", sa.Column("ordered", sa.Boolean()))
    op.add_column("subscriber", sa.Column("credentials", sa.String()))
