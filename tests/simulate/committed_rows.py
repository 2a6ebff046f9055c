"""Reads the committed rows after each commit.

The tables of a run are small, so they are read whole.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, TypeVar

RowT = TypeVar("RowT", bound=NamedTuple)


class JobRow(NamedTuple):
    id: str
    account: str
    external_task_id: str
    vendor_task_id: str | None
    state: str
    attempt: int
    tries: int
    misses: int
    lease: int
    due_at: int | None
    version: int
    sequence: int
    deadline_at: int
    finished_at: int | None
    resolved_by: str | None
    output: str | None
    error: str | None
    callback_lane: str | None
    claimed_by: int | None
    fairness_key: str
    queue_rank: int
    start_after: int | None
    model: str
    capability: str
    asks: int
    submitted_at: int | None
    alive_at: int | None
    outputless_since: int | None


class DeliveryRow(NamedTuple):
    id: str
    event_id: str
    subscriber_id: str
    state: str
    due_at: int | None
    lease: int
    tries: int
    claimed_by: int | None


class EventRow(NamedTuple):
    rowid: int
    id: str
    job_id: str | None
    sequence: int
    type: str
    body: bytes


class SubscriberRow(NamedTuple):
    id: str
    types: str
    state: str
    resting_until: int | None
    callback_origin: str | None


class Hold(NamedTuple):
    account: str
    look_at: int
    probing: bool | None


class LatencyRow(NamedTuple):
    account: str
    model: str
    capability: str
    counts: str
    pushed: float
    lost: float
    at: int


class CommittedRows:
    """The committed rows, and what the last commit changed."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._changes = -1
        self._events = 0
        self.jobs: dict[str, JobRow] = {}
        self.deliveries: dict[str, DeliveryRow] = {}
        self.subscribers: dict[str, SubscriberRow] = {}
        self.paused: Mapping[str, int] = {}
        #: Held accounts, and those that were held before the last commit.
        self.holds: Mapping[str, Hold] = {}
        self.held_before: Mapping[str, Hold] = {}
        #: Rows changed by the last commit, as (before, after).
        self.changed_jobs: list[tuple[JobRow | None, JobRow]] = []
        self.changed_deliveries: list[tuple[DeliveryRow | None, DeliveryRow]] = []
        self.new_events: list[EventRow] = []
        self.changed_latencies: list[tuple[LatencyRow | None, LatencyRow]] = []
        self.deleted: list[str] = []
        self.latencies: Mapping[tuple[str, ...], LatencyRow] = self._read_latencies()

    @property
    def in_transaction(self) -> bool:
        """True while a transaction is open."""
        return self._connection.in_transaction

    def read(self) -> bool:
        """Read the tables. Return False if nothing has changed."""
        if self._connection.total_changes == self._changes:
            return False
        self._changes = self._connection.total_changes
        run = self._connection.execute
        jobs, self.changed_jobs = _refresh(self.jobs, JobRow, run(_JOBS))
        deliveries, self.changed_deliveries = _refresh(
            self.deliveries, DeliveryRow, run(_DELIVERIES)
        )
        self.subscribers = {row[0]: SubscriberRow._make(row) for row in run(_SUBSCRIBERS)}
        self.paused = dict(
            run("SELECT account, paused_until FROM account_state WHERE paused_until IS NOT NULL")
        )
        self.held_before, self.holds = self.holds, {row[0]: Hold._make(row) for row in run(_HOLDS)}
        latencies, before = self._read_latencies(), self.latencies
        self.changed_latencies = [
            (before.get(key), row) for key, row in latencies.items() if row != before.get(key)
        ]
        self.latencies = latencies
        self.new_events = [EventRow._make(row) for row in run(_EVENTS, (self._events,))]
        if self.new_events:
            self._events = self.new_events[-1].rowid
        self.deleted = sorted(
            (self.jobs.keys() - jobs.keys()) | (self.deliveries.keys() - deliveries.keys())
        )
        self.jobs, self.deliveries = jobs, deliveries
        return True

    def _read_latencies(self) -> dict[tuple[str, ...], LatencyRow]:
        rows = map(LatencyRow._make, self._connection.execute(_LATENCIES))
        return {row[:3]: row for row in rows}

    def has_push(self, account: str, body: bytes) -> bool:
        """True if an accepted push with this body is stored."""
        query = "SELECT 1 FROM push WHERE account = ? AND body = ? AND outcome NOT LIKE 'rejected%'"
        return self._connection.execute(query, (account, body)).fetchone() is not None

    def has_job(self, job_id: str) -> bool:
        """True if the job exists."""
        return (
            self._connection.execute("SELECT 1 FROM job WHERE id = ?", (job_id,)).fetchone()
            is not None
        )


def _refresh(
    known: Mapping[str, RowT], kind: type[RowT], rows: Iterable[tuple[Any, ...]]
) -> tuple[dict[str, RowT], list[tuple[RowT | None, RowT]]]:
    """Return all rows by id, and the changed ones as (before, after).

    An unchanged row stays the same object.
    """
    now: dict[str, RowT] = {}
    changed: list[tuple[RowT | None, RowT]] = []
    for row in rows:
        before = known.get(row[0])
        after = before if before is not None and before == row else kind._make(row)
        if after is not before:
            changed.append((before, after))
        now[row[0]] = after
    return now, changed


def _select(kind: type[NamedTuple], table: str) -> str:
    return f"SELECT {', '.join(kind._fields)} FROM {table}"


_JOBS = _select(JobRow, "job")
_DELIVERIES = _select(DeliveryRow, "delivery")
_SUBSCRIBERS = _select(SubscriberRow, "subscriber")
_EVENTS = _select(EventRow, "event") + " WHERE rowid > ? ORDER BY rowid"
_LATENCIES = _select(LatencyRow, "latency")
_HOLDS = _select(Hold, "account_state") + " WHERE held_since IS NOT NULL"
