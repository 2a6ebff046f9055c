"""The limits of an account, slots and rate, hold for any number of concurrent processes."""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from orchestrator.app import build
from orchestrator.database.postgres.engine import engine_of, is_postgres
from orchestrator.database.sqlite.engine import engines
from orchestrator.database.store import Store
from orchestrator.database.tables import account_state, job
from orchestrator.engine import submit
from orchestrator.engine.submit import Submitter
from orchestrator.engine.worker import Worker
from orchestrator.foundation.clock import after
from orchestrator.foundation.states import IN_FLIGHT, JobState, Source
from orchestrator.jobs.transition import ReportEvent
from orchestrator.vendors.report import Report
from tests.api.test_support import FlowingClock
from tests.harness.api_caller import until
from tests.harness.engine import kling_response, legacy_task, report_state
from tests.harness.runtime import START, FakeHttp, Harness, open_harness, settings

pytestmark = pytest.mark.usefixtures("everywhere")

SLOTS = 5
NARROW: dict[str, Any] = {
    "accounts": {"main": {"vendor": "kling", "api_key": "k", "max_in_flight": SLOTS}}
}


def rated(rate: float) -> dict[str, Any]:
    return {
        "accounts": {
            "main": {"vendor": "kling", "api_key": "k", "max_in_flight": 1000, "rate_limit": rate}
        }
    }


@contextlib.asynccontextmanager
async def replicas(folder: Path, count: int, **values: Any) -> AsyncIterator[list[Harness]]:
    """Open runtimes over one database and clock, each with its own store where it can be shared."""
    async with open_harness(folder, **values) as first, contextlib.AsyncExitStack() as others:
        opened = [first]
        for _ in range(count - 1):
            store = (
                Store(settings(folder, **values).database_url)
                if first.runtime.store.shared
                else first.runtime.store
            )
            if store is not first.runtime.store:
                store.start()
                others.callback(store.close)
            runtime = build(
                settings(folder, **values),
                clock=first.clock,
                rng=random.Random(1 + len(opened)),
                transport=httpx.MockTransport(FakeHttp()),
                store=store,
            )
            others.push_async_callback(runtime.http_client.aclose)
            others.push_async_callback(runtime.submission_client.aclose)
            opened.append(Harness(runtime, first.clock, FakeHttp()))
        yield opened


def accepted_uniquely(h: Harness) -> None:
    numbers = iter(range(10_000))
    h.network.answer = lambda _: kling_response(legacy_task(f"t-{next(numbers)}", "submitted"))


# -- slots


async def test_replicas_that_claim_at_once_fill_an_accounts_slots_and_never_more(
    tmp_path: Path,
) -> None:
    async with replicas(tmp_path, 3, **NARROW) as group:
        first = group[0]
        for _ in range(30):
            await first.open()
        stages = [h.runtime.assemble(Submitter) for h in group for _ in range(2)]
        ended = 0
        while ended < 30:
            await asyncio.gather(*(stage.take(64) for stage in stages))
            busy = await first.rows(job, job.c.state.in_(IN_FLIGHT))
            assert len(busy) == min(SLOTS, 30 - ended)
            for row in busy[: 1 + ended % SLOTS]:
                await report_state(first, row["id"], JobState.SUCCEEDED)
                ended += 1


async def test_threads_that_claim_and_end_jobs_at_once_never_exceed_an_accounts_slots(
    tmp_path: Path,
) -> None:
    """Real threads, each with its own connection: they break a limit that only counts rows."""
    async with open_harness(tmp_path, **NARROW) as h:
        for _ in range(60):
            await h.open()
        seen = await asyncio.to_thread(contend, h, 4)
        assert max(seen) == SLOTS, "all slots were in use at some time, and never more"
        assert len(await h.rows(job, job.c.state == JobState.SUCCEEDED)) == 60


def contend(h: Harness, count: int) -> list[int]:
    """Let threads claim and end all jobs; return the jobs in flight after each commit."""
    seen: list[int] = []
    failed: list[BaseException] = []
    start = threading.Barrier(count)

    def run() -> None:
        engine = connection_of(h)
        stage = h.runtime.assemble(Submitter)
        start.wait()
        try:
            while work(h, engine, stage, seen):
                continue
        except BaseException as error:
            failed.append(error)
        finally:
            engine.dispose()

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    return seen


def connection_of(h: Harness) -> sa.Engine:
    """Return a separate engine for the database of a runtime."""
    url = h.runtime.settings.database_url
    return engine_of(url, 1) if is_postgres(url) else engines(url)[0]


def work(h: Harness, engine: sa.Engine, stage: Submitter, seen: list[int]) -> bool:
    """Claim, count, and end a job. False when all jobs have ended."""
    with engine.begin() as tx:
        stage._claim(tx, 64)
    busy = sa.select(job.c.id).where(job.c.state.in_(IN_FLIGHT)).order_by(job.c.id)
    with engine.begin() as tx:
        found = list(tx.scalars(busy))
        seen.append(len(found))
        left = tx.scalar(sa.select(sa.func.count()).where(job.c.state != JobState.SUCCEEDED))
    with engine.begin() as tx:
        h.runtime.ledger.apply(
            tx, [ReportEvent(each, Report(JobState.SUCCEEDED), Source.PUSH) for each in found[:1]]
        )
        done = (
            sa.update(job)
            .where(job.c.id.in_(found[:1]))
            .values(state=JobState.SUCCEEDED, due_at=None)
        )
        tx.execute(done)
    return bool(left)


# -- a rate


async def begun(group: Sequence[Harness], seconds: float, step: float) -> list[datetime]:
    """Let every replica claim every `step` seconds; return the time of each claimed submission."""
    stages = [h.runtime.assemble(Submitter) for h in group]
    clock, times = group[0].clock, list[datetime]()
    ends = after(clock.now(), seconds)
    while clock.now() < ends:
        for taken in await asyncio.gather(*(stage.take(64) for stage in stages)):
            times += [clock.now()] * len(taken)
        clock.advance(step)
    return times


def most_within(times: Sequence[datetime], seconds: float) -> int:
    return max(sum(start <= at < after(start, seconds) for at in times) for start in times)


@pytest.mark.parametrize(
    ("rate", "step", "seconds"),
    [(0.5, 0.6, 12.0), (1, 0.2, 6.0), (2.5, 0.1, 4.0), (10, 0.043, 2.2)],
)
async def test_a_rate_is_never_exceeded_and_is_used(
    tmp_path: Path, rate: float, step: float, seconds: float
) -> None:
    """In any window: the rate times its length, and a burst of max(rate, 1)."""
    async with replicas(tmp_path, 2, **rated(rate)) as group:
        for _ in range(int(rate * seconds + rate) + 6):
            await group[0].open()
        times = await begun(group, seconds, step)
        burst = max(rate, 1.0)
        for window in (1.0, 3.0, seconds):
            assert most_within(times, window) <= burst + rate * window
        assert len(times) >= int(burst + rate * (seconds - 2 * step)) - 1


async def test_the_tokens_of_a_rate_limit_are_stored_and_shared_by_processes(
    tmp_path: Path,
) -> None:
    async with replicas(tmp_path, 2, **rated(2)) as group:
        for _ in range(9):
            await group[0].open()
        assert [len(await h.runtime.assemble(Submitter).take(64)) for h in group] == [2, 0]
        (row,) = await group[0].rows(account_state)
        assert (row["tokens"], row["tokens_at"]) == (0.0, START)


async def test_only_a_submission_takes_a_token(tmp_path: Path) -> None:
    """An empty queue and a full account take none. An account without a rate has no bucket."""
    values = rated(2)
    values["accounts"]["main"]["max_in_flight"] = 1
    values["accounts"]["free"] = {"vendor": "kling", "api_key": "k"}
    async with open_harness(tmp_path, **values) as h:
        stage = h.runtime.assemble(Submitter)
        await stage.take(64)
        for account in ("main", "main", "main", "free"):
            await h.open(account)
        assert len(await stage.take(64)) == 2
        assert len(await stage.take(64)) == 0
        rows = {row["account"]: row["tokens"] for row in await h.rows(account_state)}
        assert rows == {"main": 1.0, "free": None}


async def test_a_job_held_back_by_the_rate_is_submitted_without_a_tick_once_the_rate_allows(
    tmp_path: Path,
) -> None:
    async with open_harness(tmp_path, **rated(20)) as h:
        h.runtime.clock = FlowingClock()
        accepted_uniquely(h)
        for _ in range(24):
            await h.open()
        worker = Worker("submit", h.runtime.assemble(Submitter), limit=submit.LIMIT)
        h.runtime.notifier.workers["submit"] = worker
        worker.start()
        worker.wake()
        await until(lambda: len(h.network.requests) == 24, "all of them are submitted")
        await worker.stop(5)
