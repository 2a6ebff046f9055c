"""Seconds until work goes on after `kill -9`, and until every job is final; some pushes are lost.

On SQLite the service is killed twice, and started again at once. On PostgreSQL one of three
replicas is killed, and stays away. Limit: the same jobs without a kill.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import sqlalchemy as sa
import uvloop

from orchestrator.cli.bench import seed, verification
from orchestrator.cli.bench.measurement import (
    Figure,
    Integrity,
    JsonObject,
    MeasurementFailed,
    Plan,
    Result,
    Sample,
    interleave,
)
from orchestrator.cli.bench.raw_http import get
from orchestrator.cli.bench.scratch_database import ScratchDatabase, scratch_database
from orchestrator.cli.bench.service import Child, child, configure, free_port, serve
from orchestrator.database.membership import ALONE
from orchestrator.database.postgres.engine import is_postgres
from orchestrator.database.tables import delivery, job
from orchestrator.foundation.states import FINAL
from orchestrator.simulator.accounts import account_settings

#: Jobs, and the mean seconds of a render.
JOBS, RENDER_SECONDS = 300, 1.0
#: One job of so many is in flight at a time: at the second kill others are still to be submitted.
_SHARE = 6
FAULTS = {"drop_push": 0.3}
#: As in the configuration that the simulator prints.
POLL = {"first_after": 5, "interval": 2}
REPLICAS, KILLS = 3, 2
#: The number of the first process on a new database, and of every process on SQLite.
_FIRST = ALONE
UNDISTURBED = "without a kill"
#: Seconds between two looks at the database, while a kill is near, and for all of a run.
_LOOK, _GLANCE, _PATIENCE = 0.02, 0.001, 300.0


class _Claim(NamedTuple):
    """A claimed row: where it is, and how it was."""

    table: str
    id: str
    lease: int
    state: str
    claimed_by: int


@dataclass(frozen=True)
class _Watch:
    """Looks at the database of a run, as an operator would."""

    engine: sa.Engine

    def claims(self) -> list[_Claim]:
        """Return the rows that the first process has claimed."""
        with self.engine.connect() as tx:
            return [
                _Claim(table.name, *row)
                for table in (job, delivery)
                for row in tx.execute(_columns(table).where(table.c.claimed_by == _FIRST))
            ]

    def waits(self, claim: _Claim) -> bool:
        """True until a row was claimed again, or needs it no longer."""
        table = {each.name: each for each in (job, delivery)}[claim.table]
        found = _columns(table).where(table.c.id == claim.id, table.c.due_at.is_not(None))
        with self.engine.connect() as tx:
            row = tx.execute(found).first()
        if row is None or row.state != claim.state:
            return False
        # To take it back moves the lease too.
        taken_back = row.lease == claim.lease + 1 and row.claimed_by is None
        return taken_back or (row.lease == claim.lease and row.claimed_by == _FIRST)

    def final(self) -> int:
        """Return the number of jobs that are final."""
        ended = sa.select(sa.func.count()).select_from(job).where(job.c.state.in_(FINAL))
        with self.engine.connect() as tx:
            return int(tx.execute(ended).scalar_one())


def _columns(table: sa.Table) -> sa.Select[Any]:
    return sa.select(table.c.id, table.c.lease, table.c.state, table.c.claimed_by)


def bench(plan: Plan) -> Result:
    """Measure with kills and without."""
    disturbed, calm = (partial(_run, plan, killed) for killed in (True, False))
    rounds = interleave(plan, "recovery", {"killed": disturbed, UNDISTURBED: calm})
    ours, limits = rounds["killed"], {UNDISTURBED: rounds[UNDISTURBED]}
    figures = [
        Figure.of("all_final_s", partial(Sample.value, name="final"), ours, limits),
        Figure.of("went_on_s", partial(Sample.value, name="went_on"), ours),
        Figure.of("claims_at_a_kill", partial(Sample.value, name="claims"), ours),
    ]
    more = {"in_flight": _in_flight(plan), "render_s": RENDER_SECONDS, **FAULTS, **POLL}
    return Result("recovery", ours, figures, more, unmeasured=rounds[UNDISTURBED])


def _in_flight(plan: Plan) -> int:
    return max(1, (plan.jobs or JOBS) // _SHARE)


def _run(plan: Plan, killed: bool) -> Sample:
    """Run all jobs to their ends. A job that is rendered twice is duplicated."""
    with contextlib.ExitStack() as stack:
        database = stack.enter_context(scratch_database(plan))
        vendors = child("simulated_vendors", str(RENDER_SECONDS), json.dumps(FAULTS))
        vendor = stack.enter_context(vendors)
        with database.writing() as engine:
            seed.queued_jobs(engine, jobs := plan.jobs or JOBS)
        watch = _Watch(stack.enter_context(database.reading()))
        began = time.monotonic()
        lost, values = 0, dict[str, float](went_on=0.0, claims=0.0)
        accounts = _accounts(vendor, _in_flight(plan))
        if is_postgres(plan.database):
            values |= stack.enter_context(_replicas(database, accounts, watch, killed))
        else:
            values |= stack.enter_context(_restarted(database, accounts, watch, jobs, killed))
        lost = jobs - _until_final(watch, jobs)
        values["final"] = time.monotonic() - began
        report = json.loads(uvloop.run(get(vendor.port, "/_control/report")))
        integrity = Integrity(lost=lost, duplicated=len(report["double_renders"]))
        return Sample(jobs, integrity=integrity + verification.check_jobs(database), values=values)


def _accounts(vendor: Child, in_flight: int) -> JsonObject:
    account = account_settings(f"http://127.0.0.1:{vendor.port}", "kling")
    return {"bench-0": {**account, "max_in_flight": in_flight, "poll": POLL}}


@contextlib.contextmanager
def _restarted(
    database: ScratchDatabase, accounts: JsonObject, watch: _Watch, jobs: int, killed: bool
) -> Iterator[dict[str, float]]:
    """Run one service. Kill it twice, and start it again at once; time counts from readiness."""
    config, port = configure(database, accounts), free_port()
    claims: list[_Claim] = []
    values = {"went_on": 0.0, "claims": 0.0}
    for left in reversed(range(KILLS + 1 if killed else 1)):
        with serve(config, port) as process:
            values["went_on"] = max(values["went_on"], _until_gone_on(watch, claims))
            if not left:
                yield values
                return
            claims = _kill_at_work(process, watch, (KILLS - left + 1) * jobs // (KILLS + 2))
            values["claims"] += len(claims)


@contextlib.contextmanager
def _replicas(
    database: ScratchDatabase, accounts: JsonObject, watch: _Watch, killed: bool
) -> Iterator[dict[str, float]]:
    """Run replicas and kill the first one; time counts from the kill. Pushes go to the last one."""
    ports = [free_port() for _ in range(REPLICAS)]
    config = configure(database, accounts, public_url=f"http://127.0.0.1:{ports[-1]}")
    values = {"went_on": 0.0, "claims": 0.0}
    with contextlib.ExitStack() as stack:
        first, *_ = [stack.enter_context(serve(config, port)) for port in ports]
        if killed:
            # At the start: each of them submits a share.
            claims = _kill_at_work(first, watch, 0)
            values = {"went_on": _until_gone_on(watch, claims), "claims": float(len(claims))}
        yield values


def _kill_at_work(process: Child, watch: _Watch, final: int) -> list[_Claim]:
    """Kill a service when so many jobs are final, and it submits others; return its claims."""
    deadline = time.monotonic() + _PATIENCE
    while watch.final() < final or not any(one.state == "submitting" for one in watch.claims()):
        if time.monotonic() > deadline:
            raise MeasurementFailed("the service submits nothing")
        time.sleep(_GLANCE)
    process.process.kill()
    process.process.wait()
    return watch.claims()


def _until_gone_on(watch: _Watch, claims: list[_Claim]) -> float:
    """Return the seconds until every claimed row was claimed again, or needs it no longer."""
    began = time.monotonic()
    while claims and time.monotonic() - began < _PATIENCE:
        claims = [claim for claim in claims if watch.waits(claim)]
        time.sleep(_LOOK)
    return time.monotonic() - began


def _until_final(watch: _Watch, jobs: int) -> int:
    """Wait until all jobs are final; return how many are."""
    deadline = time.monotonic() + _PATIENCE
    while (final := watch.final()) < jobs and time.monotonic() < deadline:
        time.sleep(_LOOK)
    return final
