"""What a vendor says that it charged for a job."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Add a nullable column: no lock that lasts, and processes of 0009 go on working."""
    op.add_column("job", sa.Column("billing", sa.Text()))
