"""A replay may retry jobs, and counts those that it could not."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    """Add columns, of which one has a default: no lock that lasts.

    Processes of 0013 go on working. One that meets a replay of jobs selects no delivery for it, and
    ends it: begin such replays when all processes are of this version.
    """
    count = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.add_column("replay", sa.Column("jobs", sa.Text()))
    op.add_column("replay", sa.Column("failed", count, nullable=False, server_default="0"))
