"""Facts of jobs: what we asked for, what vendors sent, what we did about it, and how each account is doing."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlmodel import Field, Index, SQLModel, UniqueConstraint

from orchestrator.database.tables.columns import Count, Instant, Json
from orchestrator.database.tables.indexes import pending, rare
from orchestrator.foundation.states import JobState


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
