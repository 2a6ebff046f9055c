"""The rows of configured accounts, and the retention: old rows are deleted in short slices."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from orchestrator.database.store import Tx
from orchestrator.database.tables import (
    account_state,
    attempt,
    callback_address,
    delivery,
    event,
    job,
    job_image,
    push,
    trace,
)
from orchestrator.database.tables.rows import JobRow
from orchestrator.engine import retention
from orchestrator.engine.deliver import Deliverer
from orchestrator.engine.receive import Receiver
from orchestrator.engine.retention import Retention
from orchestrator.events import subscribers
from orchestrator.events.outbox import NewEvent, publish
from orchestrator.foundation.signing.secret_keys import Callback
from orchestrator.foundation.states import EventType, JobState, Source, SubscriberState
from orchestrator.jobs.capacity import ensure_accounts
from orchestrator.jobs.ledger import Note
from tests.harness import databases
from tests.harness.engine import at_vendor, drive, report_state, subscribe
from tests.harness.runtime import Harness, ManualClock, open_harness

DAY = 86400.0
RETENTION = 30 * DAY
ABOUT_JOBS = (job, job_image, event, delivery, attempt, push, trace)


async def ended_job(h: Harness) -> JobRow:
    """Return a job that has failed, with a row in each table about jobs."""
    row = await at_vendor(h, task=h.runtime.ids("job"))
    image = {"job_id": row["id"], "reference": "base64;...", "image": b"/9j/"}
    await h.run(sa.insert(job_image).values(image))
    vendor = h.runtime.vendors["main"]
    await h.runtime.assemble(Receiver).push(
        vendor, Callback(row["id"], 1), {}, b'{"task_status":"processing"}'
    )
    await h.runtime.store.write(
        h.runtime.ledger.note, [Note(row["id"], "operator", {})], h.clock.now()
    )
    return await report_state(h, row["id"], JobState.FAILED)


async def deliver(h: Harness) -> None:
    await drive(h.runtime.assemble(Deliverer))


async def row_counts(h: Harness) -> dict[str, int]:
    def count(tx: Tx, table: sa.Table) -> int:
        return tx.scalar(sa.select(sa.func.count()).select_from(table)) or 0

    return {table.name: await h.runtime.store.read(count, table) for table in ABOUT_JOBS}


async def test_every_account_has_one_row_that_is_not_overwritten(h: Harness) -> None:
    await h.run(account_state.update().values(polls=7))
    await h.runtime.store.write(ensure_accounts, ["main", "new"])
    await h.runtime.store.write(ensure_accounts, [])
    rows = await h.rows(account_state)
    assert [(row["account"], row["polls"]) for row in rows] == [("main", 7), ("new", 0)]


async def test_a_job_that_ended_before_the_retention_is_deleted_with_all_its_rows(
    h: Harness,
) -> None:
    await subscribe(h)
    await ended_job(h)
    await deliver(h)
    h.clock.advance(RETENTION)
    kept = await ended_job(h)
    await deliver(h)
    h.clock.advance(1)
    both = await row_counts(h)
    assert min(both.values()) >= 2
    await h.runtime.assemble(Retention).run()
    assert {name: count * 2 for name, count in (await row_counts(h)).items()} == both
    assert [row["id"] for row in await h.rows(job)] == [kept["id"]]


async def test_a_job_within_the_retention_stays_with_all_its_rows(h: Harness) -> None:
    await ended_job(h)
    h.clock.advance(RETENTION - 1)
    before = await row_counts(h)
    await h.runtime.assemble(Retention).run()
    assert await row_counts(h) == before


@pytest.mark.parametrize("state", [JobState.SUBMITTED, JobState.PROCESSING])
async def test_a_live_job_is_never_deleted(h: Harness, state: JobState) -> None:
    row = await at_vendor(h)
    await report_state(h, row["id"], state)
    h.clock.advance(10 * RETENTION)
    await h.runtime.assemble(Retention).run()
    assert len(await h.rows(job)) == 1


async def test_a_job_with_a_pending_delivery_stays(h: Harness) -> None:
    await subscribe(h)
    await ended_job(h)
    h.clock.advance(RETENTION + 1)
    await h.runtime.assemble(Retention).run()
    assert len(await h.rows(job)) == 1
    await deliver(h)
    await h.runtime.assemble(Retention).run()
    assert await row_counts(h) == dict.fromkeys(await row_counts(h), 0)


async def test_old_events_without_a_job_are_deleted(h: Harness) -> None:
    to = await subscribe(h)
    new_event = NewEvent(EventType.TEST, Source.OPERATOR, {}, only=to["id"])
    await h.runtime.store.write(publish, h.runtime.ids, [new_event], h.clock.now())
    await deliver(h)
    h.clock.advance(RETENTION + 1)
    await h.runtime.store.write(publish, h.runtime.ids, [new_event], h.clock.now())
    await h.runtime.assemble(Retention).run()
    assert (len(await h.rows(event)), len(await h.rows(delivery))) == (1, 1)


async def test_callback_urls_that_have_not_failed_since_are_forgotten(h: Harness) -> None:
    old = {"lane": "sub_x", "failures": 1, "updated_at": h.clock.now()}
    await h.run(sa.insert(callback_address).values([{"key": f"{n}", **old} for n in range(40)]))
    h.clock.advance(RETENTION + 1)
    recent = {"key": "recent", **old, "updated_at": h.clock.now()}
    await h.run(sa.insert(callback_address).values([recent]))
    await h.runtime.assemble(Retention).run()
    assert [row["key"] for row in await h.rows(callback_address)] == ["recent"]


async def test_one_run_deletes_more_than_one_batch(h: Harness) -> None:
    await ended_job(h)
    names = [column.name for column in job.columns]
    unique = ("id", "external_task_id", "vendor_task_id")
    copied = ", ".join(f"{name} || n" if name in unique else name for name in names)
    numbers = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 250)"
    into = f"INSERT INTO job ({', '.join(names)}) {numbers} SELECT {copied} FROM job, c"
    await h.runtime.store.write(lambda tx: tx.exec_driver_sql(into) and None)
    h.clock.advance(RETENTION + 1)
    await h.runtime.assemble(Retention).run()
    assert await h.rows(job) == []


# -- held deliveries, and rows without a job


async def test_held_deliveries_of_a_paused_subscriber_do_not_keep_a_job(h: Harness) -> None:
    to = await subscribe(h)
    await h.runtime.store.write(subscribers.hold, to["id"], SubscriberState.PAUSED, None)
    await ended_job(h)
    assert {row["state"] for row in await h.rows(delivery)} == {"held"}
    h.clock.advance(RETENTION + 1)
    await h.runtime.assemble(Retention).run()
    assert await row_counts(h) == dict.fromkeys(await row_counts(h), 0)


async def test_an_event_without_a_job_stays_while_its_delivery_is_pending(h: Harness) -> None:
    to = await subscribe(h)
    new_event = NewEvent(EventType.TEST, Source.OPERATOR, {}, only=to["id"])
    await h.runtime.store.write(publish, h.runtime.ids, [new_event], h.clock.now())
    h.clock.advance(RETENTION + 1)
    await h.runtime.assemble(Retention).run()
    assert (len(await h.rows(event)), len(await h.rows(delivery))) == (1, 1)


async def test_old_pushes_without_a_job_are_deleted_and_those_of_a_live_job_stay(
    h: Harness,
) -> None:
    live = await at_vendor(h)
    stage, vendor = h.runtime.assemble(Receiver), h.runtime.vendors["main"]
    for job_id in (h.runtime.ids("job"), live["id"], h.runtime.ids("job")):
        await stage.push(vendor, Callback(job_id, 1), {}, b'{"task_status":"processing"}')
    h.clock.advance(RETENTION + 1)
    await stage.push(vendor, Callback(h.runtime.ids("job"), 1), {}, b'{"task_status":"processing"}')
    await h.runtime.assemble(Retention).run()
    kept = await h.rows(push)
    assert [row["outcome"] for row in kept] == ["moved", "no_job"]
    assert kept[0]["job_id"] == live["id"]


# -- short slices


class BusyClock(ManualClock):
    """A clock that advances by a millisecond whenever it is read, so that all work takes time."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = 0
        self.pauses: list[float] = []

    def monotonic(self) -> float:
        self.reads += 1
        return super().monotonic() + self.reads / 1000

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.advance(seconds)


async def add_old_jobs(
    h: Harness, jobs: int, events: int = 100, attempts: int = 10, body: int = 100
) -> None:
    """Write jobs that ended before the retention, each with many rows."""
    long_ago = h.clock.now()
    rows: dict[str, list[dict[str, Any]]] = {table.name: [] for table in ABOUT_JOBS}
    opened = [await h.open() for _ in range(jobs)]
    for row in opened:
        rows["job_image"].append({"job_id": row["id"], "reference": "a", "image": b"/9j/"})
        for n in range(events):
            event_id, delivery_id = h.runtime.ids("evt"), h.runtime.ids("dlv")
            rows["event"].append(
                {"id": event_id, "job_id": row["id"], "sequence": n, "type": "job.processing",
                 "source": "push", "body": b"b" * body, "created_at": long_ago}
            )  # fmt: skip
            rows["delivery"].append(
                {"id": delivery_id, "event_id": event_id, "subscriber_id": "sub_1",
                 "state": "delivered", "lease": 1, "tries": attempts, "created_at": long_ago}
            )  # fmt: skip
            rows["push"].append(
                {"id": h.runtime.ids("psh"), "account": "main", "job_id": row["id"],
                 "dedupe_key": event_id, "outcome": "x", "attempt": 1, "received_at": long_ago,
                 "verified": False, "headers": {}, "body": b"p"}
            )  # fmt: skip
            rows["trace"].append(
                {"job_id": row["id"], "at": long_ago, "kind": "poll", "detail": {}}
            )

    def write(tx: Tx) -> None:
        for table in ABOUT_JOBS:
            if rows[table.name]:
                tx.execute(sa.insert(table), rows[table.name])
        numbers = sa.union_all(*(sa.select(sa.literal(k).label("n")) for k in range(attempts)))
        n = numbers.subquery().c.n
        every = sa.select(delivery.c.id, n, delivery.c.created_at, sa.literal(5))
        every = every.join_from(delivery, n.table, sa.true()).order_by(delivery.c.id, n)
        tx.execute(sa.insert(attempt).from_select(["delivery_id", "n", "at", "ms"], every))
        tx.execute(
            sa.update(job).values(state=JobState.SUCCEEDED, due_at=None, finished_at=long_ago)
        )

    await h.runtime.store.write(write)
    h.clock.advance(RETENTION + 1)


@pytest.fixture
def busy(h: Harness) -> BusyClock:
    clock = BusyClock()
    clock.advance((h.clock.now() - clock.now()).total_seconds())
    h.clock = clock
    h.runtime.clock = clock
    return clock


def statements(h: Harness) -> list[list[tuple[str, int]]]:
    """Return a list with an entry per transaction: its statements, each with its row count."""
    seen: list[list[tuple[str, int]]] = []
    sa.event.listen(engine(h), "begin", lambda _: seen.append([]))

    def executed(_c: Any, cursor: Any, statement: str, *_: Any) -> None:
        if re.match("(SELECT|DELETE)", statement):
            seen[-1].append((statement, cursor.rowcount))

    sa.event.listen(engine(h), "after_cursor_execute", executed)
    return seen


def engine(h: Harness) -> sa.Engine:
    """Return the engine of a runtime's writing connections."""
    engines = vars(h.runtime.store._database)
    found = engines.get("_writing", engines["_engine"])
    assert isinstance(found, sa.Engine)
    return found


async def test_a_slice_ends_soon_after_its_time_and_no_statement_deletes_many_rows(
    h: Harness, busy: BusyClock
) -> None:
    await add_old_jobs(h, jobs=16, events=40)
    seen = statements(h)
    await h.runtime.assemble(Retention).run()
    slices = [each for each in seen if each]
    assert len(slices) > 12
    # A read of the clock takes a millisecond here, so a slice ends within a few statements.
    assert max(len(each) for each in slices) <= 16
    assert max(count for each in slices for text, count in each if text.startswith("DELETE")) <= 256
    assert (
        max(sum(count for text, count in each if text.startswith("DELETE")) for each in slices)
        <= 1200
    )
    assert await row_counts(h) == dict.fromkeys(await row_counts(h), 0)


async def test_events_with_large_bodies_are_deleted_a_few_at_a_time(
    h: Harness, busy: BusyClock
) -> None:
    await add_old_jobs(h, jobs=2, events=20, attempts=1, body=300_000)
    seen = statements(h)
    await h.runtime.assemble(Retention).run()
    deleted = [
        count for each in seen for text, count in each if text.startswith("DELETE FROM event")
    ]
    assert (sum(deleted), max(deleted)) == (40, 3)


async def test_the_retention_pauses_after_each_slice(h: Harness, busy: BusyClock) -> None:
    await add_old_jobs(h, jobs=5)
    await h.runtime.assemble(Retention).run()
    assert len(busy.pauses) > 5
    assert min(busy.pauses) >= 0.01


async def test_a_run_ends_after_its_time_and_the_next_run_continues(
    h: Harness, busy: BusyClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "_RUN", 0.1)
    await add_old_jobs(h, jobs=16, events=40)
    retaining, counts = h.runtime.assemble(Retention), list[int]()
    while not counts or counts[-1]:
        began = busy.monotonic()
        await retaining.run()
        assert busy.monotonic() - began < 0.3
        counts.append(sum((await row_counts(h)).values()))
    assert len(counts) > 3
    assert counts == sorted(set(counts), reverse=True), "every run deleted rows"


async def test_runs_that_are_cut_short_get_past_rows_that_must_stay(
    h: Harness, busy: BusyClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Live jobs older than the retention come before a job that can be deleted."""
    monkeypatch.setattr(retention, "_RUN", 0.001)
    monkeypatch.setattr(retention, "_SLICE", 0.0)
    live = [await h.open() for _ in range(100)]
    await add_old_jobs(h, jobs=1, events=1)
    await h.run(
        sa.update(job).where(job.c.id.in_([row["id"] for row in live])).values(due_at=h.clock.now())
    )
    retaining, runs = h.runtime.assemble(Retention), 0
    while len(await h.rows(job)) > 100:
        await retaining.run()
        runs += 1
    assert 100 // 16 <= runs < 20


async def test_the_retention_is_fast_when_the_planner_takes_full_tables_for_empty(
    tmp_path: Path,
) -> None:
    """As after an autovacuum during an uncommitted bulk insert. A transaction has ten seconds."""
    address = databases.url("postgresql", tmp_path)
    async with open_harness(tmp_path, database_url=address) as misled:
        await add_old_jobs(misled, jobs=20)
        empty = "reltuples = 0, relpages = greatest(relpages, 1) WHERE relkind = 'r' AND relname"
        names = ", ".join(f"'{table.name}'" for table in ABOUT_JOBS)
        await misled.run(sa.text(f"UPDATE pg_class SET {empty} IN ({names})"))
        misled.clock.advance(RETENTION + 1)
        await misled.runtime.assemble(Retention).run()
        assert await row_counts(misled) == dict.fromkeys(await row_counts(misled), 0)
    databases.drop(address)


@pytest.mark.parametrize("analyzed", [True, False])
async def test_every_statement_of_the_retention_finds_its_rows_by_an_index(
    tmp_path: Path, analyzed: bool
) -> None:
    """Nothing is scanned and nothing is sorted, with and without the planner's statistics."""
    async with open_harness(tmp_path, database_url=f"sqlite:///{tmp_path / 'plan.db'}") as alone:
        await add_old_jobs(alone, jobs=40, events=3)
        if analyzed:
            await alone.run(sa.text("ANALYZE"))
        plans: dict[str, list[str]] = {}

        def explain(
            _c: Any, cursor: Any, statement: str, parameters: Any, _x: Any, _m: bool
        ) -> None:
            if re.match("(SELECT|DELETE)", statement):
                found = cursor.execute("EXPLAIN QUERY PLAN " + statement, parameters).fetchall()
                plans[statement.partition(" IN (?")[0]] = [row[3] for row in found]

        sa.event.listen(engine(alone), "before_cursor_execute", explain)
        await alone.runtime.assemble(Retention).run()
        sa.event.remove(engine(alone), "before_cursor_execute", explain)
        assert await row_counts(alone) == dict.fromkeys(await row_counts(alone), 0)
    deleting = {text.split()[2] for text in plans if text.startswith("DELETE")}
    assert deleting == {table.name for table in ABOUT_JOBS}
    assert not {
        text: plan
        for text, plan in plans.items()
        if any(re.match("SCAN|USE TEMP", line) for line in plan)
    }
