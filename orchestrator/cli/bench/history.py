"""What a database holds before a bench begins: finished jobs with all that is kept about them, and waiting retries."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from orchestrator.cli.bench.plan import Plan
from orchestrator.cli.bench.seeding import (
    BEFORE,
    CLOCK,
    LATER,
    NOWHERE,
    WAITING,
    analyzed,
    bystanders,
    deliveries,
    events,
    finished,
    subscribe,
)
from orchestrator.cli.bench.series import N, chunks, fill, ids, text
from orchestrator.database.tables import attempt, push, trace
from orchestrator.foundation.clock import after
from orchestrator.foundation.states import DeliveryState

#: Rows of history that a job has in one layer of it: a push, an event, a delivery, an attempt and a trace.
LAYER = 5


def lay(engine: sa.Engine, plan: Plan) -> None:
    """Lay down what a plan wants to be there before."""
    now, accounts = CLOCK.now(), plan.accounts or 1
    count = plan.jobs or -(-plan.history // LAYER)
    if count:
        (gone,) = subscribe(engine, NOWHERE, types=("account.push_degraded",), paused=True)
        for start, many in chunks(count):
            with engine.begin() as tx:
                finished(tx, BEFORE, start, many, accounts, now)
                for layer in range(max(1, -(-plan.history // (LAYER * count)))):
                    layer_of(tx, start, many, layer, count, gone, now)
    bystanders(engine, plan)
    if plan.waiting:
        _retries(engine, plan.waiting, now)
    analyzed(engine)


def layer_of(
    tx: sa.Connection, start: int, count: int, layer: int, of: int, to: str, now: datetime
) -> None:
    """Lay down one layer of history behind so many jobs; a further one after the first `of` each."""
    number: sa.ColumnElement[int] = N + layer * of
    mine = ids("job", BEFORE)
    fill(
        tx, push, start, count, id=ids("psh", BEFORE, number), account="bench-0", job_id=mine, attempt=1,
        received_at=now, dedupe_key=text("bench-", number), verified=False, headers={}, body=b"{}" * 200,
        outcome="applied", copies=1,
    )  # fmt: skip
    events(tx, BEFORE, start, count, now, layer, of)
    done: dict[str, Any] = {
        "state": DeliveryState.DELIVERED,
        "tries": 1,
        "last_status": 200,
        "done_at": now,
    }
    deliveries(tx, BEFORE, start, count, to, now, layer * of, **done)
    fill(
        tx, attempt, start, count, delivery_id=ids("dlv", BEFORE, number), n=1, at=now, status=200, ms=3,
        response="ok",
    )  # fmt: skip
    fill(
        tx,
        trace,
        start,
        count,
        job_id=mine,
        at=now,
        kind="submit",
        detail={"attempt": 1, "outcome": "accepted"},
    )


def _retries(engine: sa.Engine, count: int, now: datetime) -> None:
    """Owe a dead subscriber so many events, each attempted twice already."""
    (dead,) = subscribe(engine, NOWHERE, types=("account.push_degraded",))
    due: Any = sa.literal(int(after(now, LATER).timestamp() * 1000), sa.BigInteger) + N % 600_000
    for start, many in chunks(count):
        with engine.begin() as tx:
            finished(tx, WAITING, start, many, 1, now)
            events(tx, WAITING, start, many, now)
            deliveries(
                tx,
                WAITING,
                start,
                many,
                dead,
                now,
                state=DeliveryState.PENDING,
                due_at=due,
                tries=2,
            )
