"""The tables of jobs, pushes, traces and account states."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlmodel import Field, Index, SQLModel, UniqueConstraint

from orchestrator.database.tables.columns import Count, Instant, Json, RawJson, claimed_by
from orchestrator.database.tables.indexes import pending, queued, rare
from orchestrator.foundation.states import JobState


class Job(SQLModel, table=True):
    """A job."""

    id: str = Field(primary_key=True)
    account: str
    vendor: str
    model: str
    capability: str
    input: Any = Field(sa_type=RawJson)
    external_task_id: str
    vendor_task_id: str | None = None
    state: str = JobState.QUEUED
    vendor_status: str | None = None
    progress: int | None = None
    output: dict[str, Any] | None = Field(default=None, sa_type=Json)
    error: dict[str, Any] | None = Field(default=None, sa_type=Json)
    #: What the vendor says that it charged: its JSON.
    billing: Any = Field(default=None, sa_type=Json, nullable=True)
    #: Encrypted; `callback_key` is its keyed hash.
    callback_url: str | None = None
    callback_key: str | None = None
    #: Globs of event types for `callback_url`.
    callback_events: list[str] | None = Field(default=None, sa_type=Json)
    #: The subscriber of deliveries to the origin of `callback_url`.
    callback_lane: str | None = None
    labels: dict[str, Any] = Field(sa_column=sa.Column("metadata", Json, nullable=False))
    api_key: str
    idempotency_key: str | None = None
    fingerprint: str | None = None
    retry_of: str | None = None
    #: The first job of a chain of retries, and the number of this retry among all of that chain.
    retry_root: str | None = None
    retry_number: int | None = None
    #: Whose turn takes the job from the queue: the caller's word, or its API key. Empty: a process
    #: of an older version stored it.
    fairness_key: str = Field(default="", sa_column_kwargs={"server_default": ""})
    #: The priority, negated: a lower rank goes first, in the order of an index.
    queue_rank: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    #: It is not submitted before; NULL: at once.
    start_after: datetime | None = Field(default=None, sa_type=Instant)
    #: Submissions begun.
    attempt: int = 0
    #: Consecutive submissions that certainly did not happen.
    tries: int = 0
    #: Status queries since the last report.
    asks: int = 0
    #: Consecutive responses that knew no such task; -1: the first one to come proves nothing.
    misses: int = 0
    #: When the last status query was claimed.
    queried_at: datetime | None = Field(default=None, sa_type=Instant)
    #: The fencing token of the last claim.
    lease: int = 0
    due_at: datetime | None = Field(default=None, sa_type=Instant)
    claimed_by: int | None = claimed_by()
    #: Incremented with every visible change.
    version: int = 1
    #: The sequence of the last event.
    sequence: int = 0
    #: When a report last showed that the vendor was at work.
    alive_at: datetime | None = Field(default=None, sa_type=Instant)
    vendor_updated_at: datetime | None = Field(default=None, sa_type=Instant)
    #: Since when the vendor reports success without output.
    outputless_since: datetime | None = Field(default=None, sa_type=Instant)
    created_at: datetime = Field(sa_type=Instant)
    submitted_at: datetime | None = Field(default=None, sa_type=Instant)
    finished_at: datetime | None = Field(default=None, sa_type=Instant)
    deadline_at: datetime = Field(sa_type=Instant)
    resolved_by: str | None = None

    __table_args__ = (
        # The account comes last: otherwise a planner may scan all its jobs for the due ones.
        UniqueConstraint("external_task_id", "account"),
        Index("ix_job_idempotency", "api_key", "idempotency_key", unique=True),
        Index("ix_job_vendor_task", "vendor_task_id", "account", unique=True),
        pending("ix_job_due", "account", "state", "due_at"),
        # The state, so that all of a turn is read in the index: rows are wide.
        queued("ix_job_turn", "account", "state", "fairness_key", "queue_rank", "due_at"),
        pending("ix_job_deadline", "deadline_at"),
        # Of two concurrent retries, one gets the number.
        pending("ix_job_retry", "retry_root", "retry_number", given="retry_root", unique=True),
        # For lists.
        Index("ix_job_account", "account", "id"),
        Index("ix_job_model", "model", "id"),
        rare("ix_job_state", "job", "state"),
        rare("ix_job_resolved", "job", "resolved_by"),
    )


class JobImage(SQLModel, table=True):
    """A large image of a job, by the reference that its input holds: see `vendors/large_images`."""

    __tablename__ = "job_image"

    job_id: str = Field(primary_key=True)
    reference: str = Field(primary_key=True)
    image: bytes


class Push(SQLModel, table=True):
    """A push as received, byte for byte. Repeated copies share a row."""

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


class Trace(SQLModel, table=True):
    """An action on a job that no other row records: a submission, a query, an operator."""

    id: int | None = Field(default=None, primary_key=True, sa_type=Count)
    job_id: str
    at: datetime = Field(sa_type=Instant)
    kind: str
    detail: dict[str, Any] = Field(sa_type=Json)

    __table_args__ = (Index("ix_trace_job", "job_id", "at", "id"),)


class LatencyHistogram(SQLModel, table=True):
    """What is known about the latency of jobs, and about their pushes: it fades from `at` on."""

    __tablename__ = "latency"

    account: str = Field(primary_key=True)
    model: str = Field(primary_key=True)
    capability: str = Field(primary_key=True)
    #: Jobs that ended, by the buckets of `jobs/latency`.
    counts: list[float] = Field(sa_type=Json)
    #: Completions by push, and those whose push was lost.
    pushed: float
    lost: float
    #: Status queries, and how many the fixed policy would have needed.
    asked: float
    fixed: float
    at: datetime = Field(sa_type=Instant)


class AccountState(SQLModel, table=True):
    """The changing state of an account; its row lock guards the limit of the account."""

    __tablename__ = "account_state"

    account: str = Field(primary_key=True)
    #: No submission before this: the vendor answered "too many requests".
    paused_until: datetime | None = Field(default=None, sa_type=Instant)
    #: Consecutive "too many requests" responses.
    crowded: int = 0
    #: When the pauses began that are announced as one; NULL: none.
    paused_since: datetime | None = Field(default=None, sa_type=Instant)
    #: Why no job is submitted, since when, and in the vendor's words; NULL: not held.
    held_reason: str | None = None
    held_since: datetime | None = Field(default=None, sa_type=Instant)
    held_message: str | None = None
    #: When a hold is looked at next, and how often it was since the vendor accepted a job.
    look_at: datetime | None = Field(default=None, sa_type=Instant)
    looks: int | None = None
    #: True if the next look submits a job, since a check cannot tell; else it is a check.
    probing: bool | None = None
    #: The fairness key that was served last: the turn of the next one comes.
    served_key: str | None = None
    #: The token bucket of `rate_limit` at `tokens_at`; NULL: full.
    tokens: float | None = None
    tokens_at: datetime | None = Field(default=None, sa_type=Instant)
    pushes: int = Field(default=0, sa_type=Count)
    pushes_missed: int = Field(default=0, sa_type=Count)
    polls: int = Field(default=0, sa_type=Count)
    #: Pushes refused for their signature: without one, too old, matching no secret.
    unsigned: int = Field(default=0, sa_type=Count)
    stale: int = Field(default=0, sa_type=Count)
    mismatched: int = Field(default=0, sa_type=Count)
    last_refused_at: datetime | None = Field(default=None, sa_type=Instant)
    #: Consecutive final jobs without a push.
    silent: int = Field(default=0, sa_type=Count)
    degraded: bool = False
    last_push_at: datetime | None = Field(default=None, sa_type=Instant)
