"""Rows every account needs, and rows nobody needs any more."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from orchestrator.database.store import Tx
from orchestrator.database.tables import account_state, attempt, delivery, event, job, push, trace
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
ABOUT_JOBS = (job, event, delivery, attempt, push, trace)


async def ended(h: Harness) -> dict[str, Any]:
    """Return a job that has run its whole course, with one row of everything about it."""
    row = await at_vendor(h, task=h.runtime.ids("job"))
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


async def left(h: Harness) -> dict[str, int]:
    return {table.name: len(await h.rows(table)) for table in ABOUT_JOBS}


async def test_every_account_has_its_row_once(h: Harness) -> None:
    await h.run(account_state.update().values(polls=7))
    await h.runtime.store.write(ensure_accounts, ["main", "new"])
    await h.runtime.store.write(ensure_accounts, [])
    rows = await h.rows(account_state)
    assert [(row["account"], row["polls"]) for row in rows] == [("main", 7), ("new", 0)]


async def test_a_job_that_ended_long_ago_goes_with_everything_about_it(h: Harness) -> None:
    await subscribe(h)
    await ended(h)
    await deliver(h)
    h.clock.advance(RETENTION)
    kept = await ended(h)
    await deliver(h)
    h.clock.advance(1)
    both = await left(h)
    assert min(both.values()) >= 2
    await h.runtime.assemble(Retention).run()
    assert {name: count * 2 for name, count in (await left(h)).items()} == both
    assert [row["id"] for row in await h.rows(job)] == [kept["id"]]


async def test_a_day_less_and_everything_stays(h: Harness) -> None:
    await ended(h)
    h.clock.advance(RETENTION - 1)
    before = await left(h)
    await h.runtime.assemble(Retention).run()
    assert await left(h) == before


@pytest.mark.parametrize("state", [JobState.SUBMITTED, JobState.PROCESSING])
async def test_a_live_job_is_never_too_old(h: Harness, state: JobState) -> None:
    row = await at_vendor(h)
    await report_state(h, row["id"], state)
    h.clock.advance(10 * RETENTION)
    await h.runtime.assemble(Retention).run()
    assert len(await h.rows(job)) == 1


async def test_what_is_still_owed_keeps_its_job(h: Harness) -> None:
    await subscribe(h)
    await ended(h)
    h.clock.advance(RETENTION + 1)
    await h.runtime.assemble(Retention).run()
    assert len(await h.rows(job)) == 1
    await deliver(h)
    await h.runtime.assemble(Retention).run()
    assert await left(h) == dict.fromkeys(await left(h), 0)


async def test_old_notices_about_no_job_go_too(h: Harness) -> None:
    to = await subscribe(h)
    fact = NewEvent(EventType.TEST, Source.OPERATOR, {}, only=to["id"])
    await h.runtime.store.write(publish, h.runtime.ids, [fact], h.clock.now())
    await deliver(h)
    h.clock.advance(RETENTION + 1)
    await h.runtime.store.write(publish, h.runtime.ids, [fact], h.clock.now())
    await h.runtime.assemble(Retention).run()
    assert (len(await h.rows(event)), len(await h.rows(delivery))) == (1, 1)


async def test_more_than_a_batch_goes_in_one_visit(h: Harness) -> None:
    await ended(h)
    names = [column.name for column in job.columns]
    unique = ("id", "external_task_id", "vendor_task_id")
    copied = ", ".join(f"{name} || n" if name in unique else name for name in names)
    numbers = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 250)"
    into = f"INSERT INTO job ({', '.join(names)}) {numbers} SELECT {copied} FROM job, c"
    await h.runtime.store.write(lambda tx: tx.exec_driver_sql(into) and None)
    h.clock.advance(RETENTION + 1)
    await h.runtime.assemble(Retention).run()
    assert await h.rows(job) == []


# -- what is held, and what is nobody's


async def test_what_is_held_for_a_subscriber_that_is_paused_goes_with_the_retention(
    h: Harness,
) -> None:
    to = await subscribe(h)
    await h.runtime.store.write(subscribers.hold, to["id"], SubscriberState.PAUSED, None)
    await ended(h)
    assert {row["state"] for row in await h.rows(delivery)} == {"held"}
    h.clock.advance(RETENTION + 1)
    await h.runtime.assemble(Retention).run()
    assert await left(h) == dict.fromkeys(await left(h), 0)


async def test_a_notice_that_is_still_owed_stays(h: Harness) -> None:
    to = await subscribe(h)
    fact = NewEvent(EventType.TEST, Source.OPERATOR, {}, only=to["id"])
    await h.runtime.store.write(publish, h.runtime.ids, [fact], h.clock.now())
    h.clock.advance(RETENTION + 1)
    await h.runtime.assemble(Retention).run()
    assert (len(await h.rows(event)), len(await h.rows(delivery))) == (1, 1)


async def test_pushes_whose_job_is_gone_go_and_those_of_a_live_job_stay(h: Harness) -> None:
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


# -- never for long


class BusyClock(ManualClock):
    """Takes a millisecond to look at, so that everything takes its time."""

    def __init__(self) -> None:
        super().__init__()
        self.looks = 0
        self.rests: list[float] = []

    def monotonic(self) -> float:
        self.looks += 1
        return super().monotonic() + self.looks / 1000

    async def sleep(self, seconds: float) -> None:
        self.rests.append(seconds)
        self.advance(seconds)


async def rich(
    h: Harness, jobs: int, events: int = 100, attempts: int = 10, body: int = 100
) -> None:
    """Leave jobs that ended long ago, with much about each of them, as rows alone."""
    long_ago = h.clock.now()
    whole: dict[str, list[dict[str, Any]]] = {table.name: [] for table in ABOUT_JOBS}
    opened = [await h.open() for _ in range(jobs)]
    for row in opened:
        for n in range(events):
            told, owed = h.runtime.ids("evt"), h.runtime.ids("dlv")
            whole["event"].append(
                {"id": told, "job_id": row["id"], "sequence": n, "type": "job.processing", "source": "push",
                 "body": b"b" * body, "created_at": long_ago}
            )  # fmt: skip
            whole["delivery"].append(
                {"id": owed, "event_id": told, "subscriber_id": "sub_1", "state": "delivered", "lease": 1,
                 "tries": attempts, "created_at": long_ago}
            )  # fmt: skip
            whole["attempt"] += [
                {"delivery_id": owed, "n": k, "at": long_ago, "ms": 5} for k in range(attempts)
            ]
            came = {
                "id": h.runtime.ids("psh"),
                "account": "main",
                "job_id": row["id"],
                "dedupe_key": told,
                "outcome": "x",
            }
            whole["push"].append(
                came
                | {
                    "attempt": 1,
                    "received_at": long_ago,
                    "verified": False,
                    "headers": {},
                    "body": b"p",
                }
            )
            whole["trace"].append(
                {"job_id": row["id"], "at": long_ago, "kind": "poll", "detail": {}}
            )

    def write(tx: Tx) -> None:
        for table in ABOUT_JOBS:
            if whole[table.name]:
                tx.execute(sa.insert(table), whole[table.name])
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
    """Return a list that grows by one for each transaction: its statements, and how many rows each of them changed."""
    seen: list[list[tuple[str, int]]] = []
    sa.event.listen(engine(h), "begin", lambda _: seen.append([]))

    def executed(_c: Any, cursor: Any, statement: str, *_: Any) -> None:
        if re.match("(SELECT|DELETE)", statement):
            seen[-1].append((statement, cursor.rowcount))

    sa.event.listen(engine(h), "after_cursor_execute", executed)
    return seen


def engine(h: Harness) -> sa.Engine:
    """Return what gives a house the connections that write."""
    found = vars(h.runtime.store._database)["_engine"]
    assert isinstance(found, sa.Engine)
    return found


async def test_a_slice_ends_soon_after_its_time_and_no_statement_deletes_much(
    h: Harness, busy: BusyClock
) -> None:
    await rich(h, jobs=20)
    seen = statements(h)
    await h.runtime.assemble(Retention).run()
    slices = [one for one in seen if one]
    assert len(slices) > 30
    # Looking at the time takes a millisecond here: what lies between two looks is the grain of a slice.
    assert max(len(one) for one in slices) <= 16
    assert max(count for one in slices for text, count in one if text.startswith("DELETE")) <= 256
    assert (
        max(sum(count for text, count in one if text.startswith("DELETE")) for one in slices)
        <= 1200
    )
    assert await left(h) == dict.fromkeys(await left(h), 0)


async def test_large_bodies_go_a_few_at_a_time(h: Harness, busy: BusyClock) -> None:
    await rich(h, jobs=2, events=20, attempts=1, body=300_000)
    seen = statements(h)
    await h.runtime.assemble(Retention).run()
    deleted = [count for one in seen for text, count in one if text.startswith("DELETE FROM event")]
    assert (sum(deleted), max(deleted)) == (40, 3)


async def test_it_rests_after_each_slice_for_longer_than_that_took(
    h: Harness, busy: BusyClock
) -> None:
    await rich(h, jobs=5)
    await h.runtime.assemble(Retention).run()
    assert len(busy.rests) > 5
    assert min(busy.rests) >= 0.01


async def test_a_visit_ends_after_its_time_and_the_next_one_goes_on(
    h: Harness, busy: BusyClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "_RUN", 0.2)
    await rich(h, jobs=20)
    retaining, counts = h.runtime.assemble(Retention), list[int]()
    while not counts or counts[-1]:
        began = busy.monotonic()
        await retaining.run()
        assert busy.monotonic() - began < 0.4
        counts.append(sum((await left(h)).values()))
    assert len(counts) > 3
    assert counts == sorted(set(counts), reverse=True), "every visit got somewhere"


async def test_visits_cut_short_come_past_what_must_stay(
    h: Harness, busy: BusyClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Live jobs that are older than the retention stand in front of one that can go."""
    monkeypatch.setattr(retention, "_RUN", 0.001)
    monkeypatch.setattr(retention, "_SLICE", 0.0)
    live = [await h.open() for _ in range(100)]
    await rich(h, jobs=1, events=1)
    await h.run(
        sa.update(job).where(job.c.id.in_([row["id"] for row in live])).values(due_at=h.clock.now())
    )
    retaining, visits = h.runtime.assemble(Retention), 0
    while len(await h.rows(job)) > 100:
        await retaining.run()
        visits += 1
    assert 100 // 16 <= visits < 20


async def test_a_planner_that_takes_full_tables_for_empty_ones_is_not_believed(
    tmp_path: Path,
) -> None:
    """As when autovacuum looks at a table while what fills it is not committed. A unit has ten seconds in all."""
    address = databases.url("postgresql", tmp_path)
    async with open_harness(tmp_path, database_url=address) as misled:
        await rich(misled, jobs=20)
        empty = "reltuples = 0, relpages = greatest(relpages, 1) WHERE relkind = 'r' AND relname"
        names = ", ".join(f"'{table.name}'" for table in ABOUT_JOBS)
        await misled.run(sa.text(f"UPDATE pg_class SET {empty} IN ({names})"))
        misled.clock.advance(RETENTION + 1)
        await misled.runtime.assemble(Retention).run()
        assert await left(misled) == dict.fromkeys(await left(misled), 0)
    databases.drop(address)


@pytest.mark.parametrize("analyzed", [True, False])
async def test_every_statement_of_the_retention_finds_its_rows_by_an_index(
    tmp_path: Path, analyzed: bool
) -> None:
    """Nothing is scanned and nothing is sorted, whether or not the planner knows how many rows there are."""
    async with open_harness(tmp_path, database_url=f"sqlite:///{tmp_path / 'plan.db'}") as alone:
        await rich(alone, jobs=40, events=3)
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
        assert await left(alone) == dict.fromkeys(await left(alone), 0)
    deleting = {text.split()[2] for text in plans if text.startswith("DELETE")}
    assert deleting == {table.name for table in ABOUT_JOBS}
    assert not {
        text: plan
        for text, plan in plans.items()
        if any(re.match("SCAN|USE TEMP", line) for line in plan)
    }
