"""The first schema: jobs, pushes, events, subscribers, deliveries and attempts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

#: Milliseconds since 1970.
_INSTANT = sa.BigInteger()
_JSON = sa.Text()
#: A counter that only grows. SQLite's integers have 64 bits; it numbers rows of type INTEGER.
_COUNT = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_DUE = sa.text("due_at IS NOT NULL")
#: For rows that change a few times and then no longer: room for the next version on the same page,
#: and a vacuum after a thousand changes in a hundred thousand rows, without a delay.
_HOT = {
    "fillfactor": 80,
    "autovacuum_vacuum_scale_factor": 0.01,
    "autovacuum_vacuum_threshold": 500,
    "autovacuum_vacuum_cost_delay": 0,
}


def upgrade() -> None:
    """Make every table and index."""
    _jobs()
    _job_indexes()
    _facts()
    _subscribers()
    _deliveries()
    _traces()
    _account_states()
    _api_keys()


_JOB_COUNTERS = ("attempt", "tries", "asks", "misses", "lease")


def _jobs() -> None:
    op.create_table(
        "job",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("account", sa.String(), nullable=False),
        sa.Column("vendor", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("capability", sa.String(), nullable=False),
        sa.Column("input", _JSON, nullable=False),
        sa.Column("external_task_id", sa.String(), nullable=False),
        sa.Column("vendor_task_id", sa.String()),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("vendor_status", sa.String()),
        sa.Column("progress", sa.Integer()),
        sa.Column("output", _JSON),
        sa.Column("error", _JSON),
        sa.Column("callback_url", sa.String()),
        sa.Column("callback_events", _JSON),
        sa.Column("callback_lane", sa.String()),
        sa.Column("metadata", _JSON, nullable=False),
        sa.Column("api_key", sa.String(), nullable=False),
        sa.Column("idempotency_key", sa.String()),
        sa.Column("fingerprint", sa.String()),
        sa.Column("retry_of", sa.String()),
        *(sa.Column(name, sa.Integer(), nullable=False) for name in _JOB_COUNTERS),
        sa.Column("due_at", _INSTANT),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("vendor_updated_at", _INSTANT),
        sa.Column("outputless_since", _INSTANT),
        sa.Column("created_at", _INSTANT, nullable=False),
        sa.Column("submitted_at", _INSTANT),
        sa.Column("finished_at", _INSTANT),
        sa.Column("deadline_at", _INSTANT, nullable=False),
        sa.Column("resolved_by", sa.String()),
        sa.UniqueConstraint("account", "external_task_id"),
        postgresql_with=_HOT,
    )


def _job_indexes() -> None:
    op.create_index("ix_job_idempotency", "job", ["api_key", "idempotency_key"], unique=True)
    op.create_index("ix_job_vendor_task", "job", ["account", "vendor_task_id"], unique=True)
    _pending("ix_job_due", "job", "account", "state", "due_at")
    _pending("ix_job_deadline", "job", "deadline_at")


def _facts() -> None:
    op.create_table(
        "push",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("account", sa.String(), nullable=False),
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("received_at", _INSTANT, nullable=False),
        sa.Column("dedupe_key", sa.String(), nullable=False),
        sa.Column("verified", sa.Boolean(), nullable=False),
        sa.Column("headers", _JSON, nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("outcome", sa.String(), nullable=False),
        sa.Column("copies", sa.Integer(), nullable=False),
        sa.UniqueConstraint("account", "dedupe_key"),
    )
    op.create_index("ix_push_job", "push", ["job_id"])
    op.create_table(
        "event",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("job_id", sa.String()),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("type", sa.String(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", _INSTANT, nullable=False),
    )
    op.create_index("ix_event_job", "event", ["job_id", "sequence"], unique=True)


def _subscribers() -> None:
    op.create_table(
        "subscriber",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("callback_origin", sa.String(), unique=True),
        sa.Column("address", sa.String(), nullable=False),
        sa.Column("shown", sa.String(), nullable=False),
        sa.Column("secrets", _JSON, nullable=False),
        sa.Column("types", _JSON, nullable=False),
        sa.Column("description", sa.String(), nullable=False),
        sa.Column("headers", sa.String()),
        sa.Column("options", _JSON, nullable=False),
        sa.Column("rate_limit", sa.Float()),
        sa.Column("max_in_flight", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("reason", sa.String()),
        sa.Column("resting_until", _INSTANT),
        sa.Column("failing_since", _INSTANT),
        sa.Column("created_at", _INSTANT, nullable=False),
    )


def _deliveries() -> None:
    op.create_table(
        "delivery",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("event_id", sa.String(), nullable=False),
        sa.Column("subscriber_id", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("due_at", _INSTANT),
        sa.Column("lease", sa.Integer(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("last_status", sa.Integer()),
        sa.Column("last_error", sa.String()),
        sa.Column("created_at", _INSTANT, nullable=False),
        sa.Column("done_at", _INSTANT),
        sa.UniqueConstraint("event_id", "subscriber_id"),
        postgresql_with=_HOT,
    )
    _pending("ix_delivery_due", "delivery", "subscriber_id", "due_at")
    op.create_index("ix_delivery_subscriber", "delivery", ["subscriber_id", "id"])
    op.create_table(
        "attempt",
        sa.Column("delivery_id", sa.String(), primary_key=True),
        sa.Column("n", sa.Integer(), primary_key=True),
        sa.Column("at", _INSTANT, nullable=False),
        sa.Column("status", sa.Integer()),
        sa.Column("ms", sa.Integer(), nullable=False),
        sa.Column("error", sa.String()),
        sa.Column("response", sa.String()),
    )


def _traces() -> None:
    op.create_table(
        "trace",
        sa.Column("id", _COUNT, primary_key=True),
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("at", _INSTANT, nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("detail", _JSON, nullable=False),
    )
    op.create_index("ix_trace_job", "trace", ["job_id", "id"])


def _account_states() -> None:
    op.create_table(
        "account_state",
        sa.Column("account", sa.String(), primary_key=True),
        sa.Column("paused_until", _INSTANT),
        sa.Column("crowded", sa.Integer(), nullable=False),
        *(
            sa.Column(name, _COUNT, nullable=False)
            for name in ("pushes", "pushes_missed", "polls", "silent")
        ),
        sa.Column("degraded", sa.Boolean(), nullable=False),
        sa.Column("last_push_at", _INSTANT),
    )


def _api_keys() -> None:
    op.create_table(
        "api_key",
        sa.Column("id", sa.String(), primary_key=True),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("prefix", sa.String(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False, unique=True),
        sa.Column("scope", sa.String(), nullable=False),
        sa.Column("created_at", _INSTANT, nullable=False),
        sa.Column("expires_at", _INSTANT),
        sa.Column("revoked_at", _INSTANT),
        sa.Column("last_used_at", _INSTANT),
    )


def _pending(name: str, table: str, *columns: str) -> None:
    """Make an index of the rows that have something due."""
    op.create_index(name, table, [*columns], sqlite_where=_DUE, postgresql_where=_DUE)
