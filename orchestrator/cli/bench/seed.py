"""Databases in the state a bench begins with, in bulk SQL: a million jobs in under a minute.

One statement inserts `CHUNK` rows; a column is a value or an SQL expression of the row number `N`.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, cast

import sqlalchemy as sa

from orchestrator.cli.bench.measurement import Plan
from orchestrator.cli.bench.scratch_database import ScratchDatabase
from orchestrator.cli.bench.service import SECRET
from orchestrator.database.tables import attempt, delivery, event, job, push, subscriber, trace
from orchestrator.database.tables.rows import JobRow
from orchestrator.events import destinations, subscribers
from orchestrator.foundation import states
from orchestrator.foundation.clock import SystemClock, after
from orchestrator.foundation.ids import Ids
from orchestrator.foundation.signing.secret_keys import Keys
from orchestrator.schemas.events import event_body
from orchestrator.schemas.jobs import job_json

CLOCK = SystemClock()
N: sa.ColumnElement[int] = sa.column("n", sa.BigInteger)
CHUNK = 100_000
#: Eras, the first digits of ids: history, waiting retries, jobs under load, deliveries to send.
#: The service's own ids are greater than all of them.
HISTORY, WAITING, LOAD, OWED = "000", "001", "010", "011"
#: Seconds until rows that must not be due within a run.
LATER = 3600.0
DAY = 86400.0
#: Nothing listens there.
NOWHERE = "http://127.0.0.1:9/hook"
#: Rows that a job has in one layer of history: a push, an event, a delivery, an attempt, a trace.
LAYER = 5
#: A type of event that no bench causes.
OTHER = ("account.push_degraded",)
_WIDTH = 10**18
_VIDEO = {"id": "1", "url": "https://cdn.example.com/v.mp4", "duration": 5.0, "expires_at": None}
_DONE = {
    "state": states.JobState.SUCCEEDED,
    "resolved_by": states.Source.PUSH,
    "output": {"videos": [_VIDEO]},
}
_JOB: Mapping[str, Any] = {
    "vendor": "kling",
    "model": "kling-v3",
    "capability": "text2video",
    "input": {"prompt": "A cinematic shot of a futuristic city", "duration": 5},
    "metadata": {},
    "version": 3,
    "vendor_task_id": "867283741759111202",
    "account": "bench-0",
    "fairness_key": "bench",
    "queue_rank": 0,
}


def id_of(prefix: str, era: str, number: int) -> str:
    """Return an id in the product's form."""
    return f"{prefix}_{era}0000{_WIDTH + number}"


def ids(prefix: str, era: str, number: sa.ColumnElement[int] = N) -> sa.ColumnElement[str]:
    """Return `id_of` as SQL."""
    return text(f"{prefix}_{era}0000", number + _WIDTH)


def text(prefix: str, number: sa.ColumnElement[int]) -> sa.ColumnElement[str]:
    """Return a number after a prefix, as SQL."""
    return sa.literal(prefix) + sa.cast(number, sa.String)


@dataclass(frozen=True, slots=True)
class Chunk:
    """Inserts rows numbered from `start` on, one of a table per number."""

    tx: sa.Connection
    era: str
    start: int
    count: int
    now: datetime

    def insert(self, table: sa.Table, **columns: Any) -> None:
        """Insert rows."""
        numbers = sa.select(sa.literal(self.start, sa.BigInteger).label("n"))
        series = numbers.cte("numbers", recursive=True)
        last = self.start + self.count - 1
        series = series.union_all(sa.select(series.c.n + 1).where(series.c.n < last))
        values: Sequence[sa.ColumnElement[Any]] = [
            value if isinstance(value, sa.ColumnElement) else sa.literal(value, table.c[name].type)
            for name, value in columns.items()
        ]
        rows = sa.select(*values).select_from(series)
        self.tx.execute(sa.insert(table).from_select(list(columns), rows))

    def jobs(self, accounts: int, **changes: Any) -> None:
        """Insert jobs that a vendor has accepted."""
        columns: dict[str, Any] = {
            **_JOB,
            **dict.fromkeys(("id", "external_task_id"), ids("job", self.era)),
            **dict.fromkeys(("tries", "asks", "misses", "lease", "sequence"), 0),
            **dict.fromkeys(("created_at", "submitted_at"), self.now),
            "deadline_at": after(self.now, DAY),
            "account": text("bench-", N % accounts),
            "vendor_task_id": text("7" + self.era, N + 10**17),
            "api_key": "bench",
            "attempt": 1,
        }
        self.insert(job, **(columns | changes))

    def finished_jobs(self, accounts: int) -> None:
        """Insert jobs that have succeeded."""
        self.jobs(accounts, finished_at=self.now, sequence=1, **_DONE)

    def events(self, layer: int = 0, of: int = 0) -> None:
        """Insert completion events of jobs; layer n after the n * `of` events of earlier layers."""
        key = {"<job>": ids("job", self.era), "<event>": ids("evt", self.era, N + layer * of)}
        body: sa.ColumnElement[str] = sa.literal("")
        for part in re.split("(<job>|<event>)", _event_template(self.now, layer + 1)):
            body = body + (key[part] if part in key else sa.literal(part))
        self.insert(
            event,
            id=key["<event>"],
            job_id=key["<job>"],
            sequence=layer + 1,
            type=states.EventType.JOB_SUCCEEDED,
            source=states.Source.PUSH,
            body=sa.cast(body, sa.LargeBinary),
            created_at=self.now,
        )

    def deliveries(self, to: str | sa.ColumnElement[str], offset: int = 0, **columns: Any) -> None:
        """Insert a delivery of each event to a subscriber."""
        key = {"id": ids("dlv", self.era, N + offset), "event_id": ids("evt", self.era, N + offset)}
        rest = {"subscriber_id": to, "lease": 0, "tries": 0, "created_at": self.now}
        self.insert(delivery, **{**key, **rest, **columns})

    def history(self, layer: int, of: int, to: str) -> None:
        """Insert a layer of history of `of` finished jobs."""
        number, jobs = N + layer * of, ids("job", self.era)
        outcome: dict[str, Any] = {"outcome": "applied", "verified": False, "copies": 1}
        self.insert(
            push,
            id=ids("psh", self.era, number),
            account="bench-0",
            job_id=jobs,
            attempt=1,
            received_at=self.now,
            dedupe_key=text("bench-", number),
            headers={},
            body=b"{}" * 200,
            **outcome,
        )
        self.events(layer, of)
        done: dict[str, Any] = {"tries": 1, "last_status": 200, "done_at": self.now}
        self.deliveries(to, layer * of, state=states.DeliveryState.DELIVERED, **done)
        result: dict[str, Any] = {"n": 1, "at": self.now, "status": 200, "ms": 3, "response": "ok"}
        self.insert(attempt, delivery_id=ids("dlv", self.era, number), **result)
        detail = {"attempt": 1, "outcome": "accepted"}
        self.insert(trace, job_id=jobs, at=self.now, kind="submit", detail=detail)


def chunks(engine: sa.Engine, era: str, count: int) -> Iterator[Chunk]:
    """Yield chunks of `count` rows, each in a transaction; then update PostgreSQL's statistics."""
    now = CLOCK.now()
    for start in range(0, count, CHUNK):
        with engine.begin() as tx:
            yield Chunk(tx, era, start, min(CHUNK, count - start), now)
    if engine.dialect.name == "postgresql":
        with engine.begin() as tx:
            tx.execute(sa.text("ANALYZE"))


def _event_template(now: datetime, sequence: int) -> str:
    """Return the body of an event with `<job>` and `<event>` in place of ids."""
    row: dict[str, Any] = {**dict.fromkeys(job.c.keys()), **_JOB, **_DONE, "api_key": "bench"}
    row |= dict.fromkeys(("id", "external_task_id"), "<job>")
    row |= dict.fromkeys(("created_at", "submitted_at", "finished_at", "deadline_at"), now)
    data = job_json(cast("JobRow", row), "http://127.0.0.1:8080")
    return event_body(states.EventType.JOB_SUCCEEDED, now, "<event>", sequence, data).decode()


def background(engine: sa.Engine, plan: Plan) -> None:
    """Insert what the plan asks for: finished jobs with history, subscribers, waiting retries."""
    count = plan.jobs or -(-plan.history // LAYER)
    if count:
        (paused,) = subscribe(engine, NOWHERE, types=OTHER, paused=True)
        for chunk in chunks(engine, HISTORY, count):
            chunk.finished_jobs(plan.accounts or 1)
            for layer in range(max(1, -(-plan.history // (LAYER * count)))):
                chunk.history(layer, count, paused)
    subscribe(engine, NOWHERE, count=(plan.subscribers or 1) - 1, types=OTHER)
    if plan.waiting:
        (dead,) = subscribe(engine, NOWHERE, types=OTHER)
        first_due = sa.literal(int(after(CLOCK.now(), LATER).timestamp() * 1000), sa.BigInteger)
        due: Any = first_due + N % 600_000
        for chunk in chunks(engine, WAITING, plan.waiting):
            chunk.finished_jobs(1)
            chunk.events()
            chunk.deliveries(dead, state=states.DeliveryState.PENDING, due_at=due, tries=2)


def submitted_jobs(
    engine: sa.Engine,
    count: int,
    accounts: int = 1,
    *,
    state: states.JobState = states.JobState.SUBMITTED,
    era: str = LOAD,
) -> list[str]:
    """Insert jobs that a vendor has and that are not due before `make_due`; return their ids.

    Job n belongs to account n modulo `accounts`.
    """
    for chunk in chunks(engine, era, count):
        chunk.jobs(accounts, state=state, due_at=after(chunk.now, LATER))
    return [id_of("job", era, number) for number in range(count)]


def queued_jobs(engine: sa.Engine, count: int, accounts: int = 1) -> None:
    """Insert jobs that are due to be submitted. Job n belongs to account n modulo `accounts`."""
    new = {"state": states.JobState.QUEUED, "attempt": 0, "submitted_at": None}
    for chunk in chunks(engine, LOAD, count):
        chunk.jobs(accounts, due_at=chunk.now, vendor_task_id=None, **new)


def owed_deliveries(engine: sa.Engine, count: int, to: str) -> None:
    """Insert finished jobs, and a delivery of each to a subscriber, not due before `make_due`."""
    for chunk in chunks(engine, OWED, count):
        chunk.finished_jobs(1)
        chunk.events()
        chunk.deliveries(to, state=states.DeliveryState.PENDING, due_at=after(chunk.now, LATER))


def subscribe(
    engine: sa.Engine,
    url: str,
    *,
    count: int = 1,
    types: Sequence[str] = ("job.succeeded",),
    paused: bool = False,
    max_in_flight: int = 32,
) -> list[str]:
    """Insert subscribers and return their ids. Deliveries to paused subscribers are held."""
    new = partial(
        subscribers.new,
        Ids(CLOCK, random.Random()),
        Keys([SECRET]),
        destination=destinations.load()["webhook"],
        url=url,
        types=list(types),
        description="bench",
        headers={},
        options={},
        rate_limit=None,
        max_in_flight=max_in_flight,
        now=CLOCK.now(),
    )
    state = {"state": states.SubscriberState.PAUSED, "reason": "bench"} if paused else {}
    rows: list[dict[str, Any]] = [{**new()[0], **state} for _ in range(count)]
    if rows:
        with engine.begin() as tx:
            tx.execute(sa.insert(subscriber), rows)
    return [row["id"] for row in rows]


def make_due(database: ScratchDatabase, table: sa.Table, *where: sa.ColumnElement[bool]) -> None:
    """Make rows due now that are due later."""
    now = CLOCK.now()
    with database.transaction() as tx:
        tx.execute(sa.update(table).where(table.c.due_at > now, *where).values(due_at=now))


def cancel_submitted(database: ScratchDatabase) -> None:
    """End jobs that no push ended: live, they would count against the limits of accounts."""
    live = sa.and_(job.c.id >= f"job_{LOAD}", job.c.state == states.JobState.SUBMITTED)
    ended = {"state": states.JobState.CANCELED, "due_at": None, "finished_at": CLOCK.now()}
    with database.transaction() as tx:
        tx.execute(sa.update(job).where(live).values(**ended))
