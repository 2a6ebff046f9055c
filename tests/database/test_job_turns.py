"""Turns: slots go round the fairness keys, at a cost independent of rows that are not claimed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from orchestrator.database import job_turns
from orchestrator.database.job_turns import Turn
from orchestrator.database.store import Tx
from orchestrator.database.tables import job
from orchestrator.engine.submit import Submitter
from orchestrator.foundation.clock import after
from orchestrator.foundation.states import JobState
from tests.database.test_queue import DAY, job_row, multiply, plans, undone
from tests.harness import databases
from tests.harness.filled_database import filled_database, insert
from tests.harness.runtime import START, Harness, open_harness


def queued(number: int, key: str, priority: int = 0, due: float = 0.0) -> dict[str, Any]:
    """Return a queued job, due so many seconds after the start."""
    row = job_row(number, "main", JobState.QUEUED, after(START, due))
    return row | {"fairness_key": key, "queue_rank": -priority}


#: Jobs as (key, priority, seconds until due); the key served last; free slots; and the jobs that
#: are claimed, by their numbers.
ORDERS: dict[str, tuple[list[tuple[str, int, float]], str, int, list[int]]] = {
    "older first": ([("a", 0, -1), ("a", 0, -9), ("b", 0, 0)], "", 1, [1]),
    "one of each": ([("a", 0, -9), ("a", 0, -8), ("b", 0, -1), ("c", 0, 0)], "", 3, [0, 2, 3]),
    "from the one after the last": ([("a", 0, 0), ("b", 0, 0), ("c", 0, 0)], "a", 2, [1, 2]),
    "around": ([("a", 0, 0), ("b", 0, 0), ("c", 0, 0)], "b", 2, [2, 0]),
    "the last one again": ([("a", 0, 0), ("b", 0, 5)], "a", 1, [0]),
    "a key that is gone": ([("a", 0, 0), ("c", 0, 0)], "b", 2, [1, 0]),
    "rounds": ([("a", 0, -3), ("a", 0, -2), ("a", 0, -1), ("b", 0, 0)], "", 4, [0, 3, 1, 2]),
    "a round's rest": ([("a", 0, -2), ("a", 0, -1), ("b", 0, 0), ("b", 0, 0.0)], "", 3, [0, 2, 1]),
    "higher first": ([("a", 0, -9), ("a", 10, -1), ("a", -10, -99), ("b", 0, 0)], "", 4,
                     [1, 3, 0, 2]),
    "a priority is no privilege": ([("a", 10, -9), ("a", 10, -8), ("b", -10, 0)], "", 2, [0, 2]),
    "only what is due": ([("a", 10, 5), ("a", 0, 0), ("a", -1, 9), ("b", 0, 5)], "", 9, [1]),
    "lower ones fill up": ([("a", 3, 0), ("a", 2, 7), ("a", 1, 0), ("b", 0, 0)], "", 9, [0, 3, 2]),
    "one key, two priorities": ([("a", 0, -5), ("a", 1, 0), ("a", 0, -6)], "", 2, [1, 2]),
    "of older versions": ([("", 0, 0), ("b", 0, 0)], "b", 2, [0, 1]),
}  # fmt: skip


@pytest.mark.parametrize("name", ORDERS)
async def test_slots_go_round_the_keys_by_priority_and_age_inside_a_key(
    h: Harness, name: str
) -> None:
    jobs, served, share, expected = ORDERS[name]
    await insert(h, job, [queued(n, *given) for n, given in enumerate(jobs)])
    await insert(h, job, [queued(99, "a", 10) | {"account": "other"}])
    turn = await h.runtime.store.write(job_turns.next_jobs, "main", served, share, START)
    assert turn == Turn([f"job_{n}" for n in expected])


async def test_an_account_has_turns_if_its_queued_jobs_have_several_keys_or_priorities(
    h: Harness,
) -> None:
    async def found() -> dict[str, bool]:
        return await h.runtime.store.read(lambda tx: job_turns.ask_accounts(tx, START)())

    await insert(h, job, [queued(1, "a"), queued(2, "a"), queued(3, "a", due=5)])
    await insert(h, job, [queued(4, "b", 3) | {"account": "calm", "due_at": after(START, 9)}])
    assert await found() == {"main": False}
    await insert(h, job, [queued(5, "b", due=5)])
    assert await found() == {"main": True}
    await h.run(sa.update(job).where(job.c.fairness_key == "b").values(fairness_key="a"))
    assert await found() == {"main": False}
    await h.run(sa.update(job).where(job.c.id == "job_3").values(queue_rank=2))
    assert await found() == {"main": True}


ONE_SLOT = {"main": {"vendor": "kling", "api_key": "k", "max_in_flight": 1}}


@pytest.fixture
async def narrow(tmp_path: Path, database: str) -> AsyncIterator[Harness]:
    async with open_harness(tmp_path, accounts=ONE_SLOT, database_url=database) as opened:
        yield opened


async def claims(h: Harness, count: int) -> list[str]:
    """Return the keys of jobs that are claimed one after the other, each ended at once."""
    submitter, keys = h.runtime.assemble(Submitter), list[str]()
    for _ in range(count):
        for claim in await submitter.take(64):
            keys.append(claim.row["fairness_key"])
            ended = sa.update(job).where(job.c.id == claim.row["id"])
            await h.run(ended.values(state=JobState.CANCELED, due_at=None))
    return keys


async def test_keys_with_a_thousand_jobs_and_ten_share_one_slot_equally(narrow: Harness) -> None:
    many = [queued(n, "many", due=-10_000 + n) for n in range(1000)]
    await insert(narrow, job, many + [queued(2000 + n, "few") for n in range(10)])
    keys = await claims(narrow, 24)
    assert Counter(keys[:20]) == {"many": 10, "few": 10}
    assert keys[20:] == ["many"] * 4
    await insert(narrow, job, [queued(3000 + n, key, 9) for n, key in enumerate("az")])
    late = await claims(narrow, 4)
    assert sorted(late) == ["a", "many", "many", "z"], "a new key waits for one turn of each other"
    assert late[1:3] != ["many", "many"]


async def test_a_queue_of_one_key_costs_no_statement_more_than_its_claim(narrow: Harness) -> None:
    await insert(narrow, job, [queued(n, "key", due=-n) for n in range(3)])
    statements: list[str] = []

    async def counted() -> int:
        statements.clear()
        await claims(narrow, 1)
        # Without the end of the job, which the test makes.
        return len([one for one in statements if re.match("SELECT|WITH|UPDATE|INSERT", one)]) - 1

    def heard(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement.lstrip())

    sa.event.listen(sa.Engine, "before_cursor_execute", heard)
    try:
        # Lanes (2), slots (2), due jobs, their claim, their begin, and its note.
        assert await counted() == 8
        await insert(narrow, job, [queued(9, "other")])
        assert await counted() <= 8 + 4
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", heard)


# -- cost


@pytest.fixture(scope="module", params=databases.KINDS)
def busy_database(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The URL of a database with the rows of `busy`."""
    with filled_database(request.param, tmp_path_factory.mktemp("turns"), fill) as address:
        yield address


@pytest.fixture
async def busy(tmp_path: Path, busy_database: str) -> AsyncIterator[Harness]:
    """A key with 5,000 due jobs and 5,000 of a higher priority that wait; two small keys."""
    async with open_harness(tmp_path, database_url=busy_database) as h:
        yield h


async def fill(h: Harness) -> None:
    """Insert the rows of `busy`, and an account whose 10,000 keys wait, but for the last."""
    await insert(h, job, [queued(0, "") | {"due_at": after(START, DAY)}])
    columns = (
        "'job_' || n, 'job_' || n, CASE WHEN n <= 10000 THEN 'main' ELSE 'later' END",
        "CASE WHEN n <= 10000 THEN 'big' ELSE 'key' || (n + 10000) END",
        "CASE WHEN n <= 10000 THEN n % 2 * 5 - 5 ELSE 0 END",
        "CASE WHEN n <= 10000 AND n % 2 = 1 THEN due_at - 86400000 ELSE due_at END",
    )
    names = ("id", "external_task_id", "account", "fairness_key", "queue_rank", "due_at")
    await multiply(h, job, ", ".join(columns), names)
    await insert(h, job, [queued(50_000 + n, f"small{n % 2}") for n in range(4)])
    await insert(h, job, [queued(60_000, "last") | {"account": "later"}])
    if h.runtime.store.shared:
        # As autovacuum would later.
        await h.run(sa.text("ANALYZE"))


def claim(tx: Tx, account: str, served: str, share: int) -> Turn:
    assert job_turns.ask_accounts(tx, START)()[account]
    return job_turns.next_jobs(tx, account, served, share, START)


@pytest.mark.parametrize("share", [2, 16])
async def test_a_turn_reads_entries_of_its_index_alone(busy: Harness, share: int) -> None:
    found = await plans(busy, claim, "main", "", share)
    if busy.runtime.store.shared:
        assert not [line for line in found if "Seq Scan" in line or "Sort" in line]
        scans = [line for line in found if "Scan" in line and "hop" not in line]
        known = r"ix_job_(turn|due)\b|using (ix_job_state|job_pkey)\b"
        assert not [line for line in scans if not re.search(known, line)]
    else:
        tables = [line for line in found if re.match(r"(SCAN|SEARCH) job\b", line)]
        known = r"COVERING INDEX ix_job_due|ix_job_turn \(account=\? AND state=\?( AND \(fair|\))"
        assert not [line for line in tables if not re.search(known, line)]
        wide = [line for line in tables if "COVERING" not in line]
        assert len(wide) == (1 if share == 2 else 7), "the first of each key, and more of each"
    assert sum("ix_job_turn" in line for line in found) >= 8


def cost(tx: Tx, account: str, served: str, share: int) -> int:
    """Return the cost of a claim: steps of SQLite, or pages that PostgreSQL reads."""
    if tx.dialect.name == "postgresql":
        fetched = sa.text(
            "SELECT sum(pg_stat_get_xact_blocks_fetched(oid)) FROM pg_class"
            " WHERE relname LIKE '%job%'"
        )
        before = tx.execute(fetched).scalar_one()
        claim(tx, account, served, share)
        return int(tx.execute(fetched).scalar_one() - before)
    counted, connection = [0], tx.connection.driver_connection
    assert connection is not None

    def tick() -> None:
        counted[0] += 10

    connection.set_progress_handler(tick, 10)
    claim(tx, account, served, share)
    connection.set_progress_handler(None, 0)
    return counted[0]


@pytest.mark.parametrize(
    ("account", "served", "share"),
    [("main", "", 1), ("main", "big", 3), ("main", "", 16), ("later", "", 16)],
)
async def test_the_cost_of_a_turn_does_not_grow_with_rows(
    busy: Harness, account: str, served: str, share: int
) -> None:
    """Not with one key's due rows, nor with those that wait, nor with keys that all wait."""
    lanes = job_turns.MOST if account == "later" else 12
    found = await undone(busy, cost, account, served, share)
    if busy.runtime.store.shared:
        assert 0 < found < 150 + 20 * lanes
    else:
        assert 0 < found < 2000 + 150 * lanes


async def test_keys_that_all_wait_are_passed_in_several_claims(busy: Harness) -> None:
    def last(tx: Tx) -> tuple[list[int], Turn]:
        turn, sizes = Turn(()), list[int]()
        key = "key29900"
        while not turn.ids:
            turn = job_turns.next_jobs(tx, "later", key, 4, START)
            assert turn.passed is None or len(turn.passed) == 8
            key = turn.passed or key
            sizes.append(1)
        return sizes, turn

    looks, turn = await undone(busy, last)
    assert turn.ids == ["job_60000"]
    assert len(looks) <= 3


async def test_a_claim_that_passed_waiting_keys_is_followed_by_another(
    narrow: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_turns, "MOST", 4)
    await insert(narrow, job, [queued(n, f"key{n:02}", due=60) for n in range(14)])
    await insert(narrow, job, [queued(99, "last")])
    submitter = narrow.runtime.assemble(Submitter)
    waits: list[Any] = []
    for _ in range(4):
        claimed, wait = await narrow.runtime.store.write(submitter._claim, 64)
        waits.append((len(claimed), wait))
    assert waits == [(0, 0.0), (0, 0.0), (0, 0.0), (1, None)]
