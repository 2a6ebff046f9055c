"""Lists by every filter, single jobs and timelines, with many jobs. Limit: a thousand jobs."""

from __future__ import annotations

import contextlib
import json
import random
import time
from collections.abc import Mapping
from datetime import datetime

import sqlalchemy as sa
import uvloop

from orchestrator.cli.bench import seed
from orchestrator.cli.bench.measurement import MeasurementFailed, Plan, Result, Sample, latencies
from orchestrator.cli.bench.raw_http import connect, request
from orchestrator.cli.bench.scratch_database import scratch_database
from orchestrator.cli.bench.seed import HISTORY, Chunk, N, id_of, text
from orchestrator.cli.bench.service import AUTHORIZATION, accounts_of, service
from orchestrator.database.tables import delivery, event
from orchestrator.foundation.clock import EPOCH, after, rfc3339
from orchestrator.foundation.ids import Ids
from orchestrator.foundation.states import DeliveryState, EventType, JobState, Source

#: Jobs of the small database, and of the large one unless the plan says otherwise.
FEW, MANY = 1_000, 100_000
ACCOUNTS = 4
#: Requests of each kind in a round: at most, and unmeasured before.
_MAX_REQUESTS, _WARM_UP = 400, 5
#: Jobs whose ids have a present timestamp: all others are as old as an id can be.
_RECENT = 60
#: Every tenth job has the uncommon value of a column, every thousandth the rare value.
_TENTH, _RARE = 10, 1000
_BOTH = ("few", "many")

#: Paths by name, with marks that `paths` fills in. No job matches two rare filters, or two filters
#: that match every tenth job. Of rare rows the first is requested: both databases have it.
_PATHS = {
    "jobs": "jobs",
    "jobs_deep": "jobs?after={job}",
    "jobs_status_common": "jobs?status=succeeded",
    "jobs_status_tenth": "jobs?status=failed",
    "jobs_status_rare": "jobs?status=canceled&limit=1",
    "jobs_status_live": "jobs?status=submitted&limit=1",
    "jobs_status_absent": "jobs?status=expired",
    "jobs_status_several": "jobs?status=failed,canceled,expired",
    "jobs_status_deep": "jobs?status=failed&after={job}",
    "jobs_account": "jobs?account=bench-1",
    "jobs_account_rare": "jobs?account=rare&limit=1",
    "jobs_account_absent": "jobs?account=nobody",
    "jobs_account_deep": "jobs?account=bench-1&after={job}",
    "jobs_model": "jobs?model=kling-v3",
    "jobs_model_rare": "jobs?model=rare&limit=1",
    "jobs_model_absent": "jobs?model=none",
    "jobs_external_task_id": "jobs?external_task_id={job}",
    "jobs_resolved_by_push": "jobs?resolved_by=push",
    "jobs_resolved_by_rare": "jobs?resolved_by=operator&limit=1",
    "jobs_resolved_by_absent": "jobs?resolved_by=lookup",
    "jobs_created_after_recent": "jobs?created_after={recent}",
    "jobs_created_after_old": "jobs?created_after={epoch}",
    "jobs_both_common": "jobs?status=succeeded&account=bench-1",
    "jobs_common_and_rare": "jobs?status=succeeded&account=rare&limit=1",
    "jobs_both_tenth": "jobs?status=failed&model=seldom",
    "jobs_both_rare": "jobs?status=canceled&model=rare",
    "jobs_rare_and_recent": "jobs?status=failed&created_after={recent}",
    "job": "jobs/{job}",
    "timeline": "jobs/{job}/timeline",
    "events": "events",
    "events_type_common": "events?type=job.succeeded",
    "events_type_rare": "events?type=job.failed&limit=1",
    "events_type_absent": "events?type=job.canceled",
    "events_job": "events?job={job}",
    "deliveries": "deliveries",
    "deliveries_delivered": "deliveries?status=delivered",
    "deliveries_dead": "deliveries?status=dead&limit=1",
    "deliveries_pending": "deliveries?status=pending&limit=1",
    "deliveries_held": "deliveries?status=held",
    "deliveries_subscriber": "deliveries?subscriber={usual}",
    "deliveries_subscriber_dead": "deliveries?subscriber={other}&status=dead&limit=1",
    "deliveries_subscriber_none": "deliveries?subscriber={usual}&status=dead&limit=1",
    "deliveries_event": "deliveries?event={event}",
    "accounts": "accounts",
}


def bench(plan: Plan) -> Result:
    """Measure both databases request by request: a disturbance hits both."""
    many = plan.jobs or MANY
    samples: dict[str, dict[str, list[Sample]]] = {name: {} for name in _BOTH}
    rows: dict[str, int] = {}
    with contextlib.ExitStack() as stack:
        ports, paths = list[int](), list[Mapping[str, str]]()
        for jobs in (FEW, many):
            database = stack.enter_context(scratch_database(plan))
            plan.notify(f"reads: inserting {jobs:,} jobs")
            with database.writing() as engine:
                paths.append(_seed(engine, jobs))
            ports.append(stack.enter_context(service(database, accounts_of(ACCOUNTS))).port)
        seconds = 2 * plan.seconds / len(paths[0])
        for number in range(plan.rounds):
            plan.notify(f"reads: round {number + 1} of {plan.rounds}")
            for kind in paths[0]:
                asked = [(port, at[kind]) for port, at in zip(ports, paths, strict=True)]
                found, rows[kind] = uvloop.run(_measure(asked, seconds))
                for name, sample in zip(_BOTH, found, strict=True):
                    samples[name].setdefault(kind, []).append(sample)
    figures = []
    for kind, rounds in samples["many"].items():
        limits = {f"{FEW:,} jobs": samples["few"][kind]}
        figures += latencies(rounds, limits, (0.5, 0.99), f"{kind}_{{}}_ms")
    every = [each for kinds in samples.values() for rounds in kinds.values() for each in rounds]
    more = {"few": FEW, "many": many, "paths": paths[1], "rows": rows}
    return Result("reads", every, figures, more)


async def _measure(asked: list[tuple[int, str]], seconds: float) -> tuple[list[Sample], int]:
    """Request a path of each service alternately; return samples, and rows of the last's answer.

    Raises `MeasurementFailed` for an answer other than 200.
    """
    connections = [await connect(port) for port, _ in asked]
    times: list[list[float]] = [[] for _ in asked]
    number, rows, until = 0, 0, time.perf_counter() + seconds
    while number < _WARM_UP + _MAX_REQUESTS and (
        time.perf_counter() < until or number < 2 * _WARM_UP
    ):
        for connection, (_, path), spent in zip(connections, asked, times, strict=True):
            began = time.perf_counter()
            status, body = await connection.send(request("GET", path, headers=AUTHORIZATION))
            if status != 200:
                detail = body[:200].decode(errors="replace")
                raise MeasurementFailed(f"GET {path} was answered {status}: {detail}")
            if number >= _WARM_UP:
                spent.append(time.perf_counter() - began)
            else:
                rows = len(json.loads(body).get("data", ()))
        number += 1
    for connection in connections:
        connection.transport.close()
    return [Sample(len(spent), latencies=spent) for spent in times], rows


# -- databases with common, uncommon and rare values


def _seed(engine: sa.Engine, count: int) -> Mapping[str, str]:
    """Insert jobs with one layer of history; return the paths to request, by name."""
    usual, other = seed.subscribe(engine, seed.NOWHERE, count=2, types=seed.OTHER, paused=True)
    for chunk in seed.chunks(engine, HISTORY, count):
        _insert_jobs(chunk)
        chunk.history(0, count, usual)
        rare = range(chunk.start + 7, chunk.start + chunk.count, _RARE)
        dead = {"state": DeliveryState.DEAD, "subscriber_id": other}
        failed = {"type": EventType.JOB_FAILED}
        for table, prefix, changes in ((delivery, "dlv", dead), (event, "evt", failed)):
            found = table.c.id.in_([id_of(prefix, HISTORY, number) for number in rare])
            chunk.tx.execute(sa.update(table).where(found).values(**changes))
    new_id, now = Ids(seed.CLOCK, random.Random()), seed.CLOCK.now()
    with engine.begin() as tx:
        for number in range(count, count + _RECENT):
            _insert_jobs(Chunk(tx, HISTORY, number, 1, now), id=sa.literal(new_id("job")))
    seed.submitted_jobs(engine, max(_TENTH, count // _RARE), ACCOUNTS)
    seed.owed_deliveries(engine, max(_TENTH, count // _RARE), other)
    return paths(count, usual, other, now)


def _insert_jobs(chunk: Chunk, **changes: object) -> None:
    """Insert finished jobs; the uncommon and rare values of different columns never coincide."""
    chunk.jobs(
        ACCOUNTS,
        finished_at=chunk.now,
        sequence=1,
        account=_mixed(text("bench-", N % ACCOUNTS), "rare"),
        state=_mixed(sa.literal("succeeded"), JobState.CANCELED, JobState.FAILED, shift=1),
        resolved_by=_mixed(sa.literal("push"), Source.OPERATOR, Source.POLL, shift=2),
        model=_mixed(sa.literal("kling-v3"), "rare", "seldom", shift=3),
        **changes,
    )


def _mixed(
    common: sa.ColumnElement[str], rare: str, tenth: str | None = None, *, shift: int = 0
) -> sa.ColumnElement[str]:
    """Return `rare` for every thousandth job, `tenth` for every tenth, else the common value."""
    number: sa.ColumnElement[int] = N % _RARE
    cases = [(number == 5 + 10 * shift, sa.literal(rare))]
    if tenth is not None:
        cases.append((number % _TENTH == shift, sa.literal(tenth)))
    return sa.case(*cases, else_=common)


def paths(count: int, usual: str, other: str, now: datetime) -> Mapping[str, str]:
    """Return the paths to request of a database of `count` jobs, by name."""
    marks = {
        "job": id_of("job", HISTORY, count // 2),
        "event": id_of("evt", HISTORY, count // 2),
        "recent": rfc3339(after(now, -60)),
        "epoch": rfc3339(EPOCH),
        "usual": usual,
        "other": other,
    }
    return {name: f"/v1/{path.format(**marks)}" for name, path in _PATHS.items()}
