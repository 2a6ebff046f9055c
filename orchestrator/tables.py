"""The tables: facts, no behaviour. Hot paths use the Core tables at the bottom; nothing here is ever lazily loaded.

The row is the queue: `due_at` says when the next step is ours (NULL: nothing pending) and `state` says which step.
There are no foreign keys: the ledger alone writes these rows, in one transaction, and a look-up on every insert is
what the hot path cannot spare. Every index is there for one statement.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlmodel import Field, Index, SQLModel, UniqueConstraint

from orchestrator.columns import Count, Instant, Json
from orchestrator.indexes import dead, pending, rare
from orchestrator.states import DeliveryState, JobState, ReplayState, SubscriberState


class Job(SQLModel, table=True):
    """One piece of work we ask a vendor to do."""

    id: str = Field(primary_key=True)
    account: str
    vendor: str
    model: str
    capability: str
    input: dict[str, Any] = Field(sa_type=Json)
    external_task_id: str
    vendor_task_id: str | None = None
    state: str = JobState.QUEUED
    vendor_status: str | None = None
    progress: int | None = None
    output: dict[str, Any] | None = Field(default=None, sa_type=Json)
    error: dict[str, Any] | None = Field(default=None, sa_type=Json)
    callback_url: str | None = None
    #: Globs of event types for `callback_url`.
    callback_events: list[str] | None = Field(default=None, sa_type=Json)
    #: The standing lane of deliveries to that URL's origin.
    callback_lane: str | None = None
    labels: dict[str, Any] = Field(sa_column=sa.Column("metadata", Json, nullable=False))
    api_key: str
    idempotency_key: str | None = None
    fingerprint: str | None = None
    retry_of: str | None = None
    #: Submissions begun.
    attempt: int = 0
    #: Submissions in a row that certainly did not happen.
    tries: int = 0
    #: Questions asked since the vendor last told us something.
    asks: int = 0
    #: Answers in a row that knew no such task.
    misses: int = 0
    #: The fencing number: who claimed last.
    lease: int = 0
    due_at: datetime | None = Field(default=None, sa_type=Instant)
    #: Grows with every visible change.
    version: int = 1
    #: Events so far; the sequence of the last one.
    sequence: int = 0
    vendor_updated_at: datetime | None = Field(default=None, sa_type=Instant)
    #: Since when the vendor says "succeeded" and shows no output.
    outputless_since: datetime | None = Field(default=None, sa_type=Instant)
    created_at: datetime = Field(sa_type=Instant)
    submitted_at: datetime | None = Field(default=None, sa_type=Instant)
    finished_at: datetime | None = Field(default=None, sa_type=Instant)
    deadline_at: datetime = Field(sa_type=Instant)
    resolved_by: str | None = None

    __table_args__ = (
        # The account comes last, lest a planner look for an account's due jobs among all it ever had.
        UniqueConstraint("external_task_id", "account"),
        Index("ix_job_idempotency", "api_key", "idempotency_key", unique=True),
        Index("ix_job_vendor_task", "vendor_task_id", "account", unique=True),
        pending("ix_job_due", "account", "state", "due_at"),
        pending("ix_job_deadline", "deadline_at"),
        # These are for lists.
        Index("ix_job_account", "account", "id"),
        Index("ix_job_model", "model", "id"),
        rare("ix_job_state", "job", "state"),
        rare("ix_job_resolved", "job", "resolved_by"),
    )


class Push(SQLModel, table=True):
    """A request a vendor sent us, byte for byte. One row for any number of copies."""

    id: str = Field(primary_key=True)
    account: str
    job_id: str
    attempt: int
    received_at: datetime = Field(sa_type=Instant)
    dedupe_key: str
    verified: bool
    headers: dict[str, str] = Field(sa_type=Json)
    body: bytes
    outcome: str
    copies: int = 1

    __table_args__ = (UniqueConstraint("job_id", "dedupe_key"),)


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


class Trace(SQLModel, table=True):
    """What we did about a job and no other row tells: submissions, questions, operators."""

    id: int | None = Field(default=None, primary_key=True, sa_type=Count)
    job_id: str
    at: datetime = Field(sa_type=Instant)
    kind: str
    detail: dict[str, Any] = Field(sa_type=Json)

    __table_args__ = (Index("ix_trace_job", "job_id", "at", "id"),)


class AccountState(SQLModel, table=True):
    """What changes about an account; its row lock guards the account's limit."""

    __tablename__ = "account_state"

    account: str = Field(primary_key=True)
    #: Nothing is submitted before this: the vendor said "too many".
    paused_until: datetime | None = Field(default=None, sa_type=Instant)
    #: "Too many" answers in a row.
    crowded: int = 0
    #: Submissions that `rate_limit` allowed at `tokens_at`; NULL: none was counted yet.
    tokens: float | None = None
    tokens_at: datetime | None = Field(default=None, sa_type=Instant)
    pushes: int = Field(default=0, sa_type=Count)
    pushes_missed: int = Field(default=0, sa_type=Count)
    polls: int = Field(default=0, sa_type=Count)
    #: Completions in a row that no push told us of.
    silent: int = Field(default=0, sa_type=Count)
    degraded: bool = False
    last_push_at: datetime | None = Field(default=None, sa_type=Instant)


class ApiKey(SQLModel, table=True):
    """A caller's key: only its digest is kept."""

    __tablename__ = "api_key"

    id: str = Field(primary_key=True)
    name: str
    #: The first characters, so that people recognise it.
    prefix: str
    digest: str = Field(unique=True)
    scope: str
    #: Requests a minute; 0: any number, None: as many as the settings say.
    rate_limit: int | None = None
    created_at: datetime = Field(sa_type=Instant)
    expires_at: datetime | None = Field(default=None, sa_type=Instant)
    revoked_at: datetime | None = Field(default=None, sa_type=Instant)
    last_used_at: datetime | None = Field(default=None, sa_type=Instant)


metadata = SQLModel.metadata
job = metadata.tables["job"]
push = metadata.tables["push"]
event = metadata.tables["event"]
subscriber = metadata.tables["subscriber"]
delivery = metadata.tables["delivery"]
attempt = metadata.tables["attempt"]
replay = metadata.tables["replay"]
trace = metadata.tables["trace"]
account_state = metadata.tables["account_state"]
api_key = metadata.tables["api_key"]
