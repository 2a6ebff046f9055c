"""On PostgreSQL, events are numbered on insert, so they can be read in the order of commits."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

#: So many existing events get a number: the table is locked meanwhile. A reader that resumes at an
#: older one gets a gap.
_NEWEST = 20_000


def upgrade() -> None:
    """Add the number, for the newest events by age. SQLite numbers rows by itself."""
    op.add_column("event", sa.Column("position", sa.BigInteger()))
    if op.get_bind().dialect.name == "postgresql":
        op.execute("CREATE SEQUENCE event_position OWNED BY event.position")
        aged = sa.text(
            "UPDATE event SET position = aged.n"
            " FROM (SELECT id, row_number() OVER (ORDER BY id) AS n"
            " FROM (SELECT id FROM event ORDER BY id DESC LIMIT :newest) AS newest) AS aged"
            " WHERE aged.id = event.id"
        )
        op.execute(aged.bindparams(newest=_NEWEST))
        op.execute("SELECT setval('event_position', max(position)) FROM event HAVING count(*) > 0")
        op.execute("ALTER TABLE event ALTER position SET DEFAULT nextval('event_position')")
    given = sa.text("position IS NOT NULL")
    op.create_index(
        "ix_event_position", "event", ["position"], sqlite_where=given, postgresql_where=given
    )
