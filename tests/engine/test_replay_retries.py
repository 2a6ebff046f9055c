"""Replays that retry jobs: each work once, as a new job, whatever happens meanwhile."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from orchestrator.database.store import Tx
from orchestrator.database.tables import job
from orchestrator.database.tables import replay as table
from orchestrator.engine import replay
from orchestrator.engine.replay import Replayer
from orchestrator.engine.replay_retries import Retries
from orchestrator.foundation.clock import rfc3339
from orchestrator.foundation.states import JobState
from orchestrator.jobs.intake import JobIntake
from tests.api.test_support import TWO, Caller, calling, in_doubt, submitted
from tests.database.test_listing import fill
from tests.engine.test_account_limits import replicas
from tests.harness.api_caller import Json
from tests.harness.engine import report_state
from tests.harness.runtime import Harness

pytestmark = pytest.mark.usefixtures("everywhere")


async def failed(api: Caller, **values: Any) -> str:
    """Submit a job and let it fail; return its id."""
    made = await submitted(api, **values)
    await api.finish(made["id"], JobState.FAILED)
    return str(made["id"])


async def retried(h: Harness) -> list[str | None]:
    """Return the jobs of which a retry exists, in the order of the retries."""
    rows = await h.rows(job, job.c.retry_of.is_not(None))
    return [row["retry_of"] for row in sorted(rows, key=lambda row: row["id"])]


async def work_off(*group: Harness) -> None:
    """Do all slices of all replays, concurrently if there are several runtimes."""

    async def work(h: Harness) -> None:
        stage = h.runtime.assemble(Replayer)
        while (await h.rows(table, table.c.due_at.is_not(None))) != []:
            for claimed in await stage.take(1):
                await stage.work(claimed)
            h.clock.advance(1)

    await asyncio.gather(*(work(h) for h in group))


async def test_a_dry_run_shows_what_would_be_paid_for_and_creates_nothing(tmp_path: Path) -> None:
    async with calling(tmp_path, accounts=TWO) as api:
        first = [await failed(api, account="main") for _ in range(2)]
        (other,) = [await failed(api, account="dream")]
        await submitted(api, account="main")
        shown = await api.post("/v1/replays", 200, {"jobs": {}, "dry_run": True})
        assert (shown["count"], shown["renders"], shown["subscribers"]) == (3, 3, [])
        assert shown["accounts"] == [
            {"account": "main", "count": 2},
            {"account": "dream", "count": 1},
        ]
        assert [one["id"] for one in shown["sample"]] == [other, *first[::-1]]
        assert {(one["kind"], one["error"]) for one in shown["sample"]} == {
            ("job", "vendor_failed")
        }
        assert (shown["jobs"]["status"], shown["jobs"]["again"]) == (["failed"], False)
        assert (await retried(api), await api.rows(table)) == ([], [])


async def test_the_renders_of_a_dry_run_are_counted_up_to_a_cap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("engine.replay_contract", "schemas.replays"):
        monkeypatch.setattr(f"orchestrator.{place}.COUNT_CAP", 2)
    async with calling(tmp_path) as api:
        for is_capped in (False, True):
            await failed(api)
            await failed(api)
            shown = await api.post("/v1/replays", 200, {"jobs": {}, "dry_run": True})
            found = (shown["count"], shown["renders"], shown["count_is_capped"])
            assert found == (2, 2, is_capped)
            assert [one["count"] for one in shown["accounts"]] == [2]


async def test_jobs_are_retried_by_the_filters_of_their_list(tmp_path: Path) -> None:
    async with calling(tmp_path, accounts=TWO) as api:
        a = await failed(api, account="main", metadata={"order": "1"})
        api.clock.advance(60)
        noon = rfc3339(api.clock.now())
        api.clock.advance(1)
        b = await failed(api, account="dream", model="m", external_task_id="e")
        canceled = (await submitted(api, account="main"))["id"]
        await api.post(f"/v1/jobs/{canceled}/cancel", 200)
        wanted: list[tuple[Json, set[str]]] = [
            ({}, {a, b}),
            ({"account": "dream"}, {b}),
            ({"model": "m"}, {b}),
            ({"external_task_id": "e"}, {b}),
            ({"vendor_task_id": "none"}, set()),
            ({"metadata": "order=1"}, {a}),
            ({"error": "vendor_failed"}, {a, b}),
            ({"error": "vendor_refused"}, set()),
            ({"resolved_by": "push", "created_after": noon}, {b}),
            ({"status": ["canceled", "failed"]}, {a, b, canceled}),
            ({"status": ["expired"]}, set()),
        ]
        for body, ids in wanted:
            shown = await api.post("/v1/replays", 200, {"jobs": body, "dry_run": True})
            assert (shown["count"], {one["id"] for one in shown["sample"]}) == (len(ids), ids), body
            made = await api.post("/v1/replays", 202, {"jobs": body})
            assert (made["status"], made["count"], made["replayed"], made["failed"]) == (
                "done",
                len(ids),
                len(ids),
                0,
            ), body
            assert set(await retried(api)) == ids, body
            await api.run(sa.delete(job).where(job.c.retry_of.is_not(None)))


async def test_of_the_same_work_only_the_newest_job_is_retried_and_none_beside_a_good_one(
    tmp_path: Path,
) -> None:
    async with calling(tmp_path) as api:
        first = await failed(api)
        second = (await api.post(f"/v1/jobs/{first}/retry", 202))["id"]
        live = {"jobs": {}, "dry_run": True}
        again = {"jobs": {"again": True}, "dry_run": True}
        assert (await api.post("/v1/replays", 200, live))["count"] == 0
        # A live retry stands in the way even then: a request that is sent twice pays once.
        assert (await api.post("/v1/replays", 200, again))["count"] == 0
        await api.finish(second, JobState.FAILED)
        for body in (live, again):
            (one,) = (await api.post("/v1/replays", 200, body))["sample"]
            assert one["id"] == second
        made = await api.post("/v1/replays", 202, {"jobs": {}})
        assert (made["count"], made["replayed"]) == (1, 1)
        (third,) = [row["id"] for row in await api.rows(job, job.c.retry_of == second)]
        await api.finish(third)
        assert (await api.post("/v1/replays", 202, {"jobs": {}}))["count"] == 0
        assert (await api.post("/v1/replays", 202, {"jobs": {"again": True}}))["replayed"] == 1


async def test_a_retry_made_after_the_count_is_not_made_a_second_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Retries, "most", 2)
    async with calling(tmp_path) as api:
        ids = [await failed(api) for _ in range(5)]
        begun = await api.post("/v1/replays", 202, {"jobs": {}})
        assert (begun["status"], begun["replayed"], await retried(api)) == (
            "running",
            2,
            ids[:2:-1],
        )
        await api.post(f"/v1/jobs/{ids[0]}/retry", 202)
        await failed(api)
        await work_off(api)
        ended = await api.get(f"/v1/replays/{begun['id']}")
        assert (ended["status"], ended["count"], ended["replayed"], ended["failed"]) == (
            "done",
            5,
            4,
            0,
        )
        assert Counter(await retried(api)) == Counter(ids)


async def test_a_job_that_cannot_be_retried_is_counted_and_its_timeline_says_why(
    tmp_path: Path,
) -> None:
    async with calling(tmp_path, accounts=TWO) as api:
        good, bad = await failed(api, account="main"), await failed(api, account="main")
        await api.run(sa.update(job).where(job.c.id == bad).values(account="former"))
        made = await api.post("/v1/replays", 202, {"jobs": {}})
        assert (made["count"], made["replayed"], made["failed"]) == (2, 1, 1)
        assert await retried(api) == [good]
        entries = (await api.get(f"/v1/jobs/{bad}/timeline"))["data"]
        (note,) = [entry for entry in entries if entry["kind"] == "operator"]
        assert (note["action"], note["outcome"]) == ("retry", "refused")
        assert note["reason"] == "the account former is no longer configured"


@pytest.mark.parametrize("count", [1, 2])
async def test_no_job_is_retried_twice_by_replicas_or_by_a_unit_that_runs_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr(Retries, "most", 3)
    async with replicas(tmp_path, count) as group:
        first, ids = group[0], list[str]()
        for _ in range(20):
            opened = await first.open()
            ids.append((await report_state(first, opened["id"], JobState.FAILED))["id"])
        in_doubt(monkeypatch)
        which: Any = {"status": ["failed"], "created_after": None, "again": True}
        row = replay.new(
            first.runtime.ids, api_key="key", now=first.clock.now(), jobs=which, rate=3
        )
        counted = await first.runtime.store.read(replay.counted, row)
        await first.runtime.store.write(replay.begin, first.runtime.assemble(JobIntake), counted)
        await work_off(*group)
        (ended,) = await first.rows(table)
        assert (ended["state"], ended["counted"], ended["replayed"]) == ("done", 20, 20)
        assert Counter(await retried(first)) == Counter(ids)


async def test_retries_are_bounded_in_rate_and_stop_when_canceled(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        for _ in range(12):
            await failed(api)
        begun = await api.post("/v1/replays", 202, {"jobs": {}})
        assert (begun["rate"], begun["replayed"]) == (10, 10)
        stage = api.runtime.assemble(Replayer)
        assert not await stage.take(1), "the next ones are due in a second"
        await api.post(f"/v1/replays/{begun['id']}/cancel", 200)
        await work_off(api)
        assert len(await retried(api)) == 10


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"jobs": {"status": ["succeeded"]}}, "/jobs/status/0"),
        ({"jobs": {"status": []}}, "/jobs/status"),
        ({"jobs": {"status": "failed"}}, "/jobs/status"),
        ({"jobs": {"colour": "red"}}, "/jobs/colour"),
        ({"jobs": {"metadata": "order"}}, "/jobs/metadata"),
        ({"jobs": {"created_after": "noon"}}, "/jobs/created_after"),
        ({"jobs": {}, "status": "dead"}, "/status"),
        ({"jobs": {}, "subscriber": "sub_x", "missed": True}, "/missed"),
    ],
)
async def test_a_wrong_filter_of_jobs_is_refused_with_its_pointer(
    tmp_path: Path, body: Json, pointer: str
) -> None:
    async with calling(tmp_path) as api:
        problem = await api.post("/v1/replays", 422, body)
        assert problem["errors"][0]["pointer"] == pointer


async def test_jobs_to_retry_are_counted_along_the_index_of_states(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        await api.runtime.store.write(fill, job, 1000)
        await api.run(sa.text("ANALYZE"))
        which: Any = {"status": ["failed"], "created_after": None, "again": False}
        row = replay.new(api.runtime.ids, api_key="key", now=api.clock.now(), jobs=which)

        def plans(tx: Tx) -> str:
            seen: list[str] = []
            how = "EXPLAIN QUERY PLAN " if tx.dialect.name == "sqlite" else "EXPLAIN "

            def explain(_c: Any, cursor: Any, text: str, parameters: Any, *_: Any) -> None:
                found = cursor.connection.cursor().execute(how + text, parameters).fetchall()
                seen.extend(str(line) for line in found)

            if tx.dialect.name == "postgresql":
                # Otherwise a table this small is scanned.
                tx.execute(sa.text("SET LOCAL enable_seqscan = off"))
            sa.event.listen(tx, "before_cursor_execute", explain)
            Retries(row | {"newest": "job_z"}).count(tx)
            sa.event.remove(tx, "before_cursor_execute", explain)
            return "\n".join(seen)

        found = await api.runtime.store.write(plans)
        assert "ix_job_state" in found
        assert "ix_job_retry" in found
