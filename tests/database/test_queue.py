"""Claims: fair, fenced, within the limit of each account, at a cost independent of idle rows."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar, cast

import pytest
import sqlalchemy as sa

from orchestrator.database import queue
from orchestrator.database.queue import QueuedDelivery
from orchestrator.database.store import Tx
from orchestrator.database.tables import account_state, delivery, job
from orchestrator.database.tables.rows import JobRow, SubscriberRow
from orchestrator.engine.deliver_results import Attempted, record
from orchestrator.events.destinations import ResponseClass
from orchestrator.foundation.clock import after
from orchestrator.foundation.settings.delivery import Delivery
from orchestrator.foundation.states import DeliveryState, JobState
from orchestrator.foundation.token_bucket import TokenBucket
from orchestrator.jobs import capacity
from orchestrator.jobs.ledger import Reschedule
from tests.harness import databases
from tests.harness.filled_database import filled_database, insert
from tests.harness.runtime import START, Harness, open_harness

T = TypeVar("T")
DAY = 86400.0


def job_row(number: int, account: str, state: JobState, due: datetime | None) -> dict[str, Any]:
    return {
        "id": f"job_{number}", "account": account, "vendor": "agentsflare", "model": "m",
        "capability": "text2video",
        "input": {}, "external_task_id": f"job_{number}", "metadata": {}, "api_key": "key",
        "created_at": START,
        "deadline_at": after(START, DAY), "state": state, "due_at": due, "attempt": 0, "tries": 0,
        "asks": 0, "misses": 0, "lease": 0, "version": 1, "sequence": 0,
    }  # fmt: skip


def delivery_row(number: int, lane: str, due: datetime | None) -> dict[str, Any]:
    return {
        "id": f"dlv_{number}", "event_id": f"evt_{number}", "subscriber_id": lane,
        "state": DeliveryState.PENDING, "due_at": due, "lease": 0, "tries": 0, "created_at": START,
    }  # fmt: skip


async def plans(h: Harness, run: Any, *args: Any) -> list[str]:
    """Return the query plan of every statement of a unit of work, a step to a line."""
    found: list[str] = []

    def explained(tx: Tx) -> None:
        def explain(
            _c: Any, cursor: Any, statement: str, parameters: Any, _x: Any, _m: bool
        ) -> None:
            if re.match(r"(SELECT|WITH|UPDATE)", statement):
                how = "EXPLAIN QUERY PLAN " if tx.dialect.name == "sqlite" else "EXPLAIN "
                cursor.execute(how + statement, parameters)
                found.extend(row[-1] for row in cursor.fetchall())

        sa.event.listen(tx, "before_cursor_execute", explain)
        try:
            run(tx, *args)
        finally:
            sa.event.remove(tx, "before_cursor_execute", explain)

    await undone(h, explained)
    return [line for line in found if "job" in line or "delivery" in line]


class Undone(Exception):
    """Ends a unit of work whose changes are not kept."""


async def undone(h: Harness, run: Callable[..., T], *args: Any) -> T:
    """Return the result of a unit of work, which is rolled back: `busy` tests share a database."""
    results: list[T] = []

    def unit(tx: Tx) -> None:
        results.append(run(tx, *args))
        raise Undone

    with pytest.raises(Undone):
        await h.runtime.store.write(unit)
    return results[0]


@pytest.fixture(scope="module", params=databases.KINDS)
def busy_database(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The URL of a database with the rows of `busy`."""
    with filled_database(request.param, tmp_path_factory.mktemp("busy"), fill_lanes) as address:
        yield address


@pytest.fixture
async def busy(tmp_path: Path, busy_database: str) -> AsyncIterator[Harness]:
    """A hot lane of each kind, and many idle rows. Tests do not change them."""
    async with open_harness(tmp_path, database_url=busy_database) as h:
        yield h


async def fill_lanes(h: Harness) -> None:
    """Insert a hot lane of each kind, another with two due rows, and 20,000 idle rows of eight.

    Idle rows are due tomorrow, except two thirds of the jobs, which are final.
    """
    tomorrow = after(START, DAY)
    await insert(h, job, [job_row(0, "", JobState.SUBMITTED, tomorrow)])
    await insert(h, delivery, [delivery_row(0, "", tomorrow)])
    lane = "CASE WHEN n % 10 <> 0 THEN 'hot' ELSE 'cold' || (n % 7) END"
    history = (
        "CASE WHEN n % 3 = 0 THEN 'submitted' ELSE 'succeeded' END,"
        " CASE WHEN n % 3 = 0 THEN due_at END"
    )
    names = ("id", "account", "external_task_id", "state", "due_at")
    await multiply(h, job, f"'job_' || n, {lane}, 'job_' || n, {history}", names)
    await multiply(
        h, delivery, f"'dlv_' || n, {lane}, 'evt_' || n", ("id", "subscriber_id", "event_id")
    )
    due = [job_row(30_000 + n, "hot", JobState.QUEUED, START) for n in range(300)]
    await insert(
        h, job, due + [job_row(40_000 + n, "cold1", JobState.QUEUED, START) for n in range(2)]
    )
    owed = [delivery_row(30_000 + n, "hot", START) for n in range(300)]
    await insert(h, delivery, owed + [delivery_row(40_000 + n, "cold1", START) for n in range(2)])
    if h.runtime.store.shared:
        # As autovacuum would later.
        await h.run(sa.text("ANALYZE"))


async def multiply(h: Harness, table: sa.Table, expressions: str, names: tuple[str, ...]) -> None:
    """Turn the bucket row of a table into 20,000 that differ in some columns only."""
    rest = ", ".join(column.name for column in table.columns if column.name not in names)
    numbers = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 20000)"
    into = f"INSERT INTO {table.name} ({', '.join(names)}, {rest})"
    copy = f"{into} {numbers} SELECT {expressions}, {rest} FROM {table.name}, c"
    await h.run(sa.text(copy))
    await h.run(sa.delete(table).where(table.c.id.in_(("job_0", "dlv_0"))))


async def test_no_claim_reads_more_than_its_index(busy: Harness) -> None:
    """Every statement SEARCHes the partial index by a bound; none scans the table or sorts."""
    now = busy.clock.now()
    seen = await plans(busy, queue.lanes, job.c.account, now, JobState.QUEUED)
    seen += await plans(busy, queue.lanes, delivery.c.subscriber_id, now)
    seen += await plans(
        busy, queue.take_jobs, JobState.QUEUED, {"hot": 16, "cold1": 16}, now, 75.0, 64
    )
    seen += await plans(busy, queue.take_deliveries, {"hot": 16, "cold1": 16}, now, 45.0, 64)
    seen += await plans(busy, capacity.in_flight, "cold1")
    if busy.runtime.store.shared:
        scans = [line for line in seen if "Scan" in line]
        assert len(scans) >= 9
        assert not [line for line in seen if "Seq Scan" in line or "Sort" in line]
        by = (
            r"(using|Bitmap Index Scan on) (ix_job_due|ix_delivery_due|job_pkey|delivery_pkey)\b"
            r"|Bitmap Heap|CTE Scan"
        )
        assert not [line for line in scans if not re.search(by, line) and "WorkTable" not in line]
        return
    tables = [line for line in seen if re.match(r"(SCAN|SEARCH) (job|delivery)\b", line)]
    assert len(tables) >= 9
    assert not [
        line
        for line in tables
        if "ix_job_due" not in line and "ix_delivery_due" not in line and "id=?" not in line
    ]
    assert not [line for line in tables if line.startswith("SCAN") and "COVERING INDEX" not in line]
    assert not [line for line in seen if "TEMP B-TREE" in line]


async def test_claims_are_taken_back_along_the_index_of_due_rows(busy: Harness) -> None:
    """Not by a scan: the rows of a claim are due within the longest lease."""
    found = await plans(busy, queue.take_back, [1, 2], START)
    if busy.runtime.store.shared:
        assert not [line for line in found if "Seq Scan" in line or "Sort" in line]
        assert [line for line in found if re.search(r"ix_(job|delivery)_due\b", line)]
        return
    assert not [line for line in found if line.startswith("SCAN") and "COVERING" not in line]
    held = [line for line in found if "due_at>? AND due_at<?" in line]
    assert len(held) == 4
    assert all(re.search(r"ix_(job|delivery)_due\b", line) for line in held)


async def test_finding_lanes_costs_steps_for_lanes_not_for_rows(busy: Harness) -> None:
    """Counted in steps of SQLite, or in pages read by PostgreSQL: the same on a slow machine."""

    def claim(tx: Tx) -> None:
        queue.lanes(tx, job.c.account, START, JobState.QUEUED)
        queue.take_jobs(tx, JobState.QUEUED, {"hot": 16}, START, 75.0, 16)

    def pages(tx: Tx) -> int:
        fetched = sa.text(
            "SELECT sum(pg_stat_get_xact_blocks_fetched(oid)) FROM pg_class"
            " WHERE relname LIKE '%job%'"
        )
        before = tx.execute(fetched).scalar_one()
        claim(tx)
        return int(tx.execute(fetched).scalar_one() - before)

    def steps(tx: Tx) -> int:
        counted = 0

        def tick() -> None:
            nonlocal counted
            counted += 1

        connection = tx.connection.driver_connection
        assert connection is not None
        connection.set_progress_handler(tick, 10)
        claim(tx)
        connection.set_progress_handler(None, 0)
        return counted * 10

    if busy.runtime.store.shared:
        assert 0 < await undone(busy, pages) < 600
    else:
        assert 0 < await undone(busy, steps) < 10_000


async def test_lanes_are_those_with_something_due_of_that_kind(busy: Harness) -> None:
    found = await busy.runtime.store.read(queue.lanes, job.c.account, START, JobState.QUEUED)
    assert set(found) == {"hot", "cold1"}
    assert (
        await busy.runtime.store.read(queue.lanes, job.c.account, START, JobState.PROCESSING) == []
    )
    later = await busy.runtime.store.read(queue.lanes, delivery.c.subscriber_id, after(START, DAY))
    assert set(later) == {"hot", *(f"cold{n}" for n in range(7))}


async def test_a_hot_lane_leaves_room_for_the_others(busy: Harness) -> None:
    quanta = {"hot": queue.QUANTUM, "cold1": queue.QUANTUM}
    taken = await undone(busy, queue.take_jobs, JobState.QUEUED, quanta, START, 75.0, 64)
    assert Counter(row["account"] for row in taken) == {"hot": queue.QUANTUM, "cold1": 2}
    owed = await undone(busy, queue.take_deliveries, quanta, START, 45.0, 64)
    assert Counter(row["subscriber_id"] for row in owed) == {"hot": queue.QUANTUM, "cold1": 2}


async def test_a_claim_never_exceeds_its_room(busy: Harness) -> None:
    quanta = {"hot": 16, "cold1": 16}
    for room in (5, 0):
        taken = await undone(busy, queue.take_jobs, JobState.QUEUED, quanta, START, 75.0, room)
        assert len(taken) == room


async def test_the_oldest_rows_of_a_lane_are_claimed_first(h: Harness) -> None:
    await insert(h, job, [job_row(n, "main", JobState.QUEUED, after(START, -n)) for n in range(20)])
    taken = await h.runtime.store.write(
        queue.take_jobs, JobState.QUEUED, {"main": 3}, START, 75.0, 9
    )
    assert [row["id"] for row in taken] == ["job_19", "job_18", "job_17"]


async def test_a_claimed_row_is_due_again_when_its_lease_has_passed(h: Harness) -> None:
    await insert(h, job, [job_row(1, "main", JobState.QUEUED, START)])

    async def take(seconds: float) -> list[JobRow]:
        at = after(START, seconds)
        return await h.runtime.store.write(
            queue.take_jobs, JobState.QUEUED, {"main": 9}, at, 75.0, 9
        )

    (first,) = await take(0)
    assert first["lease"] == 1
    assert await take(74.9) == []
    (second,) = await take(75)
    assert second["lease"] == 2


async def test_a_stale_lease_changes_nothing(h: Harness) -> None:
    row = job_row(1, "main", JobState.SUBMITTING, START) | {"lease": 7}
    await insert(h, job, [row])
    stale = Reschedule("job_1", 6, 1, {"due_at": after(START, 999)})
    await h.runtime.store.write(h.runtime.ledger.postpone, [stale])
    await h.runtime.store.write(h.runtime.ledger.requeue, [stale])
    assert (await h.job("job_1"))["due_at"] == START
    assert (await h.job("job_1"))["state"] == JobState.SUBMITTING
    await h.runtime.store.write(
        h.runtime.ledger.requeue, [Reschedule("job_1", 7, 1, {"due_at": after(START, 5)})]
    )
    assert (await h.job("job_1"))["state"] == JobState.QUEUED


async def test_a_final_job_is_never_postponed(h: Harness) -> None:
    await insert(h, job, [job_row(1, "main", JobState.SUCCEEDED, None)])
    await h.runtime.store.write(
        h.runtime.ledger.postpone, [Reschedule("job_1", 0, 1, {"due_at": START})]
    )
    assert (await h.job("job_1"))["due_at"] is None


@pytest.mark.parametrize(
    ("result", "lease", "state"),
    [
        (ResponseClass.LATER, 1, DeliveryState.PENDING),
        (ResponseClass.NEVER, 1, DeliveryState.PENDING),
        (ResponseClass.NEVER, 2, DeliveryState.DEAD),
        (ResponseClass.DELIVERED, 1, DeliveryState.DELIVERED),
    ],
)
async def test_a_failed_attempt_is_fenced_and_a_success_is_not(
    h: Harness, result: ResponseClass, lease: int, state: DeliveryState
) -> None:
    row = delivery_row(1, "sub_1", START) | {"lease": 2}
    await insert(h, delivery, [row])
    done = Attempted(
        cast(QueuedDelivery, row | {"lease": lease}),
        cast(SubscriberRow, {"id": "sub_1"}),
        START,
        5,
        result,
        Delivery().policy,
    )
    await h.runtime.store.write(record, h.runtime.ids, h.runtime.rng, [done], START)
    (now,) = await h.rows(delivery)
    assert now["state"] == state
    assert (now["tries"] == 0) is (state is DeliveryState.PENDING)


async def test_free_slots_are_the_limit_minus_jobs_in_flight_and_none_while_paused(
    h: Harness,
) -> None:
    paused = {"paused": after(START, 1), "full": None}
    await insert(
        h,
        account_state,
        [{"account": name, "paused_until": until} for name, until in paused.items()],
    )
    states = (JobState.SUBMITTING, JobState.SUBMITTED, JobState.PROCESSING, JobState.QUEUED)
    await insert(h, job, [job_row(n, "main", state, START) for n, state in enumerate(states)])
    await insert(h, job, [job_row(90 + n, "full", JobState.SUBMITTED, START) for n in range(3)])
    await insert(h, job, [job_row(99, "main", JobState.SUCCEEDED, None)])
    limits = {"main": 10, "paused": 10, "full": 3}
    assert await h.runtime.store.write(capacity.free_slots, limits, START) == {"main": 7}
    assert await h.runtime.store.write(capacity.free_slots, limits, after(START, 1)) == {
        "main": 7,
        "paused": 10,
    }


# -- token bucket


def test_a_bucket_holds_the_tokens_of_a_second_and_at_least_one() -> None:
    def steps(rate: float, *seconds: float) -> list[int]:
        bucket, taken = TokenBucket(rate, 1.0, START), list[int]()
        for at in seconds:
            bucket = bucket.refilled(after(START, at))
            taken.append(int(bucket.tokens))
            bucket = bucket.less(taken[-1])
        return taken

    assert steps(10, 0, 60, 60.1) == [1, 10, 1]
    assert steps(0.5, 0, 1, 1.999, 2, 90) == [1, 0, 0, 1, 1]


def test_a_clock_that_goes_back_and_forth_adds_no_tokens() -> None:
    bucket = TokenBucket(1.0, 0.0, START)
    for second in (1, 0, 1, 0, 1):
        bucket = bucket.refilled(after(START, second))
    assert bucket.tokens == 1.0
    spent = bucket.less(1)
    for second in (0, 1, 0, 1):
        spent = spent.refilled(after(START, second))
    assert spent.tokens == 0.0


def test_a_clock_that_was_hours_ahead_blocks_no_account_for_hours() -> None:
    ahead = TokenBucket(1.0, 0.0, START + timedelta(hours=5))
    assert ahead.refilled(START).refilled(after(START, 3)).tokens == 1.0


def test_frequent_refills_lose_nothing_to_rounding() -> None:
    bucket = TokenBucket(1.0, 0.0, START)
    for n in range(5000):
        looked = bucket.refilled(START + timedelta(microseconds=100 * n))
        bucket = TokenBucket(
            1.0, looked.tokens, looked.at.replace(microsecond=looked.at.microsecond // 1000 * 1000)
        )
    assert bucket.tokens == pytest.approx(0.499, abs=1e-6)


@pytest.mark.parametrize(
    ("tokens", "rate", "wait"), [(1.0, 2.0, 0.0), (7.5, 2.0, 0.0), (0.5, 2.0, 0.25), (0.0, 0.1, 10)]
)
def test_wait_is_the_seconds_until_there_is_a_token(
    tokens: float, rate: float, wait: float
) -> None:
    bucket = TokenBucket(rate, tokens, START)
    assert bucket.wait == wait
    assert bucket.refilled(after(START, wait)).tokens >= 1
