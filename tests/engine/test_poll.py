"""The poller: after a missed push, in batches, by id, at growing intervals, and never for ever."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs

from orchestrator.api.openapi import examples
from orchestrator.database.tables import event, job, trace
from orchestrator.database.tables.rows import JobRow
from orchestrator.engine.expiry import Expiry
from orchestrator.engine.poll import LEASE_MARGIN, Poller
from orchestrator.engine.submit import Submitter
from orchestrator.foundation.clock import after
from orchestrator.foundation.states import JobState, Source
from orchestrator.jobs.timeline import entries
from tests.harness.engine import (
    at_vendor,
    drive,
    event_bodies,
    event_types,
    job_error,
    kling_refusal,
    kling_response,
    legacy_task,
    new_task,
    report_state,
    seconds_until_due,
    task_not_found,
)
from tests.harness.foreign_pages import FOREIGN_PAGES
from tests.harness.runtime import Harness, open_harness

S = JobState
#: Seconds of a claim, with the default `answer_timeout`.
LEASE = 60.0 + LEASE_MARGIN
ACCOUNTS: dict[str, dict[str, Any]] = {
    "main": {"vendor": "agentsflare", "api_key": "k"},
    "many": {"vendor": "cloudsway", "api_key": "k", "options": {"endpoint_path": "e"}},
    "forking": {"vendor": "cubicspaces", "api_key": "k"},
    "lagging": {"vendor": "agentsflare", "api_key": "k", "poll": {"visibility_lag": 110}},
    "dreamto": {"vendor": "dreamto", "api_key": "k", "base_url": "https://dreamto.example"},
}


@pytest.fixture
async def h(tmp_path: Path, database: str) -> AsyncIterator[Harness]:
    async with open_harness(tmp_path, accounts=ACCOUNTS, database_url=database) as opened:
        yield opened


async def poll(h: Harness, answer: Any) -> int:
    """Run the stage once; return the number of queries."""
    h.network.answer = answer if callable(answer) else lambda _: answer
    return await drive(h.runtime.assemble(Poller))


async def jobs_to_poll(h: Harness, account: str = "main", count: int = 1) -> list[JobRow]:
    """Create jobs at the vendor of an account whose first poll is due now."""
    jobs = [await at_vendor(h, account, task=f"t-{account}-{n}") for n in range(count)]
    h.clock.advance(60)
    return jobs


def queried(request: httpx.Request) -> list[str]:
    return request.url.params["task_ids"].split(",")


# -- when and how to query


async def test_a_job_is_not_polled_before_first_after(h: Harness) -> None:
    await at_vendor(h)
    h.clock.advance(59.9)
    assert await poll(h, task_not_found()) == 0
    h.clock.advance(0.1)
    assert await poll(h, task_not_found()) == 1


async def test_a_query_covers_twenty_jobs_where_the_dialect_supports_batches(h: Harness) -> None:
    jobs = await jobs_to_poll(h, "many", 45)
    assert (
        await poll(
            h,
            lambda request: kling_response(
                [new_task(task, "succeeded") for task in queried(request)]
            ),
        )
        == 3
    )
    assert sorted(len(queried(request)) for request in h.network.requests) == [5, 20, 20]
    assert {(await h.job(row["id"]))["state"] for row in jobs} == {S.SUCCEEDED}


async def test_a_query_with_room_covers_jobs_that_are_nearly_due_and_only_such(h: Harness) -> None:
    jobs = await jobs_to_poll(h, "many", 8)
    soon, now = after(h.clock.now(), 10), h.clock.now()
    changes: list[dict[str, Any]] = [
        {"due_at": soon},
        {"due_at": soon, "queried_at": after(now, -20)},
        {"due_at": soon, "queried_at": after(now, -2)},
        {"due_at": soon, "misses": 1},
        {"due_at": soon, "vendor_task_id": None},
        {"due_at": after(now, 20)},
        {"due_at": soon, "claimed_by": 7},
    ]
    for row, values in zip(jobs[1:], changes, strict=True):
        await h.run(sa.update(job).where(job.c.id == row["id"]).values(**values))
    await poll(h, lambda request: kling_response([]))
    (request,) = h.network.requests
    assert sorted(queried(request)) == [row["vendor_task_id"] for row in jobs[:3]]


async def test_without_batches_each_job_has_its_own_query(h: Harness) -> None:
    await jobs_to_poll(h, "main", 3)
    assert await poll(h, task_not_found()) == 3
    assert sorted(request.url.path.rpartition("/")[2] for request in h.network.requests) == [
        "t-main-0", "t-main-1", "t-main-2",
    ]  # fmt: skip


async def test_reports_are_matched_by_id_in_any_order(h: Harness) -> None:
    jobs = await jobs_to_poll(h, "many", 5)
    state = {
        row["vendor_task_id"]: "failed" if n % 2 else "succeeded" for n, row in enumerate(jobs)
    }
    unrelated = [new_task("t-unknown", "failed"), new_task("t-other", "succeeded")]
    await poll(
        h,
        lambda request: kling_response(
            unrelated + [new_task(task, state[task]) for task in reversed(queried(request))]
        ),
    )
    assert [(await h.job(row["id"]))["state"] for row in jobs] == [S.SUCCEEDED, S.FAILED] * 2 + [
        S.SUCCEEDED
    ]


async def test_a_job_missing_from_a_batch_counts_a_miss_for_itself_only(h: Harness) -> None:
    first, second = await jobs_to_poll(h, "many", 2)
    await poll(h, lambda _: kling_response([new_task(first["vendor_task_id"], "processing")]))
    assert ((await h.job(first["id"]))["state"], (await h.job(first["id"]))["misses"]) == (
        S.PROCESSING,
        0,
    )
    assert ((await h.job(second["id"]))["state"], (await h.job(second["id"]))["misses"]) == (
        S.SUBMITTED,
        1,
    )


async def test_reports_of_unknown_tasks_in_a_batch_are_ignored(h: Harness) -> None:
    jobs = await jobs_to_poll(h, "many", 2)
    await poll(h, lambda _: kling_response([new_task("t-x", "failed"), new_task("t-y", "failed")]))
    assert [(await h.job(row["id"]))["state"] for row in jobs] == [S.SUBMITTED, S.SUBMITTED]


async def test_an_end_found_by_polling_has_that_source_and_counts_a_missed_push(h: Harness) -> None:
    (row,) = await jobs_to_poll(h)
    await poll(h, kling_response(legacy_task(row["vendor_task_id"], "succeed")))
    done = await h.job(row["id"])
    assert (done["state"], done["resolved_by"]) == (S.SUCCEEDED, Source.POLL)
    assert ((await h.account())["pushes_missed"], (await h.account())["polls"]) == (1, 1)
    (succeeded,) = await h.rows(event, event.c.type == "job.succeeded")
    assert succeeded["source"] == Source.POLL


async def test_the_interval_between_polls_grows_up_to_the_accounts_maximum(h: Harness) -> None:
    (row,) = await jobs_to_poll(h)
    waits = []
    for _ in range(8):
        await poll(h, kling_response(legacy_task(row["vendor_task_id"], "processing")))
        waits.append(seconds_until_due(h, await h.job(row["id"])))
        h.clock.advance(waits[-1])
    assert waits == pytest.approx(
        [15, 22.5, 33.75, 50.625, 75.9375, 113.90625, 120, 120], abs=0.001
    )


async def test_a_push_postpones_the_next_poll_and_resets_the_interval(h: Harness) -> None:
    (row,) = await jobs_to_poll(h)
    await poll(h, kling_response(legacy_task(row["vendor_task_id"], "processing")))
    pushed = await report_state(h, row["id"], S.PROCESSING, progress=50)
    assert (seconds_until_due(h, pushed), pushed["asks"]) == (60, 0)


# -- no usable answer, and no such task


@pytest.mark.parametrize(
    ("answer", "least"),
    [
        (httpx.Response(500), 15),
        (httpx.Response(502, text="<html>"), 15),
        (httpx.Response(429), 15),
        (httpx.Response(429, headers={"retry-after": "300"}), 300),
        (kling_refusal(1303, 429), 15),
        (kling_refusal(1002, 401), 15),
        (kling_response([]), 15),
        (kling_response({"nonsense": 1}), 15),
    ],
)
async def test_a_query_without_a_usable_answer_is_repeated_later(
    h: Harness, answer: httpx.Response, least: float
) -> None:
    (row,) = await jobs_to_poll(h)
    await poll(h, answer)
    now = await h.job(row["id"])
    assert (now["state"], now["vendor_task_id"]) == (S.SUBMITTED, row["vendor_task_id"])
    assert least <= seconds_until_due(h, now) <= least * 1.1
    assert now["version"] == row["version"]


@pytest.mark.parametrize("error", [httpx.ConnectError("refused"), httpx.ReadTimeout("silence")])
async def test_a_vendor_that_is_unreachable_is_queried_again_later(
    h: Harness, error: Exception
) -> None:
    (row,) = await jobs_to_poll(h)

    def away(_: httpx.Request) -> httpx.Response:
        raise error

    await poll(h, away)
    assert seconds_until_due(h, await h.job(row["id"])) >= 15
    (note,) = await h.rows(trace, trace.c.kind == "poll")
    assert note["detail"]["outcome"] in ("not_sent", "cut_off")


async def test_a_task_unknown_to_the_vendor_fails_only_after_lost_after(h: Harness) -> None:
    (row,) = await jobs_to_poll(h)
    waited = 60.0
    while (await h.job(row["id"]))["state"] == S.SUBMITTED:
        assert await poll(h, task_not_found()) == 1
        now = await h.job(row["id"])
        if now["due_at"]:
            waited += seconds_until_due(h, now)
            h.clock.advance(seconds_until_due(h, now))
    ended = await h.job(row["id"])
    assert (ended["state"], ended["resolved_by"]) == (S.FAILED, Source.POLL)
    assert "no such task" in job_error(ended)["message"]
    assert 600 <= waited <= 600 + 132


async def test_a_job_fails_only_after_two_not_found_answers_even_if_long_overdue(
    h: Harness,
) -> None:
    (row,) = await jobs_to_poll(h)
    h.clock.advance(9999)
    await poll(h, task_not_found())
    assert (await h.job(row["id"]))["misses"] == 1
    await report_state(h, row["id"], S.PROCESSING, progress=1)
    assert (await h.job(row["id"]))["misses"] == 0, "any report of the vendor restarts the count"


async def test_an_answer_that_was_given_before_lost_after_does_not_end_a_job(h: Harness) -> None:
    (row,) = await jobs_to_poll(h)
    for _ in range(2):
        await poll(h, task_not_found())
        h.clock.advance(seconds_until_due(h, await h.job(row["id"])))

    def late(_: httpx.Request) -> httpx.Response:
        h.clock.advance(600)
        return task_not_found()

    await poll(h, late)
    now = await h.job(row["id"])
    assert (now["state"], now["misses"]) == (S.SUBMITTED, 3)


@pytest.mark.parametrize("meanwhile", ["another claim", "a push", "nothing"])
async def test_a_verdict_that_a_task_is_lost_counts_only_under_the_claim_that_asked(
    h: Harness, meanwhile: str
) -> None:
    (row,) = await jobs_to_poll(h)
    h.clock.advance(600)
    for _ in range(2):
        await poll(h, task_not_found())
        h.clock.advance(seconds_until_due(h, await h.job(row["id"])))
    stage = h.runtime.assemble(Poller)

    async def answered(_: httpx.Request) -> httpx.Response:
        if meanwhile == "another claim":
            h.clock.advance(LEASE)
            assert len(await h.runtime.assemble(Poller).take(1)) == 1
        elif meanwhile == "a push":
            await report_state(h, row["id"], S.SUBMITTED, Source.PUSH)
        return task_not_found()

    h.network.answer = answered
    assert await drive(stage) == 1
    now = await h.job(row["id"])
    state, misses = (S.SUBMITTED, 0) if meanwhile == "a push" else (S.SUBMITTED, 2)
    if meanwhile == "nothing":
        state, misses = S.FAILED, 0
    assert (now["state"], now["misses"]) == (state, misses)


@pytest.mark.parametrize("account", ["main", "forking"])
async def test_an_uncertain_push_makes_no_second_query_of_one_in_progress(
    h: Harness, account: str
) -> None:
    """An output that is missing, or a failure that may be another task's."""
    (row,) = await jobs_to_poll(h, account)
    stage = h.runtime.assemble(Poller)
    assert len(await stage.take(1)) == 1
    if account == "main":
        await report_state(h, row["id"], S.SUCCEEDED, Source.PUSH, videos=())
    else:
        await report_state(h, row["id"], S.FAILED, Source.PUSH)
    h.clock.advance(LEASE - 1)
    assert len(await stage.take(1)) == 0
    h.clock.advance(1)
    assert len(await stage.take(1)) == 1


async def test_a_job_that_is_being_queried_is_not_claimed_for_another_query(h: Harness) -> None:
    (row,) = await jobs_to_poll(h)
    stage, now = h.runtime.assemble(Poller), h.clock.now
    (query,) = await stage.take(1)
    claimed = await h.job(row["id"])
    for make_due in (h.runtime.ledger.poll_now, h.runtime.ledger.poll_soon):
        await h.runtime.store.write(make_due, [row["id"]], now())
        assert len(await stage.take(1)) == 0
    assert await h.job(row["id"]) == claimed
    h.network.answer = lambda _: task_not_found()
    await stage.work(query)
    await h.runtime.store.write(h.runtime.ledger.poll_now, [row["id"]], now())
    assert len(await stage.take(1)) == 1


async def test_a_job_that_its_vendor_has_forgotten_is_noticed_once(h: Harness) -> None:
    (row,) = await jobs_to_poll(h)
    for answer, types, misses in (
        (task_not_found(), [], 1),
        (task_not_found(), ["job.stuck"], 2),
        (task_not_found(), ["job.stuck"], 3),
        (kling_response(legacy_task("t-main-0", "processing")), ["job.stuck", "job.processing"], 0),
        (task_not_found(), ["job.stuck", "job.processing"], 1),
        (task_not_found(), ["job.stuck", "job.processing"], 2),
    ):
        with capture_logs() as logs:
            await poll(h, answer)
        now = await h.job(row["id"])
        assert (await event_types(h))[1:] == types
        assert (now["misses"], now["sequence"]) == (misses, len(types) + 1)
        warned = [log["job"] for log in logs if "does not know a task" in log["event"]]
        assert warned == ([row["id"]] if (types, misses) == (["job.stuck"], 2) else [])
        h.clock.advance(seconds_until_due(h, now))
    stuck = (await event_bodies(h))[1]
    assert (stuck["type"], stuck["sequence"]) == ("job.stuck", 2)
    assert (stuck["data"]["id"], stuck["data"]["status"]) == (row["id"], "submitted")
    history = await h.runtime.store.read(entries, row["id"], None, 100)
    moves = [entry.document["to"] for entry in history if entry.document["kind"] == "move"]
    assert moves == ["submitted", "processing"], "it is no move"


async def test_not_found_within_the_visibility_lag_proves_nothing(h: Harness) -> None:
    (row,) = await jobs_to_poll(h, "lagging")
    for misses in (0, 0, 0, 1):
        await poll(h, task_not_found())
        now = await h.job(row["id"])
        assert now["misses"] == misses
        h.clock.advance(seconds_until_due(h, now))
    assert await event_types(h) == ["job.submitted"]


async def test_a_page_that_is_not_about_the_task_never_ends_its_job(h: Harness) -> None:
    (row,) = await jobs_to_poll(h, "dreamto")
    for page in FOREIGN_PAGES.values():
        assert await poll(h, page) == 1
        h.clock.advance(300)
    now = await h.job(row["id"])
    assert (now["state"], now["misses"]) == (S.SUBMITTED, 0)
    assert await event_types(h) == ["job.submitted"]


# -- results of queries


async def test_a_success_without_output_is_polled_until_its_grace_is_over(h: Harness) -> None:
    (row,) = await jobs_to_poll(h)
    empty = kling_response(legacy_task(row["vendor_task_id"], "succeed", task_result={}))
    for _ in range(20):
        await poll(h, empty)
        now = await h.job(row["id"])
        if now["state"] == S.FAILED:
            break
        h.clock.advance(seconds_until_due(h, now))
    assert job_error(now)["code"] == "output_missing"
    assert now["finished_at"] is not None
    assert now["outputless_since"] is not None
    grace = (now["finished_at"] - now["outputless_since"]).total_seconds()
    assert 300 <= grace <= 300 + 120


async def test_a_success_without_output_fails_after_its_grace_even_if_queries_fail(
    h: Harness,
) -> None:
    (row,) = await jobs_to_poll(h)
    await report_state(h, row["id"], S.SUCCEEDED, videos=())
    h.clock.advance(300)
    await poll(h, httpx.Response(500))
    now = await h.job(row["id"])
    assert (now["state"], job_error(now)["code"], now["resolved_by"]) == (
        S.FAILED,
        "output_missing",
        Source.CLOCK,
    )


async def test_an_output_found_by_polling_is_a_success(h: Harness) -> None:
    (row,) = await jobs_to_poll(h)
    await report_state(h, row["id"], S.SUCCEEDED, videos=())
    await poll(h, kling_response(legacy_task(row["vendor_task_id"], "succeed")))
    assert (await h.job(row["id"]))["state"] == S.SUCCEEDED


@pytest.mark.parametrize(("word", "state"), [("completed", S.SUCCEEDED), ("failed", S.FAILED)])
async def test_an_unconfirmed_failure_is_settled_by_an_immediate_query(
    h: Harness, word: str, state: JobState
) -> None:
    (row,) = await jobs_to_poll(h, "forking")
    await report_state(h, row["id"], S.PROCESSING)
    assert (await report_state(h, row["id"], S.FAILED))["state"] == S.PROCESSING
    task = {
        "id": row["vendor_task_id"],
        "status": word,
        "metadata": {"url": "https://cdn.example.com/v.mp4"},
    }
    assert await poll(h, httpx.Response(200, json=task)) == 1
    assert (await h.job(row["id"]))["state"] == state


async def test_a_job_without_a_task_id_waits_for_its_push(h: Harness) -> None:
    opened = await h.open("dreamto")
    await report_state(h, opened["id"], S.PROCESSING)
    h.clock.advance(60)
    await poll(h, httpx.Response(200))
    assert h.network.requests == []
    assert seconds_until_due(h, await h.job(opened["id"])) >= 15


async def test_a_job_without_a_task_id_is_queried_by_its_external_id_where_possible(
    h: Harness,
) -> None:
    known = await at_vendor(h, "many", task="t-1")
    opened = await h.open("many")
    await report_state(h, opened["id"], S.SUBMITTED)
    h.clock.advance(60)

    def answer(request: httpx.Request) -> httpx.Response:
        if "task_ids" in request.url.params:
            return kling_response([new_task("t-1", "succeeded")])
        return kling_response(
            [new_task("t-2", "succeeded", external_id=request.url.params["external_task_ids"])]
        )

    assert await poll(h, answer) == 2
    rows = [await h.job(row["id"]) for row in (known, opened)]
    assert [(row["state"], row["vendor_task_id"]) for row in rows] == [
        (S.SUCCEEDED, "t-1"),
        (S.SUCCEEDED, "t-2"),
    ]


# -- claims


async def test_a_claimed_query_is_claimed_again_only_after_its_lease(h: Harness) -> None:
    await jobs_to_poll(h)
    stage = h.runtime.assemble(Poller)
    assert len(await stage.take(10)) == 1
    h.clock.advance(LEASE - 0.1)
    assert list(await stage.take(10)) == []
    h.clock.advance(0.1)
    assert len(await stage.take(10)) == 1


async def test_an_answer_received_after_the_lease_still_counts(h: Harness) -> None:
    (row,) = await jobs_to_poll(h)
    stage = h.runtime.assemble(Poller)
    (zombie,) = await stage.take(10)

    async def late(_: httpx.Request) -> httpx.Response:
        h.clock.advance(LEASE)
        await stage.take(10)
        return kling_response(legacy_task(row["vendor_task_id"], "succeed"))

    h.network.answer = late
    await stage.work(zombie)
    assert (await h.job(row["id"]))["state"] == S.SUCCEEDED


async def test_a_query_that_fails_after_its_lease_does_not_reschedule_the_next_claim(
    h: Harness,
) -> None:
    (row,) = await jobs_to_poll(h)
    stage = h.runtime.assemble(Poller)
    (zombie,) = await stage.take(10)
    h.clock.advance(LEASE)
    await stage.take(10)
    before = await h.job(row["id"])
    h.network.answer = lambda _: httpx.Response(500)
    await stage.work(zombie)
    assert await h.job(row["id"]) == before


async def test_queries_given_back_are_due_again(h: Harness) -> None:
    await jobs_to_poll(h, "many", 25)
    stage = h.runtime.assemble(Poller)
    await stage.give_back(await stage.take(10))
    assert sum(len(query.rows) for query in await stage.take(10)) == 25


async def test_room_bounds_the_queries_and_a_busy_account_does_not_starve_another(
    h: Harness,
) -> None:
    await jobs_to_poll(h, "main", 40)
    await at_vendor(h, "many", task="t-x")
    h.clock.advance(60)
    stage, seen = h.runtime.assemble(Poller), set[str]()
    for _ in range(4):
        taken = await stage.take(17)
        assert len(taken) <= 17
        seen |= {query.vendor.account.name for query in taken}
    assert seen == {"main", "many"}


async def test_poller_and_submitter_do_not_take_each_others_jobs(h: Harness) -> None:
    await h.open()
    assert await poll(h, task_not_found()) == 0
    await jobs_to_poll(h)
    await h.run(job.delete().where(job.c.state == S.QUEUED))
    assert list(await h.runtime.assemble(Submitter).take(10)) == []


# -- deadlines


async def test_every_live_job_past_its_deadline_expires_and_is_announced(h: Harness) -> None:
    deadline: dict[str, Any] = {"deadline_at": h.clock.now()}
    queued = await h.open(**deadline)
    running = await at_vendor(h, **deadline)
    done = await at_vendor(h, task="t-2", **deadline)
    await report_state(h, done["id"], S.SUCCEEDED)
    living = await at_vendor(h, task="t-3")
    await h.runtime.assemble(Expiry).run()
    states = {row["id"]: (row["state"], row["resolved_by"]) for row in await h.rows(job)}
    assert states == {
        queued["id"]: (S.EXPIRED, Source.CLOCK),
        running["id"]: (S.EXPIRED, Source.CLOCK),
        done["id"]: (S.SUCCEEDED, Source.PUSH),
        living["id"]: (S.SUBMITTED, None),
    }
    assert (await event_types(h)).count("job.expired") == 2
    # As in the example of the OpenAPI document.
    assert (await h.rows(job, job.c.id == running["id"]))[0]["error"] == examples.DATA[
        "job.expired"
    ]["error"]
    await h.runtime.assemble(Expiry).run()
    assert (await event_types(h)).count("job.expired") == 2


async def test_many_overdue_jobs_expire_in_a_few_commits(h: Harness) -> None:
    await h.open(deadline_at=h.clock.now())
    columns = ", ".join(
        re.sub(r"^(id|external_task_id)$", r"\1 || '-' || n", c.name) for c in job.columns
    )
    names = ", ".join(c.name for c in job.columns)
    numbers = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 700)"
    await h.runtime.store.write(
        lambda tx: (
            tx.exec_driver_sql(f"INSERT INTO job ({names}) {numbers} SELECT {columns} FROM job, c")
            and None
        )
    )
    before = h.runtime.store.commits
    await h.runtime.assemble(Expiry).run()
    assert {row["state"] for row in await h.rows(job)} == {S.EXPIRED}
    assert h.runtime.store.commits - before < 30


async def test_an_empty_success_after_expiry_does_not_make_the_job_due(h: Harness) -> None:
    opened = await at_vendor(h, deadline_at=h.clock.now())
    await h.runtime.assemble(Expiry).run()
    await report_state(h, opened["id"], S.SUCCEEDED, videos=())
    await h.runtime.assemble(Expiry).run()
    assert (await h.job(opened["id"]))["due_at"] is None


async def test_an_outcome_after_expiry_is_announced_as_late(h: Harness) -> None:
    opened = await at_vendor(h, deadline_at=h.clock.now())
    await h.runtime.assemble(Expiry).run()
    await report_state(h, opened["id"], S.SUCCEEDED)
    assert [(body["type"], body.get("late")) for body in (await event_bodies(h))[1:]] == [
        ("job.expired", None), ("job.succeeded", True),
    ]  # fmt: skip


async def test_an_account_without_pushes_degrades_and_its_jobs_are_polled_sooner(
    h: Harness,
) -> None:
    jobs = await jobs_to_poll(h, "many", 4)
    await report_state(h, jobs[3]["id"], S.PROCESSING)
    ended = [row["vendor_task_id"] for row in jobs[:3]]
    await poll(
        h,
        lambda request: kling_response(
            [new_task(task, "succeeded") for task in queried(request) if task in ended]
        ),
    )
    assert (await h.account("many"))["degraded"]
    assert "account.push_degraded" in await event_types(h)
    assert seconds_until_due(h, await h.job(jobs[3]["id"])) <= 15
    await report_state(h, jobs[3]["id"], S.SUCCEEDED)
    assert (await event_types(h))[-1] in ("job.succeeded", "account.push_recovered")
    assert not (await h.account("many"))["degraded"]


async def test_a_job_that_cannot_be_queried_waits_for_its_push_until_the_deadline(
    h: Harness,
) -> None:
    """The answer with the task id was lost, the first push was not: there is no id to query by."""
    (row,) = await jobs_to_poll(h, "dreamto")
    await h.run(sa.update(job).where(job.c.id == row["id"]).values(vendor_task_id=None))
    await poll(h, task_not_found())

    assert h.network.requests == []
    now = await h.job(row["id"])
    assert (now["state"], now["due_at"]) == (S.SUBMITTED, now["deadline_at"])
    assert (await h.account("dreamto"))["polls"] == 0
    (note,) = [
        row for row in await h.rows(trace) if row["detail"].get("outcome") == "cannot_be_asked"
    ]
    assert note["job_id"] == row["id"]


async def test_a_task_id_learned_during_a_query_without_an_id_is_polled_soon(h: Harness) -> None:
    """A late answer to the submission brings the id: the job does not wait for its deadline."""
    (row,) = await jobs_to_poll(h, "dreamto")
    await h.run(sa.update(job).where(job.c.id == row["id"]).values(vendor_task_id=None))
    stage = h.runtime.assemble(Poller)
    (query,) = await stage.take(10)
    await report_state(h, row["id"], S.SUBMITTED, Source.SUBMIT, vendor_task_id="t-9")
    await stage.work(query)
    now = await h.job(row["id"])
    assert now["vendor_task_id"] == "t-9"
    assert seconds_until_due(h, now) <= 60
