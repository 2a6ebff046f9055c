"""Lists and timelines: every page is an index scan with a row budget; pages miss no row."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from orchestrator.database import listing
from orchestrator.database.listing import ListFilter, ListPage
from orchestrator.database.store import Tx
from orchestrator.database.tables import attempt, delivery, event, job, push, trace
from orchestrator.foundation.clock import after
from orchestrator.foundation.states import DeliveryState, EventType, JobState, Source
from orchestrator.jobs import timeline
from tests.harness import databases
from tests.harness.filled_database import filled_database, insert
from tests.harness.runtime import START, Harness, open_harness

#: Of each table. Every hundredth job has rare values; the older half is of another account.
ROWS = 12_000
_BUDGET = 25
Page = Callable[[Tx, str | None], ListPage[Any]]
Sql = sa.ColumnElement[Any]


def pick(every: int, rare: str, usual: str) -> str:
    return f"CASE WHEN n % {every} = 1 THEN '{rare}' ELSE '{usual}' END"


_COLUMNS: dict[sa.Table, dict[str, str]] = {
    job: {
        "id": "'job_0' || (100000 + n)", "external_task_id": "'ext-' || n",
        "vendor_task_id": "'v' || n", "model": pick(10, "new", "usual"),
        "account": f"CASE WHEN n <= {ROWS // 2} THEN 'past' ELSE 'main' END",
        "state": f"CASE WHEN n % 100 = 3 THEN 'failed' ELSE {pick(100, 'queued', 'succeeded')} END",
        "resolved_by": pick(100, "operator", "push"),
    },
    event: {
        "id": "'evt_0' || (100000 + n)", "job_id": "'job_0' || (100000 + n % 4000)",
        "sequence": "n",
        "type": pick(100, "job.failed", "job.succeeded"), "position": "n",
    },
    delivery: {
        "id": "'dlv_0' || (100000 + n)", "event_id": "'evt_0' || (100000 + n)",
        "subscriber_id": f"CASE WHEN n <= {ROWS // 2} THEN 'sub_past' ELSE 'sub_main' END",
        "state": f"CASE WHEN n % 100 = 3 THEN 'held' ELSE {pick(100, 'dead', 'delivered')} END",
    },
}  # fmt: skip
_MODELS: dict[sa.Table, dict[str, Any]] = {
    job: {
        "vendor": "kling", "capability": "text2video", "input": {}, "metadata": {},
        "api_key": "key", "attempt": 0, "tries": 0, "asks": 0, "misses": 0, "lease": 0,
        "version": 1, "sequence": 0, "created_at": START, "deadline_at": START,
    },
    event: {"source": "push", "body": b"{}", "created_at": START},
    delivery: {"lease": 0, "tries": 0, "created_at": START},
}  # fmt: skip


def fill(tx: Tx, table: sa.Table, count: int) -> None:
    values: dict[str, Sql] = {
        name: sa.literal_column(text) for name, text in _COLUMNS[table].items()
    }
    values |= {
        name: sa.literal(value, table.c[name].type) for name, value in _MODELS[table].items()
    }
    numbers = sa.select(sa.literal(1).label("n")).cte("numbers", recursive=True)
    numbers = numbers.union_all(sa.select(numbers.c.n + 1).where(numbers.c.n < count))
    tx.execute(
        sa.insert(table).from_select(list(values), sa.select(*values.values()).select_from(numbers))
    )


async def filled(h: Harness, count: int) -> Harness:
    for table in _COLUMNS:
        await h.runtime.store.write(fill, table, count)
    if h.runtime.store.shared:
        # As autovacuum would later.
        await h.run(sa.text("ANALYZE"))
    return h


@pytest.fixture(scope="module", params=databases.KINDS)
def full_database(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The URL of a database of all rows."""
    folder = tmp_path_factory.mktemp("full")
    with filled_database(request.param, folder, lambda h: filled(h, ROWS)) as address:
        yield address


@pytest.fixture
async def full(tmp_path: Path, full_database: str) -> AsyncIterator[Harness]:
    """A runtime on a database of all rows. Tests do not change these tables."""
    async with open_harness(tmp_path, database_url=full_database) as h:
        yield h


def page_of(of: Any, wanted: ListFilter, limit: int = 7, **more: Any) -> Page:
    return lambda tx, last: of(tx, wanted, last, limit, **more)


async def all_pages(h: Harness, page: Page) -> list[list[str]]:
    """Return the ids of each page, from the first to the last."""
    pages, last = list[list[str]](), None
    while True:
        part = await h.runtime.store.read(page, last)
        pages.append([row["id"] for row in part.rows])
        if (last := part.next) is None:
            return pages


FILTERS: list[tuple[Any, sa.Table, ListFilter]] = [
    (listing.jobs, job, {}),
    (listing.jobs, job, {"state": [JobState.FAILED]}),
    (listing.jobs, job, {"state": [JobState.SUCCEEDED]}),
    (listing.jobs, job, {"state": [JobState.EXPIRED]}),
    (listing.jobs, job, {"state": [JobState.FAILED, JobState.QUEUED, JobState.EXPIRED]}),
    (listing.jobs, job, {"state": [JobState.FAILED, JobState.SUCCEEDED]}),
    (listing.jobs, job, {"account": ["past"]}),
    (listing.jobs, job, {"account": ["missing"]}),
    (listing.jobs, job, {"model": ["new"]}),
    (listing.jobs, job, {"resolved_by": [Source.OPERATOR]}),
    (listing.jobs, job, {"resolved_by": [Source.PUSH]}),
    (listing.jobs, job, {"external_task_id": ["ext-33"]}),
    (listing.jobs, job, {"vendor_task_id": ["v33"]}),
    (listing.jobs, job, {"vendor_task_id": ["v33"], "account": ["main"]}),
    (listing.jobs, job, {"state": [JobState.FAILED], "model": ["new"]}),
    (listing.jobs, job, {"state": [JobState.QUEUED], "model": ["new"], "account": ["past"]}),
    (
        listing.jobs,
        job,
        {"state": [JobState.SUCCEEDED], "resolved_by": [Source.PUSH], "account": ["past"]},
    ),
    (listing.jobs, job, {"external_task_id": ["ext-33"], "account": ["main"]}),
    (listing.events, event, {}),
    (listing.events, event, {"type": [EventType.JOB_FAILED]}),
    (listing.events, event, {"type": [EventType.JOB_FAILED, EventType.SUBSCRIBER_DISABLED]}),
    (listing.events, event, {"type": [EventType.JOB_SUBMITTED]}),
    (listing.events, event, {"type": sorted(EventType)}),
    (listing.events, event, {"job_id": ["job_0100033"]}),
    (listing.events, event, {"job_id": ["job_0100033"], "type": [EventType.JOB_SUCCEEDED]}),
    (listing.deliveries, delivery, {}),
    (listing.deliveries, delivery, {"state": [DeliveryState.DEAD]}),
    (listing.deliveries, delivery, {"state": [DeliveryState.PENDING]}),
    (
        listing.deliveries,
        delivery,
        {"state": [DeliveryState.DELIVERED], "subscriber_id": ["sub_past"]},
    ),
    (listing.deliveries, delivery, {"state": [DeliveryState.HELD], "subscriber_id": ["sub_past"]}),
    (listing.deliveries, delivery, {"state": [DeliveryState.DEAD], "subscriber_id": ["sub_past"]}),
    (
        listing.deliveries,
        delivery,
        {"state": [DeliveryState.DEAD], "subscriber_id": ["sub_past", "sub_main"]},
    ),
    (
        listing.deliveries,
        delivery,
        {"state": [DeliveryState.DEAD, DeliveryState.HELD], "subscriber_id": ["sub_past"]},
    ),
    (listing.deliveries, delivery, {"event_id": ["evt_0100033"]}),
    (listing.deliveries, delivery, {"event_id": ["evt_0100033"], "subscriber_id": ["sub_main"]}),
]


async def test_pages_together_hold_every_matching_row_once_newest_first(h: Harness) -> None:
    await filled(h, 210)
    for of, table, wanted in FILTERS:
        which = [table.c[name].in_(values) for name, values in wanted.items()]
        expected = [row["id"] for row in await h.rows(table, *which)][::-1]
        pages = await all_pages(h, page_of(of, wanted, budget=_BUDGET))
        assert [found for page in pages for found in page] == expected, wanted
        assert max(map(len, pages)) <= 7
        # A page passes over few other rows.
        assert len(pages) <= 2 + len(expected) / 7 + 210 / _BUDGET
        if (
            len(wanted) < 2
            and len(expected) > 7
            and JobState.SUCCEEDED not in wanted.get("state", ())
        ):
            assert [len(page) for page in pages[:-1]] == [7] * (len(pages) - 1), (
                f"{wanted} has an index of its own"
            )


async def test_a_short_or_empty_page_still_leads_to_the_next(h: Harness) -> None:
    await filled(h, 404)
    new, last = job.c.id > "job_0100004", sa.func.substr(job.c.id, 11)
    await h.run(sa.update(job).values(account="past", model="usual"))
    await h.run(sa.update(job).where(new, last.in_(list("02468"))).values(account="main"))
    await h.run(sa.update(job).where(new, last.in_(list("13579"))).values(model="odd"))
    pages = await all_pages(
        h, page_of(listing.jobs, {"account": ["past"], "model": ["usual"]}, budget=_BUDGET)
    )
    assert pages[-1] == [f"job_010000{n}" for n in (4, 3, 2, 1)]
    assert pages[:-1] == [[]] * (200 // _BUDGET), (
        "rows that meet one filter alone are passed over, a budget at a time"
    )


async def test_the_shortest_path_is_taken(h: Harness) -> None:
    """Whichever filter is the rarest."""
    await filled(h, 400)
    rarest: list[ListFilter] = [
        {"account": ["missing"]},
        {"model": ["none"]},
        {"state": [JobState.EXPIRED]},
    ]
    for rare in rarest:
        wanted: ListFilter = {
            "model": ["usual"],
            "account": ["main"],
            "state": [JobState.QUEUED],
            **rare,
        }
        assert await all_pages(h, page_of(listing.jobs, wanted, budget=_BUDGET)) == [[]]


@pytest.mark.parametrize(
    ("days", "found"),
    [(-739_000, 120), (-20_778, 120), (-1, 120), (45, 75), (119, 1), (120, 0), (9999, 0)],
)
async def test_created_after_is_a_bound_on_ids(h: Harness, days: int, found: int) -> None:
    """Exclusive, and the same with few or many scanned rows."""
    rows = [_dated(h, START + timedelta(days=n)) for n in range(1, 121)]
    await insert(h, job, rows)
    since = START + timedelta(days=days)
    pages = await all_pages(h, page_of(listing.jobs, {}, since=since, budget=_BUDGET))
    assert [found_id for page in pages for found_id in page] == [row["id"] for row in rows[::-1]][
        :found
    ]
    assert len(pages) <= 1 + found / 7
    rare = await all_pages(
        h, page_of(listing.jobs, {"state": [JobState.FAILED]}, since=since, budget=_BUDGET)
    )
    assert rare == [[]]


def _dated(h: Harness, at: datetime) -> dict[str, Any]:
    h.clock.advance((at - h.clock.now()).total_seconds())
    job_id = h.runtime.ids("job")
    mine = {
        "id": job_id,
        "external_task_id": job_id,
        "account": "main",
        "model": "m",
        "state": "succeeded",
    }
    return _MODELS[job] | mine | {"created_at": at}


# -- plans


async def plan(
    h: Harness, page: Callable[[Tx, str | None], object], last: str | None = None
) -> list[str]:
    """Return the query plans of a page, a step to a line."""
    found: list[str] = []

    def explained(tx: Tx) -> None:
        def explain(
            _c: Any, cursor: Any, statement: str, parameters: Any, _x: Any, _m: bool
        ) -> None:
            if statement.startswith("SELECT"):
                how = "EXPLAIN QUERY PLAN " if tx.dialect.name == "sqlite" else "EXPLAIN "
                cursor.execute(how + statement, parameters)
                found.extend(row[-1] for row in cursor.fetchall())

        sa.event.listen(tx, "before_cursor_execute", explain)
        try:
            page(tx, last)
        finally:
            sa.event.remove(tx, "before_cursor_execute", explain)

    await h.runtime.store.read(explained)
    return found


INDEXES: list[tuple[Any, ListFilter, str]] = [
    (listing.jobs, {"state": [JobState.FAILED]}, "ix_job_state"),
    (listing.jobs, {"state": [JobState.QUEUED, JobState.EXPIRED]}, "ix_job_state"),
    (listing.jobs, {"account": ["past"]}, "ix_job_account"),
    (listing.jobs, {"model": ["usual"]}, "ix_job_model"),
    (listing.jobs, {"resolved_by": [Source.OPERATOR]}, "ix_job_resolved"),
    (listing.jobs, {"vendor_task_id": ["v33"]}, "ix_job_vendor_task"),
    (listing.jobs, {"state": [JobState.FAILED], "error_code": ["x"]}, "ix_job_state"),
    (listing.jobs, {"state": [JobState.FAILED], "model": ["new"]}, "ix_job_state"),
    (listing.jobs, {"state": [JobState.SUCCEEDED], "account": ["past"]}, "ix_job_account"),
    (listing.events, {"type": [EventType.JOB_FAILED]}, "ix_event_type"),
    (listing.events, {"job_id": ["job_0100033"]}, "ix_event_job"),
    (listing.deliveries, {"state": [DeliveryState.DEAD]}, "ix_delivery_state"),
    (listing.deliveries, {"subscriber_id": ["sub_past"]}, "ix_delivery_subscriber"),
    # PostgreSQL may take the index of all dead deliveries, while they are few.
    (
        listing.deliveries,
        {"state": [DeliveryState.DEAD], "subscriber_id": ["sub_past"]},
        "ix_delivery_dead",
    ),
    (
        listing.deliveries,
        {"state": [DeliveryState.HELD], "subscriber_id": ["sub_main"]},
        "ix_delivery_state",
    ),
]


async def test_every_filter_is_read_along_its_index(full: Harness) -> None:
    """In its order, so only the page is sorted; even if a planner expects others to be as good."""
    for of, wanted, index in INDEXES:
        for last in (
            None,
            {listing.jobs: "job_0105000", listing.events: "evt_0105000"}.get(of, "dlv_0105000"),
        ):
            seen = await plan(full, page_of(of, wanted, limit=50), last)
            assert [line for line in seen if index in line], (wanted, seen)
            scans = [
                line for line in seen if re.search(r"Seq Scan|^SCAN (job|event|delivery)\b", line)
            ]
            assert not scans, (wanted, seen)
            # The primary key only finds rows by id: it is never scanned.
            keys = [
                line
                for line in seen
                if re.search(r"Scan Backward using \w+_pkey|autoindex\w+ \(id[<>]", line)
            ]
            assert not keys, (wanted, seen)


TRIED: list[tuple[Any, ListFilter, datetime | None]] = [
    (listing.jobs, {"state": [JobState.SUCCEEDED], "account": ["past"]}, None),
    (listing.jobs, {"state": [JobState.SUCCEEDED], "account": ["past"]}, START),
    (
        listing.jobs,
        {"state": [JobState.SUCCEEDED], "resolved_by": [Source.PUSH], "account": ["past"]},
        None,
    ),
    (
        listing.jobs,
        {"state": [JobState.FAILED, JobState.SUCCEEDED], "resolved_by": [Source.PUSH]},
        None,
    ),
    (
        listing.jobs,
        {"state": [JobState.FAILED, JobState.QUEUED], "model": ["usual"], "account": ["past"]},
        None,
    ),
    (listing.deliveries, {"state": [DeliveryState.DELIVERED], "subscriber_id": ["sub_past"]}, None),
]


async def test_other_filters_are_checked_during_the_scan(full: Harness) -> None:
    """Whatever a planner expects: it neither reads the whole path nor takes another index."""
    for of, wanted, since in TRIED:
        for limit in (50, 200):
            seen = await plan(
                full,
                page_of(of, wanted, limit=limit, since=since)
                if since
                else page_of(of, wanted, limit),
            )
            assert not [line for line in seen if "Bitmap" in line or "Parallel" in line], (
                wanted,
                seen,
            )


async def test_the_cost_of_a_page_is_bounded_by_its_row_budget(full: Harness) -> None:
    """Counted in steps of SQLite, or in pages read by PostgreSQL: the same on a slow machine."""
    also: list[tuple[Any, ListFilter, str]] = [
        (listing.jobs, {}, ""),
        (listing.jobs, {"external_task_id": ["ext-3"]}, ""),
    ]
    for of, wanted, _ in INDEXES + also:
        spent = await cost(full, page_of(of, wanted, limit=50, budget=500))
        assert spent < (1_500 if full.runtime.store.shared else 60_000), (wanted, spent)


async def cost(h: Harness, page: Page) -> int:
    def pages(tx: Tx) -> int:
        fetched = sa.text(
            "SELECT sum(pg_stat_get_xact_blocks_fetched(oid)) FROM pg_class"
            " WHERE relkind IN ('r', 'i')"
        )
        before = tx.execute(fetched).scalar_one()
        page(tx, None)
        return int(tx.execute(fetched).scalar_one() - before)

    def steps(tx: Tx) -> int:
        counted = 0

        def tick() -> None:
            nonlocal counted
            counted += 1

        connection = tx.connection.driver_connection
        assert connection is not None
        connection.set_progress_handler(tick, 10)
        page(tx, None)
        connection.set_progress_handler(None, 0)
        return counted * 10

    return await h.runtime.store.write(pages if h.runtime.store.shared else steps)


# -- timelines


async def test_a_long_timeline_is_paginated(h: Harness) -> None:
    """Entries of one instant stay in causal order, across pages too."""
    row = await h.open()
    mine = row["id"]
    instants = [after(START, n // 9) for n in range(60)]
    polls = [
        {"job_id": mine, "at": after(START, 3), "kind": "poll", "detail": {"n": n}}
        for n in range(40)
    ]
    pushes = [
        {"id": f"psh_{n:03}", "account": "main", "job_id": mine, "attempt": 1,
         "received_at": at, "dedupe_key": str(n), "verified": True,
         "headers": {}, "body": b"{}", "outcome": "applied", "copies": 1}
        for n, at in enumerate(instants)
    ]  # fmt: skip
    events = [_event(n, mine, at) for n, at in enumerate(instants[:30])]
    owed = [
        _MODELS[delivery] | {"id": f"dlv_{n:03}", "event_id": f"evt_{n:03}",
                             "subscriber_id": "sub_1", "state": "dead", "created_at": at}
        for n, at in enumerate(instants[:30])
    ]  # fmt: skip
    tried = [
        {"delivery_id": f"dlv_{n:03}", "n": k, "at": at, "ms": 1, "status": 500}
        for n, at in enumerate(instants[:30])
        for k in (1, 2, 3)
    ]
    for table, rows in (
        (trace, polls),
        (push, pushes),
        (event, events),
        (delivery, owed),
        (attempt, tried),
    ):
        await insert(h, table, rows)
    everything = await h.runtime.store.read(timeline.entries, mine, None, 10_000)
    assert len(everything) == 40 + 60 + 2 * 30 + 30 + 3 * 30
    assert [entry.cursor for entry in everything] == sorted(entry.cursor for entry in everything)
    paged, last = list[Any](), None
    while page := await h.runtime.store.read(timeline.entries, mine, last, 7):
        assert len(page) <= 7
        paged += page
        last = page[-1].cursor
        assert timeline.is_cursor(last)
    assert paged == everything


def _event(n: int, job_id: str, at: datetime) -> dict[str, Any]:
    mine = {
        "id": f"evt_{n:03}",
        "job_id": job_id,
        "sequence": n + 1,
        "type": "job.processing",
        "created_at": at,
    }
    return _MODELS[event] | mine


@pytest.mark.parametrize(
    "cursor", ["9" * 15 + "-0" + "9" * 64, "000000000000000-9zzz", "000000000000000-0abc"]
)
async def test_a_forged_cursor_reads_no_further_than_the_end(h: Harness, cursor: str) -> None:
    row = await h.open()
    assert timeline.is_cursor(cursor)
    assert len(await h.runtime.store.read(timeline.entries, row["id"], cursor, 50)) <= 50


async def test_the_timeline_of_a_job_is_read_along_its_index(full: Harness) -> None:
    traces = [
        {"job_id": f"job_0{100000 + n % 50}", "at": START, "kind": "poll", "detail": {}}
        for n in range(5000)
    ]
    await insert(full, trace, traces)
    seen = await plan(full, lambda tx, _: timeline.entries(tx, "job_0100033", None, 51))
    assert not [
        line for line in seen if re.search(r"Seq Scan on (event|delivery|job|trace)|^SCAN ", line)
    ], seen
    assert [line for line in seen if "ix_trace_job" in line]
