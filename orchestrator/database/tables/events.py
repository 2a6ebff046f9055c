"""The tables of events, subscribers, deliveries, attempts and replays."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlmodel import Field, Index, SQLModel, UniqueConstraint

from orchestrator.database.tables.columns import Count, Instant, Json, claimed_by
from orchestrator.database.tables.indexes import dead, pending, rare
from orchestrator.foundation.states import DeliveryState, ReplayState, SubscriberState


class Event(SQLModel, table=True):
    """An event. `body` is signed and sent, byte for byte."""

    id: str = Field(primary_key=True)
    job_id: str | None = None
    sequence: int
    type: str
    #: Where the report came from: a `Source`.
    source: str
    body: bytes
    created_at: datetime = Field(sa_type=Instant)
    #: Set by PostgreSQL from a sequence; NULL on SQLite, which has the rowid. See `events.log`.
    position: int | None = Field(default=None, sa_type=sa.BigInteger)

    __table_args__ = (
        Index("ix_event_job", "job_id", "sequence", unique=True),
        pending("ix_event_position", "position", given="position"),
        rare("ix_event_type", "event", "type"),
    )


class Subscriber(SQLModel, table=True):
    """A subscriber. Address, secrets and headers are encrypted; `shown` is the masked address."""

    id: str = Field(primary_key=True)
    kind: str
    #: The key that created it.
    api_key: str | None = None
    #: Set on the lane that all callback URLs of an origin share; such a row is no subscription.
    callback_origin: str | None = Field(default=None, unique=True)
    address: str
    #: The keyed hash of the address; None on a row that is older than such hashes.
    address_key: str | None = None
    shown: str
    #: `[{"key": encrypted, "until": epoch ms or null}]`, newest first.
    secrets: list[dict[str, Any]] = Field(sa_type=Json)
    types: list[str] = Field(sa_type=Json)
    description: str = ""
    headers: str | None = None
    options: dict[str, str] = Field(sa_type=Json)
    #: Encrypted JSON: what a kind signs in with.
    credentials: str | None = None
    #: Which events it wants of its types; see `events.filters`. NULL: all.
    filter: dict[str, Any] | None = Field(default=None, sa_type=Json)
    #: Events of one job are delivered one after the other, in sequence. NULL: false.
    ordered: bool | None = None
    #: What it has of its own of a retry policy; see `foundation.retry_policy`. NULL: nothing.
    retry: dict[str, Any] | None = Field(default=None, sa_type=Json)
    #: Attempts per second; None: unlimited.
    rate_limit: float | None = None
    max_in_flight: int = 8
    state: str = SubscriberState.ACTIVE
    reason: str | None = None
    #: No attempt before this: the subscriber sent Retry-After.
    resting_until: datetime | None = Field(default=None, sa_type=Instant)
    #: Since when every attempt has failed.
    failing_since: datetime | None = Field(default=None, sa_type=Instant)
    #: Failures in a row, counted until `subscriber.failing` is published; NULL: none.
    failures: int | None = None
    created_at: datetime = Field(sa_type=Instant)

    __table_args__ = (Index("ix_subscriber_types", "callback_origin", "types"),)


class SubscriberVersion(SQLModel, table=True):
    """One row, whose token a trigger replaces when subscribers receive other events than before.

    Random: unlike a number, a token does not come again after a rollback or a failover.
    """

    __tablename__ = "subscriber_version"

    id: int = Field(primary_key=True)
    token: str


class CallbackAddress(SQLModel, table=True):
    """The health of a callback URL that failed: one row per address, whatever jobs share it."""

    __tablename__ = "callback_address"

    #: The keyed hash of the URL.
    key: str = Field(primary_key=True)
    #: The subscriber that stands for its host.
    lane: str
    #: No attempt before this: it sent Retry-After.
    resting_until: datetime | None = Field(default=None, sa_type=Instant)
    #: Since when every attempt has failed, and how many.
    failing_since: datetime | None = Field(default=None, sa_type=Instant)
    failures: int = 0
    last_error: str | None = None
    updated_at: datetime = Field(sa_type=Instant)

    __table_args__ = (Index("ix_callback_address_lane", "lane"),)


class Delivery(SQLModel, table=True):
    """The delivery of an event to a subscriber."""

    id: str = Field(primary_key=True)
    event_id: str
    subscriber_id: str
    state: str = DeliveryState.PENDING
    due_at: datetime | None = Field(default=None, sa_type=Instant)
    #: When an operator asked for an attempt that does not wait for a resting subscriber.
    forced_at: datetime | None = Field(default=None, sa_type=Instant)
    lease: int = 0
    claimed_by: int | None = claimed_by()
    #: Attempts made.
    tries: int = 0
    last_status: int | None = None
    last_error: str | None = None
    created_at: datetime = Field(sa_type=Instant)
    done_at: datetime | None = Field(default=None, sa_type=Instant)

    __table_args__ = (
        UniqueConstraint("event_id", "subscriber_id"),
        pending("ix_delivery_due", "subscriber_id", "due_at"),
        pending("ix_delivery_forced", "subscriber_id", "due_at", given="forced_at"),
        Index("ix_delivery_subscriber", "subscriber_id", "id"),
        rare("ix_delivery_state", "delivery", "state"),
        dead("ix_delivery_dead", "id"),
        dead("ix_delivery_dead_of", "subscriber_id", "id"),
    )


class Attempt(SQLModel, table=True):
    """An attempt at a delivery. `ms` is its duration; `response` the head of the response body."""

    delivery_id: str = Field(primary_key=True)
    n: int = Field(primary_key=True)
    at: datetime = Field(sa_type=Instant)
    status: int | None = None
    ms: int
    error: str | None = None
    response: str | None = None


class Replay(SQLModel, table=True):
    """A replay and its progress: deliveries to make due again, missed events, or jobs to retry."""

    id: str = Field(primary_key=True)
    api_key: str
    idempotency_key: str | None = None
    subscriber_id: str | None = None
    event_id: str | None = None
    #: The state of the deliveries; unused for missed events.
    status: str
    #: Globs of event types; None: all.
    types: list[str] | None = Field(default=None, sa_type=Json)
    since: datetime | None = Field(default=None, sa_type=Instant)
    until: datetime | None = Field(default=None, sa_type=Instant)
    missed: bool = False
    #: A filter of jobs, which are retried instead: `engine.replay_retries.RetryFilter`.
    jobs: dict[str, Any] | None = Field(default=None, sa_type=Json)
    #: Deliveries made due, or jobs retried, per second; None: unlimited.
    rate: float | None = None
    state: str = ReplayState.RUNNING
    #: Ids of deliveries, missed events or jobs: the progress, and the end.
    cursor: str
    newest: str
    #: The number when it was created; how many were made due or retried; how many could not be.
    counted: int = Field(sa_type=Count)
    replayed: int = Field(default=0, sa_type=Count)
    failed: int = Field(default=0, sa_type=Count, sa_column_kwargs={"server_default": "0"})
    due_at: datetime | None = Field(default=None, sa_type=Instant)
    created_at: datetime = Field(sa_type=Instant)
    finished_at: datetime | None = Field(default=None, sa_type=Instant)

    __table_args__ = (
        pending("ix_replay_due", "due_at"),
        pending(
            "ix_replay_idempotency",
            "api_key",
            "idempotency_key",
            given="idempotency_key",
            unique=True,
        ),
    )
