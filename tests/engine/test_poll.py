"""Asking: after silence, in batches, by id, ever more rarely, and never for ever."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from orchestrator.api.openapi import examples
from orchestrator.database.tables import account_state, event, job, trace
from orchestrator.engine.expiry import Expiry
from orchestrator.engine.poll import LEASE, Poller
from orchestrator.engine.submit import Submitter
from orchestrator.foundation.states import JobState, Source
from tests.harness.engine import (
    at_vendor,
    drive,
    event_bodies,
    event_types,
    kling_refusal,
    kling_response,
    legacy_task,
    new_task,
    report_state,
    seconds_until_due,
    task_not_found,
)
from tests.harness.runtime import Harness, open_harness

S = JobState
ACCOUNTS: dict[str, dict[str, Any]] = {
    "main": {"vendor": "agentsflare", "api_key": "k"},
    "many": {"vendor": "cloudsway", "api_key": "k", "options": {"endpoint_path": "e"}},
    "forking": {"vendor": "cubicspaces", "api_key": "k"},
    "dreamto": {"vendor": "dreamto", "api_key": "k", "base_url": "https://dreamto.example"},
}


@pytest.fixture
async def h(tmp_path: Path, database: str) -> AsyncIterator[Harness]:
    async with open_harness(tmp_path, accounts=ACCOUNTS, database_url=database) as opened:
        yield opened


async def ask(h: Harness, answer: Any) -> int:
    """Let the stage ask everything it finds due, and return how many questions that took."""
    h.network.answer = answer if callable(answer) else lambda _: answer
    return await drive(h.runtime.assemble(Poller))


async def silent(h: Harness, account: str = "main", count: int = 1) -> list[dict[str, Any]]:
    """Return jobs of an account about which silence has just become suspicious."""
    jobs = [await at_vendor(h, account, task=f"t-{account}-{n}") for n in range(count)]
    h.clock.advance(60)
    return jobs


def asked(request: httpx.Request) -> list[str]:
    return request.url.params["task_ids"].split(",")


async def account(h: Harness, name: str = "main") -> dict[str, Any]:
    (row,) = await h.rows(account_state, account_state.c.account == name)
    return row


# -- when and how


async def test_nobody_is_asked_before_silence_is_suspicious(h: Harness) -> None:
    await at_vendor(h)
    h.clock.advance(59.9)
    assert await ask(h, task_not_found()) == 0
    h.clock.advance(0.1)
    assert await ask(h, task_not_found()) == 1


async def test_one_question_asks_about_twenty_where_the_dialect_can(h: Harness) -> None:
    jobs = await silent(h, "many", 45)
    assert (
        await ask(
            h,
            lambda request: kling_response(
                [new_task(task, "succeeded") for task in asked(request)]
            ),
        )
        == 3
    )
    assert sorted(len(asked(request)) for request in h.network.requests) == [5, 20, 20]
    assert {(await h.job(row["id"]))["state"] for row in jobs} == {S.SUCCEEDED}


async def test_where_it_cannot_each_job_is_asked_about_alone(h: Harness) -> None:
    await silent(h, "main", 3)
    assert await ask(h, task_not_found()) == 3
    assert sorted(request.url.path.rpartition("/")[2] for request in h.network.requests) == [
        "t-main-0", "t-main-1", "t-main-2",
    ]  # fmt: skip


async def test_reports_are_matched_by_id_in_whatever_order_they_come(h: Harness) -> None:
    jobs = await silent(h, "many", 5)
    state = {
        row["vendor_task_id"]: "failed" if n % 2 else "succeeded" for n, row in enumerate(jobs)
    }
    strangers = [new_task("t-stranger", "failed"), new_task("t-other", "succeeded")]
    await ask(
        h,
        lambda request: kling_response(
            strangers + [new_task(task, state[task]) for task in reversed(asked(request))]
        ),
    )
    assert [(await h.job(row["id"]))["state"] for row in jobs] == [S.SUCCEEDED, S.FAILED] * 2 + [
        S.SUCCEEDED
    ]


async def test_a_batch_that_leaves_one_out_says_nothing_about_the_others(h: Harness) -> None:
    first, second = await silent(h, "many", 2)
    await ask(h, lambda _: kling_response([new_task(first["vendor_task_id"], "processing")]))
    assert ((await h.job(first["id"]))["state"], (await h.job(first["id"]))["misses"]) == (
        S.PROCESSING,
        0,
    )
    assert ((await h.job(second["id"]))["state"], (await h.job(second["id"]))["misses"]) == (
        S.SUBMITTED,
        1,
    )


async def test_a_stranger_in_the_place_of_one_of_two_is_not_believed(h: Harness) -> None:
    jobs = await silent(h, "many", 2)
    await ask(h, lambda _: kling_response([new_task("t-x", "failed"), new_task("t-y", "failed")]))
    assert [(await h.job(row["id"]))["state"] for row in jobs] == [S.SUBMITTED, S.SUBMITTED]


async def test_an_answer_found_by_asking_says_so_and_counts_the_missed_push(h: Harness) -> None:
    (row,) = await silent(h)
    await ask(h, kling_response(legacy_task(row["vendor_task_id"], "succeed")))
    done = await h.job(row["id"])
    assert (done["state"], done["resolved_by"]) == (S.SUCCEEDED, Source.POLL)
    assert ((await account(h))["pushes_missed"], (await account(h))["polls"]) == (1, 1)
    (told,) = await h.rows(event, event.c.type == "job.succeeded")
    assert told["source"] == Source.POLL


async def test_questions_grow_rarer_up_to_the_accounts_limit(h: Harness) -> None:
    (row,) = await silent(h)
    waits = []
    for _ in range(8):
        await ask(h, kling_response(legacy_task(row["vendor_task_id"], "processing")))
        waits.append(seconds_until_due(h, await h.job(row["id"])))
        h.clock.advance(waits[-1])
    assert waits == pytest.approx(
        [15, 22.5, 33.75, 50.625, 75.9375, 113.90625, 120, 120], abs=0.001
    )


async def test_a_push_gives_the_vendor_new_credit(h: Harness) -> None:
    (row,) = await silent(h)
    await ask(h, kling_response(legacy_task(row["vendor_task_id"], "processing")))
    pushed = await report_state(h, row["id"], S.PROCESSING, progress=50)
    assert (seconds_until_due(h, pushed), pushed["asks"]) == (60, 0)


# -- no answer, and no such task


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
async def test_a_question_without_a_usable_answer_is_asked_again_later(
    h: Harness, answer: httpx.Response, least: float
) -> None:
    (row,) = await silent(h)
    await ask(h, answer)
    now = await h.job(row["id"])
    assert (now["state"], now["vendor_task_id"]) == (S.SUBMITTED, row["vendor_task_id"])
    assert least <= seconds_until_due(h, now) <= least * 1.1
    assert now["version"] == row["version"]


@pytest.mark.parametrize("error", [httpx.ConnectError("refused"), httpx.ReadTimeout("silence")])
async def test_a_vendor_that_is_away_is_asked_again_later(h: Harness, error: Exception) -> None:
    (row,) = await silent(h)

    def away(_: httpx.Request) -> httpx.Response:
        raise error

    await ask(h, away)
    assert seconds_until_due(h, await h.job(row["id"])) >= 15
    (note,) = await h.rows(trace, trace.c.kind == "poll")
    assert note["detail"]["outcome"] in ("not_sent", "cut_off")


async def test_a_task_nobody_knows_is_lost_only_after_its_time(h: Harness) -> None:
    (row,) = await silent(h)
    turned = 60.0
    while (await h.job(row["id"]))["state"] == S.SUBMITTED:
        assert await ask(h, task_not_found()) == 1
        now = await h.job(row["id"])
        if now["due_at"]:
            turned += seconds_until_due(h, now)
            h.clock.advance(seconds_until_due(h, now))
    ended = await h.job(row["id"])
    assert (ended["state"], ended["resolved_by"]) == (S.FAILED, Source.POLL)
    assert "no such task" in ended["error"]["message"]
    assert 600 <= turned <= 600 + 132


async def test_two_negatives_are_the_least_even_long_after(h: Harness) -> None:
    (row,) = await silent(h)
    h.clock.advance(9999)
    await ask(h, task_not_found())
    assert (await h.job(row["id"]))["misses"] == 1
    await report_state(h, row["id"], S.PROCESSING, progress=1)
    assert (await h.job(row["id"]))["misses"] == 0, (
        "any word of the vendor's starts the count again"
    )


# -- what the answers come to


async def test_a_success_without_output_is_asked_about_until_its_grace_is_over(h: Harness) -> None:
    (row,) = await silent(h)
    empty = kling_response(legacy_task(row["vendor_task_id"], "succeed", task_result={}))
    for _ in range(20):
        await ask(h, empty)
        now = await h.job(row["id"])
        if now["state"] == S.FAILED:
            break
        h.clock.advance(seconds_until_due(h, now))
    assert now["error"]["code"] == "output_missing"
    grace = (now["finished_at"] - now["outputless_since"]).total_seconds()
    assert 300 <= grace <= 300 + 120


async def test_one_that_cannot_even_be_asked_about_ends_in_time_too(h: Harness) -> None:
    (row,) = await silent(h)
    await report_state(h, row["id"], S.SUCCEEDED, videos=())
    h.clock.advance(300)
    await ask(h, httpx.Response(500))
    now = await h.job(row["id"])
    assert (now["state"], now["error"]["code"], now["resolved_by"]) == (
        S.FAILED,
        "output_missing",
        Source.CLOCK,
    )


async def test_an_output_that_shows_up_while_asking_is_a_success(h: Harness) -> None:
    (row,) = await silent(h)
    await report_state(h, row["id"], S.SUCCEEDED, videos=())
    await ask(h, kling_response(legacy_task(row["vendor_task_id"], "succeed")))
    assert (await h.job(row["id"]))["state"] == S.SUCCEEDED


@pytest.mark.parametrize(("word", "state"), [("completed", S.SUCCEEDED), ("failed", S.FAILED)])
async def test_a_doubted_failure_is_settled_by_asking_now(
    h: Harness, word: str, state: JobState
) -> None:
    (row,) = await silent(h, "forking")
    await report_state(h, row["id"], S.PROCESSING)
    assert (await report_state(h, row["id"], S.FAILED))["state"] == S.PROCESSING
    task = {
        "id": row["vendor_task_id"],
        "status": word,
        "metadata": {"url": "https://cdn.example.com/v.mp4"},
    }
    assert await ask(h, httpx.Response(200, json=task)) == 1
    assert (await h.job(row["id"]))["state"] == state


async def test_a_job_whose_id_was_never_learned_is_left_to_its_push(h: Harness) -> None:
    opened = await h.open("dreamto")
    await report_state(h, opened["id"], S.PROCESSING)
    h.clock.advance(60)
    await ask(h, httpx.Response(200))
    assert h.network.requests == []
    assert seconds_until_due(h, await h.job(opened["id"])) >= 15


async def test_a_job_whose_id_was_never_learned_is_asked_by_ours_where_that_works(
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

    assert await ask(h, answer) == 2
    rows = [await h.job(row["id"]) for row in (known, opened)]
    assert [(row["state"], row["vendor_task_id"]) for row in rows] == [
        (S.SUCCEEDED, "t-1"),
        (S.SUCCEEDED, "t-2"),
    ]


# -- claims


async def test_a_question_under_way_is_not_asked_twice_and_a_lost_one_is(h: Harness) -> None:
    await silent(h)
    stage = h.runtime.assemble(Poller)
    assert len(await stage.take(10)) == 1
    h.clock.advance(LEASE - 0.1)
    assert list(await stage.take(10)) == []
    h.clock.advance(0.1)
    assert len(await stage.take(10)) == 1


async def test_an_answer_that_comes_after_another_claim_is_still_true(h: Harness) -> None:
    (row,) = await silent(h)
    stage = h.runtime.assemble(Poller)
    (zombie,) = await stage.take(10)
    h.clock.advance(LEASE)
    await stage.take(10)
    h.network.answer = lambda _: kling_response(legacy_task(row["vendor_task_id"], "succeed"))
    await stage.work(zombie)
    assert (await h.job(row["id"]))["state"] == S.SUCCEEDED


async def test_a_late_failure_to_ask_does_not_move_another_claims_date(h: Harness) -> None:
    (row,) = await silent(h)
    stage = h.runtime.assemble(Poller)
    (zombie,) = await stage.take(10)
    h.clock.advance(LEASE)
    await stage.take(10)
    before = await h.job(row["id"])
    h.network.answer = lambda _: httpx.Response(500)
    await stage.work(zombie)
    assert await h.job(row["id"]) == before


async def test_questions_that_were_not_asked_are_due_again(h: Harness) -> None:
    await silent(h, "many", 25)
    stage = h.runtime.assemble(Poller)
    await stage.give_back(await stage.take(10))
    assert sum(len(question.rows) for question in await stage.take(10)) == 25


async def test_room_bounds_the_questions_and_no_lane_waits_for_a_hot_one(h: Harness) -> None:
    await silent(h, "main", 40)
    await at_vendor(h, "many", task="t-x")
    h.clock.advance(60)
    stage, seen = h.runtime.assemble(Poller), set[str]()
    for _ in range(4):
        taken = await stage.take(17)
        assert len(taken) <= 17
        seen |= {question.vendor.account.name for question in taken}
    assert seen == {"main", "many"}


async def test_stages_do_not_take_each_others_jobs(h: Harness) -> None:
    await h.open()
    assert await ask(h, task_not_found()) == 0
    await silent(h)
    await h.run(job.delete().where(job.c.state == S.QUEUED))
    assert list(await h.runtime.assemble(Submitter).take(10)) == []


# -- deadlines


async def test_every_live_job_past_its_deadline_expires_and_says_so(h: Harness) -> None:
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
    # As the OpenAPI document shows it: the state is all the reason there is.
    assert (await h.rows(job, job.c.id == running["id"]))[0]["error"] == examples.DATA[
        "job.expired"
    ]["error"]
    await h.runtime.assemble(Expiry).run()
    assert (await event_types(h)).count("job.expired") == 2


async def test_more_deadlines_than_one_look_takes_all_pass_in_a_few_commits(h: Harness) -> None:
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


async def test_an_expired_job_whose_vendor_then_pushes_an_empty_success_does_not_keep_the_sweep_busy(
    h: Harness,
) -> None:
    opened = await at_vendor(h, deadline_at=h.clock.now())
    await h.runtime.assemble(Expiry).run()
    await report_state(h, opened["id"], S.SUCCEEDED, videos=())
    await h.runtime.assemble(Expiry).run()
    assert (await h.job(opened["id"]))["due_at"] is None


async def test_an_expired_jobs_late_verdict_is_told_as_late(h: Harness) -> None:
    opened = await at_vendor(h, deadline_at=h.clock.now())
    await h.runtime.assemble(Expiry).run()
    await report_state(h, opened["id"], S.SUCCEEDED)
    assert [(one["type"], one.get("late")) for one in (await event_bodies(h))[1:]] == [
        ("job.expired", None), ("job.succeeded", True),
    ]  # fmt: skip


async def test_pushes_that_stop_are_noticed_and_questions_come_sooner(h: Harness) -> None:
    jobs = await silent(h, "many", 4)
    await report_state(h, jobs[3]["id"], S.PROCESSING)
    gone = [row["vendor_task_id"] for row in jobs[:3]]
    await ask(
        h,
        lambda request: kling_response(
            [new_task(task, "succeeded") for task in asked(request) if task in gone]
        ),
    )
    assert (await account(h, "many"))["degraded"]
    assert "account.push_degraded" in await event_types(h)
    assert seconds_until_due(h, await h.job(jobs[3]["id"])) <= 15
    await report_state(h, jobs[3]["id"], S.SUCCEEDED)
    assert (await event_types(h))[-1] in ("job.succeeded", "account.push_recovered")
    assert not (await account(h, "many"))["degraded"]


async def test_a_job_that_cannot_be_asked_about_waits_for_its_push_until_the_deadline(
    h: Harness,
) -> None:
    """The answer with the task's id was lost, a first push was not: there is nothing to ask by."""
    (row,) = await silent(h, "dreamto")
    await h.run(sa.update(job).where(job.c.id == row["id"]).values(vendor_task_id=None))
    await ask(h, task_not_found())

    assert h.network.requests == []
    now = await h.job(row["id"])
    assert (now["state"], now["due_at"]) == (S.SUBMITTED, now["deadline_at"])
    assert (await account(h, "dreamto"))["polls"] == 0
    (note,) = [
        row for row in await h.rows(trace) if row["detail"].get("outcome") == "cannot_be_asked"
    ]
    assert note["job_id"] == row["id"]


async def test_a_task_id_that_comes_while_there_is_nothing_to_ask_by_is_asked_by(
    h: Harness,
) -> None:
    """The answer to the submission may be recorded late: then nobody waits until the deadline any more."""
    (row,) = await silent(h, "dreamto")
    await h.run(sa.update(job).where(job.c.id == row["id"]).values(vendor_task_id=None))
    stage = h.runtime.assemble(Poller)
    (question,) = await stage.take(10)
    await report_state(h, row["id"], S.SUBMITTED, Source.SUBMIT, vendor_task_id="t-9")
    await stage.work(question)
    now = await h.job(row["id"])
    assert now["vendor_task_id"] == "t-9"
    assert seconds_until_due(h, now) <= 60
