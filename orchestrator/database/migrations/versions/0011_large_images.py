"""Large images in Base64 are stored beside their job, which changes often."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Add the table. Processes of 0010 go on working, but cannot submit jobs with large images."""
    op.create_table(
        "job_image",
        sa.Column("job_id", sa.String(), primary_key=True),
        sa.Column("reference", sa.String(), primary_key=True),
        sa.Column("image", sa.LargeBinary(), nullable=False),
    )
