"""Jobs of every sort, for a bench of what callers read: common, one in ten, one in a thousand, and none at all."""

from __future__ import annotations

import random
from collections.abc import Mapping
from datetime import datetime

import sqlalchemy as sa

from orchestrator.cli.bench.history import layer_of
from orchestrator.cli.bench.seeding import BEFORE, CLOCK, NOWHERE, jobs, owed, submitted, subscribe
from orchestrator.cli.bench.series import N, chunks, id_of, text
from orchestrator.database.tables import delivery, event
from orchestrator.foundation.clock import EPOCH, after, rfc3339
from orchestrator.foundation.ids import Ids
from orchestrator.foundation.states import DeliveryState, EventType, JobState, Source

ACCOUNTS = 4
#: Jobs with ids of now: all others are as old as an id can be.
_RECENT = 60
_MANY, _FEW = 10, 1000


def lay(engine: sa.Engine, count: int) -> Mapping[str, str]:
    """Lay down so many jobs and what is kept about them; return what to ask for: paths, by name."""
    now = CLOCK.now()
    usual, other = subscribe(
        engine, NOWHERE, count=2, types=("account.push_degraded",), paused=True
    )
    for start, many in chunks(count):
        with engine.begin() as tx:
            _finished(tx, start, many, now)
            layer_of(tx, start, many, 0, count, usual, now)
            dead = {"state": DeliveryState.DEAD, "subscriber_id": other}
            tx.execute(
                sa.update(delivery).where(_some(delivery, "dlv", start, many)).values(**dead)
            )
            tx.execute(
                sa.update(event)
                .where(_some(event, "evt", start, many))
                .values(type=EventType.JOB_FAILED)
            )
    new_id = Ids(CLOCK, random.Random())
    with engine.begin() as tx:
        for number in range(count, count + _RECENT):
            _finished(tx, number, 1, now, id=sa.literal(new_id("job")))
    submitted(engine, max(_MANY, count // _FEW), ACCOUNTS)
    owed(engine, max(_MANY, count // _FEW), other)
    return paths(count, usual, other, now)


def _finished(tx: sa.Connection, start: int, count: int, now: datetime, **values: object) -> None:
    jobs(
        tx, BEFORE, start, count, ACCOUNTS, now, finished_at=now, sequence=1,
        account=_sorts(text("bench-", N % ACCOUNTS), few="rare"),
        model=_sorts(sa.literal("kling-v3"), tenth="seldom", few="rare", shift=3),
        state=_sorts(sa.literal(str(JobState.SUCCEEDED)), tenth=JobState.FAILED, few=JobState.CANCELED, shift=1),
        resolved_by=_sorts(sa.literal(str(Source.PUSH)), tenth=Source.POLL, few=Source.OPERATOR, shift=2),
        **values,
    )  # fmt: skip


def _sorts(
    usual: sa.ColumnElement[str], *, tenth: str | None = None, few: str, shift: int = 0
) -> sa.ColumnElement[str]:
    """Return one thing for one job in a thousand, another for one in ten, and the usual for the others."""
    rest = N % _FEW
    sorts = [(rest == 5 + 10 * shift, sa.literal(few))]
    if tenth is not None:
        sorts.append((rest % _MANY == shift, sa.literal(tenth)))
    return sa.case(*sorts, else_=usual)


def _some(table: sa.Table, prefix: str, start: int, count: int) -> sa.ColumnElement[bool]:
    """Return what is true of one row in a thousand."""
    return table.c.id.in_(
        [id_of(prefix, BEFORE, number) for number in range(start + 7, start + count, _FEW)]
    )


def paths(count: int, usual: str, other: str, now: datetime) -> Mapping[str, str]:
    """Return the paths. Of what is rare one is asked for: both databases have that.

    Pairs of rare filters, and of filters that one in ten fits, fit no job together.
    """
    middle = count // 2
    one = id_of("job", BEFORE, middle)
    asked = {
        "jobs": "",
        "jobs_deep": f"after={one}",
        "jobs_status_common": "status=succeeded",
        "jobs_status_tenth": "status=failed",
        "jobs_status_rare": "status=canceled&limit=1",
        "jobs_status_live": "status=submitted&limit=1",
        "jobs_status_absent": "status=expired",
        "jobs_status_several": "status=failed,canceled,expired",
        "jobs_status_deep": f"status=failed&after={one}",
        "jobs_account": "account=bench-1",
        "jobs_account_rare": "account=rare&limit=1",
        "jobs_account_absent": "account=nobody",
        "jobs_account_deep": f"account=bench-1&after={one}",
        "jobs_model": "model=kling-v3",
        "jobs_model_rare": "model=rare&limit=1",
        "jobs_model_absent": "model=none",
        "jobs_external_task_id": f"external_task_id={one}",
        "jobs_resolved_by_push": "resolved_by=push",
        "jobs_resolved_by_rare": "resolved_by=operator&limit=1",
        "jobs_resolved_by_absent": "resolved_by=lookup",
        "jobs_created_after_recent": f"created_after={rfc3339(after(now, -60))}",
        "jobs_created_after_old": f"created_after={rfc3339(EPOCH)}",
        "jobs_both_common": "status=succeeded&account=bench-1",
        "jobs_common_and_rare": "status=succeeded&account=rare&limit=1",
        "jobs_both_tenth": "status=failed&model=seldom",
        "jobs_both_rare": "status=canceled&model=rare",
        "jobs_rare_and_recent": f"status=failed&created_after={rfc3339(after(now, -60))}",
    }
    paths = {name: f"/v1/jobs?{query}".rstrip("?") for name, query in asked.items()}
    return paths | {
        "job": f"/v1/jobs/{one}",
        "timeline": f"/v1/jobs/{one}/timeline",
        "events": "/v1/events",
        "events_type_common": "/v1/events?type=job.succeeded",
        "events_type_rare": "/v1/events?type=job.failed&limit=1",
        "events_type_absent": "/v1/events?type=job.canceled",
        "events_job": f"/v1/events?job={one}",
        "deliveries": "/v1/deliveries",
        "deliveries_delivered": "/v1/deliveries?status=delivered",
        "deliveries_dead": "/v1/deliveries?status=dead&limit=1",
        "deliveries_pending": "/v1/deliveries?status=pending&limit=1",
        "deliveries_held": "/v1/deliveries?status=held",
        "deliveries_subscriber": f"/v1/deliveries?subscriber={usual}",
        "deliveries_subscriber_dead": f"/v1/deliveries?subscriber={other}&status=dead&limit=1",
        "deliveries_subscriber_none": f"/v1/deliveries?subscriber={usual}&status=dead&limit=1",
        "deliveries_event": f"/v1/deliveries?event={id_of('evt', BEFORE, middle)}",
        "accounts": "/v1/accounts",
    }
