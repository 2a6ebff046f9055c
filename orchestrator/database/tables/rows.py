"""The rows of the tables as types: what a query over all columns of a table returns.

JSON columns are read as Python values (`Raw`: as text), `Instant` columns as aware datetimes in
UTC. A query over some columns defines a `TypedDict` next to it. A test holds these types to the
metadata.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypedDict, TypeVar, cast

import sqlalchemy as sa

from orchestrator.foundation.json_codec import Raw

RowT = TypeVar("RowT")


class JobRow(TypedDict):
    """A row of `job`."""

    id: str
    account: str
    vendor: str
    model: str
    capability: str
    input: Raw
    external_task_id: str
    vendor_task_id: str | None
    state: str
    vendor_status: str | None
    progress: int | None
    output: dict[str, Any] | None
    error: dict[str, Any] | None
    billing: Any | None
    callback_url: str | None
    callback_key: str | None
    callback_events: list[str] | None
    callback_lane: str | None
    metadata: dict[str, Any]
    api_key: str
    idempotency_key: str | None
    fingerprint: str | None
    retry_of: str | None
    retry_root: str | None
    retry_number: int | None
    fairness_key: str
    queue_rank: int
    start_after: datetime | None
    attempt: int
    tries: int
    asks: int
    misses: int
    queried_at: datetime | None
    lease: int
    due_at: datetime | None
    claimed_by: int | None
    version: int
    sequence: int
    alive_at: datetime | None
    vendor_updated_at: datetime | None
    outputless_since: datetime | None
    created_at: datetime
    submitted_at: datetime | None
    finished_at: datetime | None
    deadline_at: datetime
    resolved_by: str | None


class JobImageRow(TypedDict):
    """A row of `job_image`."""

    job_id: str
    reference: str
    image: bytes


class PushRow(TypedDict):
    """A row of `push`."""

    id: str
    account: str
    job_id: str
    attempt: int
    received_at: datetime
    dedupe_key: str
    verified: bool
    headers: dict[str, str]
    body: bytes
    outcome: str
    copies: int


class TraceRow(TypedDict):
    """A row of `trace`."""

    id: int
    job_id: str
    at: datetime
    kind: str
    detail: dict[str, Any]


class LatencyRow(TypedDict):
    """A row of `latency`."""

    account: str
    model: str
    capability: str
    counts: list[float]
    pushed: float
    lost: float
    asked: float
    fixed: float
    at: datetime


class AccountStateRow(TypedDict):
    """A row of `account_state`."""

    account: str
    paused_until: datetime | None
    crowded: int
    paused_since: datetime | None
    held_reason: str | None
    held_since: datetime | None
    held_message: str | None
    look_at: datetime | None
    looks: int | None
    probing: bool | None
    served_key: str | None
    tokens: float | None
    tokens_at: datetime | None
    pushes: int
    pushes_missed: int
    polls: int
    unsigned: int
    stale: int
    mismatched: int
    last_refused_at: datetime | None
    silent: int
    degraded: bool
    last_push_at: datetime | None


class SubscriberVersionRow(TypedDict):
    """A row of `subscriber_version`."""

    id: int
    token: str


class ProcessRow(TypedDict):
    """A row of `process`."""

    id: int
    started_at: datetime
    lost_at: datetime | None


class EventRow(TypedDict):
    """A row of `event`."""

    id: str
    job_id: str | None
    sequence: int
    type: str
    source: str
    body: bytes
    created_at: datetime
    position: int | None


class SubscriberRow(TypedDict):
    """A row of `subscriber`."""

    id: str
    kind: str
    api_key: str | None
    callback_origin: str | None
    address: str
    address_key: str | None
    shown: str
    secrets: list[dict[str, Any]]
    types: list[str]
    description: str
    headers: str | None
    options: dict[str, str]
    credentials: str | None
    filter: dict[str, Any] | None
    ordered: bool | None
    retry: dict[str, Any] | None
    rate_limit: float | None
    max_in_flight: int
    state: str
    reason: str | None
    resting_until: datetime | None
    failing_since: datetime | None
    failures: int | None
    created_at: datetime


class CallbackAddressRow(TypedDict):
    """A row of `callback_address`."""

    key: str
    lane: str
    resting_until: datetime | None
    failing_since: datetime | None
    failures: int
    last_error: str | None
    updated_at: datetime


class DeliveryRow(TypedDict):
    """A row of `delivery`."""

    id: str
    event_id: str
    subscriber_id: str
    state: str
    due_at: datetime | None
    forced_at: datetime | None
    lease: int
    claimed_by: int | None
    tries: int
    last_status: int | None
    last_error: str | None
    created_at: datetime
    done_at: datetime | None


class AttemptRow(TypedDict):
    """A row of `attempt`."""

    delivery_id: str
    n: int
    at: datetime
    status: int | None
    ms: int
    error: str | None
    response: str | None


class ReplayRow(TypedDict):
    """A row of `replay`."""

    id: str
    api_key: str
    idempotency_key: str | None
    subscriber_id: str | None
    event_id: str | None
    status: str
    types: list[str] | None
    since: datetime | None
    until: datetime | None
    missed: bool
    jobs: dict[str, Any] | None
    rate: float | None
    state: str
    cursor: str
    newest: str
    counted: int
    replayed: int
    failed: int
    due_at: datetime | None
    created_at: datetime
    finished_at: datetime | None


class ApiKeyRow(TypedDict):
    """A row of `api_key`."""

    id: str
    name: str
    prefix: str
    digest: str
    scope: str
    rate_limit: int | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


def fetch(
    tx: sa.Connection,
    kind: type[RowT],
    statement: sa.Executable,
    parameters: Mapping[str, Any] | None = None,
) -> list[RowT]:
    """Execute a statement and return its rows, each a mapping of the type `kind`."""
    return cast("list[RowT]", tx.execute(statement, parameters).mappings().all())
