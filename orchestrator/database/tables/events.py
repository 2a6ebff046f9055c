"""Facts of telling: what happened, who wants to know, what is owed to whom, and how that went."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlmodel import Field, Index, SQLModel, UniqueConstraint

from orchestrator.database.tables.columns import Count, Instant, Json
from orchestrator.database.tables.indexes import dead, pending, rare
from orchestrator.foundation.states import DeliveryState, ReplayState, SubscriberState


class Event(SQLModel, table=True):
    """The fact that something happened. `body` is what is signed and sent, byte for byte."""

    id: str = Field(primary_key=True)
    job_id: str | None = None
    sequence: int
    type: str
    #: Who told us.
    source: str
    body: bytes
    created_at: datetime = Field(sa_type=Instant)
    #: Given by PostgreSQL itself, from a sequence; NULL on SQLite, which has a row's own number. See `journal`.
    position: int | None = Field(default=None, sa_type=sa.BigInteger)

    __table_args__ = (
        Index("ix_event_job", "job_id", "sequence", unique=True),
        pending("ix_event_position", "position", given="position"),
        rare("ix_event_type", "event", "type"),
    )


class Subscriber(SQLModel, table=True):
    """Who wants events. Addresses, secrets and headers are encrypted; `shown` is the address as people may see it."""

    id: str = Field(primary_key=True)
    kind: str
    #: Set on the lane that all callback URLs of one origin share; such a row is nobody's standing subscription.
    callback_origin: str | None = Field(default=None, unique=True)
    address: str
    shown: str
    #: `[{"key": encrypted, "until": epoch ms or null}]`, newest first.
    secrets: list[dict[str, Any]] = Field(sa_type=Json)
    types: list[str] = Field(sa_type=Json)
    description: str = ""
    headers: str | None = None
    options: dict[str, str] = Field(sa_type=Json)
    #: Attempts a second; None: as fast as it answers.
    rate_limit: float | None = None
    max_in_flight: int = 8
    state: str = SubscriberState.ACTIVE
    reason: str | None = None
    #: Nothing is attempted before this: the subscriber asked for a rest.
    resting_until: datetime | None = Field(default=None, sa_type=Instant)
    #: Since when every attempt has failed.
    failing_since: datetime | None = Field(default=None, sa_type=Instant)
    created_at: datetime = Field(sa_type=Instant)

    __table_args__ = (Index("ix_subscriber_types", "callback_origin", "types"),)


class Delivery(SQLModel, table=True):
    """One event owed to one subscriber."""

    id: str = Field(primary_key=True)
    event_id: str
    subscriber_id: str
    state: str = DeliveryState.PENDING
    due_at: datetime | None = Field(default=None, sa_type=Instant)
    lease: int = 0
    #: Attempts made.
    tries: int = 0
    last_status: int | None = None
    last_error: str | None = None
    created_at: datetime = Field(sa_type=Instant)
    done_at: datetime | None = Field(default=None, sa_type=Instant)

    __table_args__ = (
        UniqueConstraint("event_id", "subscriber_id"),
        pending("ix_delivery_due", "subscriber_id", "due_at"),
        Index("ix_delivery_subscriber", "subscriber_id", "id"),
        rare("ix_delivery_state", "delivery", "state"),
        dead("ix_delivery_dead", "id"),
        dead("ix_delivery_dead_of", "subscriber_id", "id"),
    )


class Attempt(SQLModel, table=True):
    """One try at a delivery. `ms` is how long it took; `response` the head of the answer's body."""

    delivery_id: str = Field(primary_key=True)
    n: int = Field(primary_key=True)
    at: datetime = Field(sa_type=Instant)
    status: int | None = None
    ms: int
    error: str | None = None
    response: str | None = None


class Replay(SQLModel, table=True):
    """Deliveries to be made due again, or events to be owed that were missed: which, and how far that has come."""

    id: str = Field(primary_key=True)
    api_key: str
    subscriber_id: str | None = None
    event_id: str | None = None
    #: The state of the deliveries; without meaning where it is about missed events.
    status: str
    #: Globs of event types; None: all.
    types: list[str] | None = Field(default=None, sa_type=Json)
    since: datetime | None = Field(default=None, sa_type=Instant)
    until: datetime | None = Field(default=None, sa_type=Instant)
    missed: bool = False
    #: Deliveries made due a second; None: as fast as it goes.
    rate: float | None = None
    state: str = ReplayState.RUNNING
    #: Ids of deliveries, or of missed events: up to which it was gone through, and at which it ends.
    cursor: str
    newest: str
    #: What it was about when it was asked for, and how much of that was made due.
    counted: int = Field(sa_type=Count)
    replayed: int = Field(default=0, sa_type=Count)
    due_at: datetime | None = Field(default=None, sa_type=Instant)
    created_at: datetime = Field(sa_type=Instant)
    finished_at: datetime | None = Field(default=None, sa_type=Instant)

    __table_args__ = (pending("ix_replay_due", "due_at"),)
