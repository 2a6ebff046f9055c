"""Addresses are secrets: keyed hashes, masked copies. Retries are numbered, refusals counted."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

#: Rows that are changed by one statement.
_BATCH = 100


def upgrade() -> None:
    """Add columns and indexes, and mask copies of addresses.

    The service encrypts the callback URLs of existing jobs afterwards, in small batches: that needs
    `secret_keys`, and no lock on the table of jobs.
    """
    _add_columns()
    op.create_table(
        "callback_address",
        sa.Column("key", sa.String(), primary_key=True),
        sa.Column("lane", sa.String(), nullable=False),
        sa.Column("resting_until", sa.BigInteger()),
        sa.Column("failing_since", sa.BigInteger()),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("last_error", sa.String()),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
    )
    op.create_index("ix_callback_address_lane", "callback_address", ["lane"])
    _number_retries()
    _partial("ix_job_retry", "job", ["retry_root", "retry_number"], "retry_root", unique=True)
    _partial("ix_delivery_forced", "delivery", ["subscriber_id", "due_at"], "forced_at")
    if op.get_bind().dialect.name == "sqlite":
        # The old text must not stay in free space of the file.
        op.execute("PRAGMA secure_delete = ON")
    _mask_subscribers()
    _mask_events()


def _add_columns() -> None:
    columns: dict[str, list[sa.Column[Any]]] = {
        "job": [
            sa.Column("callback_key", sa.String()),
            sa.Column("retry_root", sa.String()),
            sa.Column("retry_number", sa.Integer()),
            sa.Column("queried_at", sa.BigInteger()),
        ],
        "subscriber": [sa.Column("api_key", sa.String()), sa.Column("address_key", sa.String())],
        "delivery": [sa.Column("forced_at", sa.BigInteger())],
        "account_state": [
            *(_count(name) for name in ("unsigned", "stale", "mismatched")),
            sa.Column("last_refused_at", sa.BigInteger()),
        ],
    }
    for table, added in columns.items():
        for column in added:
            op.add_column(table, column)


def _count(name: str) -> sa.Column[int]:
    kind = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    return sa.Column(name, kind, nullable=False, server_default="0")


def _partial(
    name: str, table: str, columns: list[str], given: str, *, unique: bool = False
) -> None:
    some = sa.text(f"{given} IS NOT NULL")
    op.create_index(name, table, columns, unique=unique, sqlite_where=some, postgresql_where=some)


def _number_retries() -> None:
    """Give each retry the first job of its chain, and its number among the chain's retries."""
    job = sa.table("job", *map(sa.column, ("id", "retry_of", "retry_root", "retry_number")))
    retries = sa.select(job.c.id, job.c.retry_of).where(job.c.retry_of.is_not(None))
    roots: dict[str, str] = {}
    numbers: dict[str, int] = {}
    # Ids sort by time: a job is older than its retry.
    for job_id, retry_of in op.get_bind().execute(retries.order_by(job.c.id)).all():
        root = roots[job_id] = roots.get(retry_of, retry_of)
        numbers[root] = numbers.get(root, 0) + 1
        values = {"retry_root": root, "retry_number": numbers[root]}
        op.execute(sa.update(job).where(job.c.id == job_id).values(**values))


def _mask_subscribers() -> None:
    table = sa.table("subscriber", sa.column("id"), sa.column("shown"))
    for row_id, shown in op.get_bind().execute(sa.select(table.c.id, table.c.shown)).all():
        if _masked(shown) != shown:
            op.execute(sa.update(table).where(table.c.id == row_id).values(shown=_masked(shown)))


def _mask_events() -> None:
    """Mask the address of the subscriber that an event is about; the signature is made later."""
    table = sa.table(
        "event", sa.column("id"), sa.column("type"), sa.column("body", sa.LargeBinary())
    )
    bind, last = op.get_bind(), ""
    wanted = table.c.type.in_(("subscriber.disabled", "subscriber.test"))
    while True:
        some = sa.select(table.c.id, table.c.body).where(wanted, table.c.id > last)
        found = bind.execute(some.order_by(table.c.id).limit(_BATCH)).all()
        for event_id, body in found:
            event = json.loads(body)
            url = event["data"].get("url")
            if isinstance(url, str) and _masked(url) != url:
                event["data"]["url"] = _masked(url)
                text = json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode()
                op.execute(sa.update(table).where(table.c.id == event_id).values(body=text))
        if len(found) < _BATCH:
            return
        last = found[-1].id


def _masked(url: str) -> str:
    """Return a URL without user name, password, query and fragment."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return url.partition("?")[0]
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
