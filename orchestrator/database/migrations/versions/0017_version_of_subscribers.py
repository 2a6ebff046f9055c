"""The subscribers have a version, so that a process can keep them in memory."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"

#: Random: unlike a number, it does not come again after a rollback or a failover. The row of a
#: host of callback URLs receives no events as a subscriber, and does not count.
_SQLITE = """
CREATE TRIGGER subscriber_version_{event} AFTER {when} ON subscriber
WHEN {row}.callback_origin IS NULL
BEGIN
  INSERT INTO subscriber_version (id, token) VALUES (1, lower(hex(randomblob(16))))
  ON CONFLICT (id) DO UPDATE SET token = excluded.token;
END"""
_FUNCTION = """
CREATE FUNCTION subscriber_version() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP <> 'UPDATE' THEN
    IF NOT EXISTS (SELECT FROM changed WHERE callback_origin IS NULL) THEN
      RETURN NULL;
    END IF;
  END IF;
  INSERT INTO subscriber_version (id, token) VALUES (1, gen_random_uuid()::text)
  ON CONFLICT (id) DO UPDATE SET token = excluded.token;
  RETURN NULL;
END $$"""
_POSTGRES = """
CREATE TRIGGER subscriber_version_{event} AFTER {when} ON subscriber
{rows} FOR EACH STATEMENT EXECUTE FUNCTION subscriber_version()"""
#: The columns by which `events.outbox` chooses subscribers.
_UPDATE = "UPDATE OF types, state, filter, callback_origin"


def upgrade() -> None:
    """Add a table and triggers: processes of 0016 go on working, and their changes count.

    On PostgreSQL the lock of `subscriber` waits for its writers, and lasts for a moment.
    """
    op.create_table(
        "subscriber_version",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("token", sa.String(), nullable=False),
    )
    if op.get_bind().dialect.name == "postgresql":
        op.execute(_FUNCTION)
        new, old = "REFERENCING NEW TABLE AS changed", "REFERENCING OLD TABLE AS changed"
        for event, when, rows in (
            ("insert", "INSERT", new), ("update", _UPDATE, ""), ("delete", "DELETE", old),
        ):  # fmt: skip
            op.execute(_POSTGRES.format(event=event, when=when, rows=rows))
        return
    for event, when, row in (
        ("insert", "INSERT", "NEW"), ("update", _UPDATE, "NEW"), ("delete", "DELETE", "OLD"),
    ):  # fmt: skip
        op.execute(_SQLITE.format(event=event, when=when, row=row))
