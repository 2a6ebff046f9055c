"""Databases in the state a bench begins with: bulk SQL, so that a million jobs take less than a minute."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from orchestrator.cli.bench.place import Place
from orchestrator.cli.bench.plan import Plan
from orchestrator.cli.bench.series import N, chunks, fill, id_of, ids, text, written
from orchestrator.cli.bench.service import SECRET
from orchestrator.database.tables import delivery, event, job, subscriber
from orchestrator.events import destinations, subscribers
from orchestrator.foundation.clock import SystemClock, after
from orchestrator.foundation.ids import Ids
from orchestrator.foundation.signing.secret_keys import Keys
from orchestrator.foundation.states import (
    DeliveryState,
    EventType,
    JobState,
    Source,
    SubscriberState,
)
from orchestrator.schemas.events import event_body
from orchestrator.schemas.jobs import job_json

CLOCK = SystemClock()
#: The eras of ids: what lay there before, retries that wait, jobs that a bench works on, deliveries it owes. The
#: product's own are younger than all of them.
BEFORE, WAITING, BENCH, OWED = "000", "001", "010", "011"
_DAY = 86400.0
#: Seconds until what is not to be due within a run is.
LATER = 3600.0
_PREFIX = {"job": "job", "delivery": "dlv"}
#: Nobody listens there.
NOWHERE = "http://127.0.0.1:9/hook"
_OUTPUT = {
    "videos": [
        {"id": "1", "url": "https://cdn.example.com/v.mp4", "duration": 5.0, "expires_at": None}
    ]
}


def release(place: Place, table: sa.Table, *which: sa.ColumnElement[bool]) -> None:
    """Make rows of a bench due now that were due later, while the service runs."""
    later = sa.and_(
        table.c.id >= f"{_PREFIX[table.name]}_{BENCH}", table.c.due_at > CLOCK.now(), *which
    )
    with place.beside() as tx:
        tx.execute(sa.update(table).where(later).values(due_at=CLOCK.now()))


def end(place: Place) -> None:
    """End the jobs of a bench that nobody pushed about: alive, they would count against their accounts' limits."""
    left = sa.and_(job.c.id >= f"job_{BENCH}", job.c.state == JobState.SUBMITTED)
    with place.beside() as tx:
        tx.execute(
            sa.update(job)
            .where(left)
            .values(state=JobState.CANCELED, due_at=None, finished_at=CLOCK.now())
        )


def submitted(
    engine: sa.Engine,
    count: int,
    accounts: int = 1,
    state: JobState = JobState.SUBMITTED,
    era: str = BENCH,
) -> list[str]:
    """Put so many jobs down that a vendor has and that are not due before `release`; return their ids, oldest first.

    Job n belongs to account n modulo `accounts`.
    """
    now = CLOCK.now()
    for start, many in chunks(count):
        with engine.begin() as tx:
            values = {"state": state, "due_at": after(now, LATER)}
            jobs(tx, era, start, many, accounts, now, **values)
    analyzed(engine)
    return [id_of("job", era, number) for number in range(count)]


def owed(engine: sa.Engine, count: int, to: str) -> None:
    """Put so many finished jobs down, each with an event for a subscriber that is not due before `release`."""
    now = CLOCK.now()
    for start, many in chunks(count):
        with engine.begin() as tx:
            finished(tx, OWED, start, many, 1, now)
            events(tx, OWED, start, many, now)
            deliveries(
                tx,
                OWED,
                start,
                many,
                to,
                now,
                state=DeliveryState.PENDING,
                due_at=after(now, LATER),
            )
    analyzed(engine)


def subscribe(
    engine: sa.Engine,
    url: str,
    *,
    count: int = 1,
    types: Sequence[str] = ("job.succeeded",),
    paused: bool = False,
) -> list[str]:
    """Add subscribers of these types of events; return their ids. What one that is paused is owed is held."""
    kind, keys, new_id = destinations.load()["webhook"], Keys([SECRET]), Ids(CLOCK, random.Random())
    state = {"state": SubscriberState.PAUSED, "reason": "bench"} if paused else {}
    made = [
        subscribers.new(
            new_id, keys, destination=kind, url=url, types=list(types), description="bench", headers={}, options={},
            rate_limit=None, max_in_flight=32, now=CLOCK.now(),
        )[0] | state
        for _ in range(count)
    ]  # fmt: skip
    if made:
        with engine.begin() as tx:
            tx.execute(sa.insert(subscriber), made)
    return [row["id"] for row in made]


def bystanders(engine: sa.Engine, plan: Plan) -> None:
    """Add the subscribers of a plan that want other events than a bench causes."""
    subscribe(engine, NOWHERE, count=(plan.subscribers or 1) - 1, types=("account.push_degraded",))


def analyzed(engine: sa.Engine) -> None:
    """Have PostgreSQL look at what it now holds, as it soon would by itself."""
    if engine.dialect.name == "postgresql":
        with engine.begin() as tx:
            tx.execute(sa.text("ANALYZE"))


# -- rows, numbered from `start` on


def jobs(
    tx: sa.Connection, era: str, start: int, count: int, accounts: int, now: datetime, **values: Any
) -> None:
    """Insert jobs that a vendor took."""
    defaults: dict[str, Any] = {
        "id": ids("job", era), "account": text("bench-", N % accounts), "vendor": "kling", "model": "kling-v3",
        "capability": "text2video", "input": {"prompt": "A cinematic shot of a futuristic city", "duration": 5},
        "external_task_id": ids("job", era), "vendor_task_id": text("7" + era, N + 10**17), "metadata": {},
        "api_key": "bench", "attempt": 1, "tries": 0, "asks": 0, "misses": 0, "lease": 0, "version": 3, "sequence": 0,
        "created_at": now, "submitted_at": now, "deadline_at": after(now, _DAY),
    }  # fmt: skip
    fill(tx, job, start, count, **(defaults | values))


def finished(
    tx: sa.Connection, era: str, start: int, count: int, accounts: int, now: datetime
) -> None:
    """Insert jobs that have succeeded."""
    done = {
        "state": JobState.SUCCEEDED,
        "finished_at": now,
        "resolved_by": Source.PUSH,
        "output": _OUTPUT,
    }
    jobs(tx, era, start, count, accounts, now, sequence=1, **done)


def events(
    tx: sa.Connection, era: str, start: int, count: int, now: datetime, layer: int = 0, of: int = 0
) -> None:
    """Insert the completions of jobs; a further `layer` of them after the first `of` each."""
    number = N + layer * of
    marks = {"job": ids("job", era), "event": ids("evt", era, number)}
    body = sa.cast(written(_body(now, layer + 1), **marks), sa.LargeBinary)
    fill(
        tx, event, start, count, id=marks["event"], job_id=marks["job"], sequence=layer + 1,
        type=EventType.JOB_SUCCEEDED, source=Source.PUSH, body=body, created_at=now,
    )  # fmt: skip


def deliveries(
    tx: sa.Connection,
    era: str,
    start: int,
    count: int,
    to: str,
    now: datetime,
    offset: int = 0,
    **values: Any,
) -> None:
    """Insert one delivery to a subscriber for each event."""
    number = N + offset
    fill(
        tx, delivery, start, count, id=ids("dlv", era, number), event_id=ids("evt", era, number), subscriber_id=to,
        lease=0, created_at=now, **({"tries": 0} | values),
    )  # fmt: skip


def _body(now: datetime, sequence: int) -> str:
    """Return what an event says, `<job>` and `<event>` standing for the ids."""
    row: dict[str, Any] = dict.fromkeys(job.c.keys())
    row |= {
        "id": "<job>", "state": JobState.SUCCEEDED, "account": "bench-0", "vendor": "kling", "model": "kling-v3",
        "capability": "text2video", "external_task_id": "<job>", "vendor_task_id": "867283741759111202",
        "input": {"prompt": "A cinematic shot of a futuristic city", "duration": 5}, "output": _OUTPUT, "metadata": {},
        "resolved_by": Source.PUSH, "version": 3, "created_at": now, "submitted_at": now, "finished_at": now,
        "deadline_at": after(now, _DAY),
    }  # fmt: skip
    data = job_json(row, "http://127.0.0.1:8080")
    return event_body(EventType.JOB_SUCCEEDED, now, "<event>", sequence, data).decode()
