"""Large images in Base64 are stored beside their job, which changes often."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "job_image",
        sa.Column("job_id", sa.String(), primary_key=True),
        sa.Column("reference", sa.String(), primary_key=True),
        sa.Column("image", sa.LargeBinary(), nullable=False),
    )
