"""The submitter: an attempt is recorded before it is sent, and a lost answer is looked up."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from orchestrator.database.postgres import engine as postgres
from orchestrator.database.tables import job, trace
from orchestrator.database.tables.rows import JobRow
from orchestrator.engine.submit import LARGE_LIMIT, LEASE_MARGIN, Submitter
from orchestrator.engine.submit_outcome import AUTH_TRIES
from orchestrator.foundation.clock import SUBMIT_SCHEDULE
from orchestrator.foundation.errors import Blocked
from orchestrator.foundation.states import IN_FLIGHT, JobState, Source
from tests.harness.api_caller import until
from tests.harness.engine import (
    BrokenOff,
    at_vendor,
    drive,
    event_types,
    job_error,
    kling_refusal,
    kling_response,
    legacy_task,
    report_state,
    seconds_until_due,
    subscribe,
    task_not_found,
)
from tests.harness.runtime import START, Harness, Responder, open_harness

S = JobState
#: Seconds of a claim, with the default `answer_timeout`.
LEASE = 60.0 + LEASE_MARGIN
ACCOUNTS: dict[str, dict[str, Any]] = {
    "kling": {"vendor": "kling", "api_key": "k"},
    "dreamto": {"vendor": "dreamto", "api_key": "k", "base_url": "https://dreamto.example"},
    "again": {
        "vendor": "dreamto", "api_key": "k", "base_url": "https://dreamto.example",
        "on_lost_submit": "at_least_once",
    },
    "narrow": {"vendor": "kling", "api_key": "k", "max_in_flight": 3},
    "slow": {"vendor": "kling", "api_key": "k", "answer_timeout": 20, "submit_deadline": 300},
    "hasty": {"vendor": "kling", "api_key": "k", "submit_deadline": 0.05},
}  # fmt: skip
LOST_ANSWER = httpx.ReadTimeout("no answer")
NOT_SENT = httpx.ConnectError("refused")


@pytest.fixture
async def h(tmp_path: Path, database: str) -> AsyncIterator[Harness]:
    async with open_harness(tmp_path, accounts=ACCOUNTS, database_url=database) as opened:
        yield opened


def raising(error: Exception) -> Callable[[httpx.Request], httpx.Response]:
    def answer(_: httpx.Request) -> httpx.Response:
        raise error

    return answer


def kling_accepted(_: httpx.Request) -> httpx.Response:
    return kling_response(legacy_task("t-1", "submitted"))


def dreamto_accepted(_: httpx.Request) -> httpx.Response:
    return httpx.Response(200, json={"id": "t-1", "object": "job", "status": "processing"})


async def submitted(h: Harness, account: str, answer: Any, **values: Any) -> JobRow:
    """Create a job, run the stage once, and return the job's row."""
    opened = await h.open(account, **values)
    h.network.answer = raising(answer) if isinstance(answer, Exception) else answer
    assert await drive(h.runtime.assemble(Submitter)) == 1
    return await h.job(opened["id"])


async def test_a_large_image_arrives_byte_for_byte(h: Harness) -> None:
    image, reference = b"A" * (1 << 20), "base64;sha256=00;length=1048576"
    given = {"prompt": "a", "image_url": reference}
    await h.open("kling", capability="image2video", input=given, images={reference: image})
    h.network.answer = kling_accepted
    assert await drive(h.runtime.assemble(Submitter)) == 1
    [request] = h.network.requests
    body = json.loads(request.content)
    assert (body["image"], body["prompt"]) == (image.decode(), "a")
    assert request.headers["content-length"] == str(len(request.content))


@pytest.mark.parametrize(
    ("given", "code"),
    [
        # Retention deletes the images of a job before the job: a retry between the two has none.
        ({"prompt": "a", "image_url": "base64;sha256=00;length=4"}, "input_missing"),
        # The job was checked when it was created; the configuration has changed since.
        ({"prompt": "a" * 2501, "image_url": "https://i/x.png"}, "input_unsupported"),
    ],
)
async def test_a_job_that_can_no_longer_be_sent_fails_with_our_reason(
    h: Harness, given: dict[str, str], code: str
) -> None:
    opened = await h.open("kling", capability="image2video", input=given)
    await drive(h.runtime.assemble(Submitter))
    assert h.network.requests == []
    row = await h.job(opened["id"])
    assert row["state"] == S.FAILED
    assert (row["error"] or {})["code"] == code


async def test_few_jobs_with_large_images_are_sent_at_once_and_others_are_queued_again(
    h: Harness,
) -> None:
    given = {"prompt": "a", "image_url": "base64;sha256=00;length=4"}
    images = {given["image_url"]: b"/9j/"}
    jobs = [
        await h.open("kling", capability="image2video", input=given, images=images)
        for _ in range(LARGE_LIMIT + 1)
    ]
    go_on = asyncio.Event()

    async def answer(request: httpx.Request) -> httpx.Response:
        task = f"t-{len(h.network.requests)}"
        await go_on.wait()
        return kling_response(legacy_task(task, "submitted"))

    h.network.answer = answer
    submitter = h.runtime.assemble(Submitter)
    work = [asyncio.create_task(submitter.work(claim)) for claim in await submitter.take(64)]
    await until(lambda: len(h.network.requests) == LARGE_LIMIT)
    await until(lambda: sum(task.done() for task in work) == 1)
    go_on.set()
    await asyncio.gather(*work)
    assert len(h.network.requests) == LARGE_LIMIT
    *sent, late = sorted([await h.job(row["id"]) for row in jobs], key=lambda row: -row["version"])
    assert {row["state"] for row in sent} == {S.SUBMITTED}
    assert (late["state"], late["tries"]) == (S.QUEUED, 0)
    h.clock.advance(10)
    await drive(submitter)
    assert (await h.job(late["id"]))["state"] == S.SUBMITTED


async def pause_of(h: Harness, account: str) -> float:
    """Return the seconds for which an account is still paused."""
    until = (await h.account(account))["paused_until"]
    assert until is not None
    return (until - h.clock.now()).total_seconds()


async def outcomes(h: Harness, job_id: str) -> list[str]:
    return [row["detail"]["outcome"] for row in await h.rows(trace, trace.c.job_id == job_id)]


# -- accepted


@pytest.mark.parametrize("how", ["it breaks off", "gzip", "deflate"])
async def test_an_acceptance_that_can_be_read_counts(h: Harness, how: str) -> None:
    """A vendor that compresses unasked, or breaks off behind the JSON, has the job all the same."""
    body = kling_accepted(httpx.Request("POST", "http://vendor/")).content
    encoded = {"gzip": gzip.compress(body), "deflate": zlib.compress(body)}.get(how)
    encoding = {"content-encoding": how} if encoded else {}
    answer = httpx.Response(200, headers=encoding, stream=BrokenOff(encoded or body))
    row = await submitted(h, "kling", lambda _: answer)
    assert (row["state"], row["vendor_task_id"]) == (S.SUBMITTED, "t-1")


async def test_an_accepted_job_has_its_task_id_and_its_first_poll_is_scheduled(h: Harness) -> None:
    row = await submitted(h, "kling", kling_accepted)
    assert (row["state"], row["vendor_task_id"], row["attempt"]) == (S.SUBMITTED, "t-1", 1)
    assert row["submitted_at"] == START
    assert seconds_until_due(h, row) == 60
    assert await outcomes(h, row["id"]) == ["begun", "accepted"]
    assert await event_types(h) == ["job.submitted"]


async def test_a_submission_has_our_external_id_and_a_callback_url_for_this_job_only(
    h: Harness,
) -> None:
    row = await submitted(h, "kling", kling_accepted, external_task_id="order-9")
    (sent,) = h.network.bodies()
    assert sent["external_task_id"] == "order-9"
    account, token = (
        sent["callback_url"].removeprefix("https://hooks.example.com/callbacks/").split("/")
    )
    callback = h.runtime.keys.unseal(account, token, h.clock.now())
    assert (account, callback.job_id, callback.attempt) == ("kling", row["id"], 1)


async def test_a_final_state_in_the_answer_is_applied(h: Harness) -> None:
    row = await submitted(h, "kling", lambda _: kling_response(legacy_task("t-1", "succeed")))
    assert (row["state"], row["resolved_by"]) == (S.SUCCEEDED, Source.SUBMIT)
    assert await event_types(h) == ["job.succeeded"]


async def test_an_answer_with_an_unknown_word_is_an_acceptance(h: Harness) -> None:
    row = await submitted(h, "kling", lambda _: kling_response(legacy_task("t-1", "dreaming")))
    assert (row["state"], row["vendor_status"], row["vendor_task_id"]) == (
        S.SUBMITTED,
        "dreaming",
        "t-1",
    )


async def test_the_attempt_is_durable_before_the_request_is_sent(h: Harness, database: str) -> None:
    seen: list[tuple[str, int, int]] = []
    other_engine = sa.create_engine(
        postgres.url_of(database) if postgres.is_postgres(database) else database
    )

    def read_row(_: httpx.Request) -> httpx.Response:
        with other_engine.connect() as other:
            found = other.execute(sa.select(job.c.state, job.c.attempt, job.c.lease))
            seen.extend((str(state), attempt, lease) for state, attempt, lease in found)
        other_engine.dispose()
        return kling_response(legacy_task("t-1", "submitted"))

    await submitted(h, "kling", read_row)
    assert seen == [("submitting", 1, 1)]


# -- not sent


async def test_a_request_that_was_not_sent_is_retried_with_backoff_and_finally_fails(
    h: Harness,
) -> None:
    row = await submitted(h, "kling", NOT_SENT)
    waits = []
    while row["state"] == S.QUEUED:
        waits.append(seconds_until_due(h, row))
        assert await drive(h.runtime.assemble(Submitter)) == 0, "not before it is due"
        h.clock.advance(waits[-1])
        assert await drive(h.runtime.assemble(Submitter)) == 1
        row = await h.job(row["id"])
    planned = SUBMIT_SCHEDULE[1:]
    assert all(low <= wait <= low * 1.2 for low, wait in zip(planned, waits, strict=True))
    assert (row["state"], job_error(row)["code"], row["submitted_at"]) == (
        S.FAILED,
        "vendor_unavailable",
        None,
    )
    assert (row["attempt"], len(h.network.requests)) == (11, 11)


async def test_a_retried_request_has_the_same_body(h: Harness) -> None:
    row = await submitted(h, "kling", NOT_SENT)
    h.clock.advance(2)
    h.network.answer = kling_accepted
    await drive(h.runtime.assemble(Submitter))
    first, second = h.network.bodies()
    assert {**first, "callback_url": ""} == {**second, "callback_url": ""}
    assert (await h.job(row["id"]))["state"] == S.SUBMITTED


async def test_a_blocked_address_fails_the_job_at_once(h: Harness) -> None:
    row = await submitted(h, "kling", Blocked("10.0.0.1 is not a public address"))
    assert (row["state"], job_error(row)["code"]) == (S.FAILED, "vendor_unavailable")
    assert "not a public address" in job_error(row)["message"]


# -- refused


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (kling_refusal(1201), "vendor_refused"),
        (kling_refusal(1301), "vendor_refused"),
        # No right to this model: the account may have one to others.
        (kling_refusal(1103, 429), "account_exhausted"),
        (httpx.Response(422, json={"detail": "no"}), "vendor_refused"),
    ],
)
async def test_a_definite_refusal_fails_the_job_with_its_error_code(
    h: Harness, answer: httpx.Response, code: str
) -> None:
    row = await submitted(h, "kling", lambda _: answer)
    assert (row["state"], job_error(row)["code"], row["resolved_by"]) == (
        S.FAILED,
        code,
        Source.SUBMIT,
    )
    assert await drive(h.runtime.assemble(Submitter)) == 0


@pytest.mark.parametrize(
    "answer", [kling_refusal(1303, 429), kling_refusal(1302, 429), httpx.Response(429)]
)
async def test_a_rate_limited_answer_pauses_the_account_and_does_not_count_as_a_try(
    h: Harness, answer: httpx.Response
) -> None:
    limited, other = await h.open("kling"), await h.open("dreamto")
    h.network.answer = lambda request: (
        answer if "klingai" in request.url.host else dreamto_accepted(request)
    )
    assert await drive(h.runtime.assemble(Submitter)) == 2
    row = await h.job(limited["id"])
    assert (row["state"], row["tries"]) == (S.QUEUED, 0)
    assert await pause_of(h, "kling") > 0
    assert (await h.job(other["id"]))["state"] == S.PROCESSING, "the other account is not paused"
    assert await drive(h.runtime.assemble(Submitter)) == 0


async def test_the_pause_of_an_account_grows_and_ends_with_the_first_success(h: Harness) -> None:
    row = await submitted(h, "kling", lambda _: kling_refusal(1303, 429))
    pauses = []
    for _ in range(8):
        pauses.append(await pause_of(h, "kling"))
        assert await drive(h.runtime.assemble(Submitter)) == 0
        h.clock.advance(pauses[-1])
        assert await drive(h.runtime.assemble(Submitter)) == 1
    for planned, pause in zip((1, 2, 4, 8, 16, 32, 60, 60), pauses, strict=True):
        assert planned <= pause <= planned * 1.2
    h.clock.advance(100)
    h.network.answer = kling_accepted
    await drive(h.runtime.assemble(Submitter))
    assert (await h.job(row["id"]))["state"] == S.SUBMITTED
    assert (await h.account("kling"))["crowded"] == 0


async def test_retry_after_sets_the_pause(h: Harness) -> None:
    await submitted(h, "kling", lambda _: kling_refusal(1303, 429, retry_after="30"))
    assert 30 <= await pause_of(h, "kling") <= 36


async def test_an_auth_token_that_is_not_yet_valid_is_signed_again_a_few_times(h: Harness) -> None:
    row = await submitted(h, "kling", lambda _: kling_refusal(1003, 401))
    while (await h.account("kling"))["held_since"] is None:
        h.clock.advance(seconds_until_due(h, row))
        await drive(h.runtime.assemble(Submitter))
        row = await h.job(row["id"])
    assert (row["state"], row["attempt"]) == (S.QUEUED, AUTH_TRIES)


# -- a lost answer, with a lookup


@pytest.mark.parametrize(
    "answer",
    [
        LOST_ANSWER,
        httpx.Response(500),
        httpx.Response(200, text="<html>"),
        kling_refusal(5000, 400),
        httpx.Response(200, stream=BrokenOff(b'{"code": 0, "data": {"task_id": "t-')),
        httpx.Response(400, stream=BrokenOff(b"{}")),
    ],
)
async def test_a_doubtful_answer_is_looked_up_and_the_task_found_is_adopted(
    h: Harness, answer: Any
) -> None:
    row = await submitted(h, "kling", answer if isinstance(answer, Exception) else lambda _: answer)
    assert (row["state"], seconds_until_due(h, row)) == (S.SUBMITTING, 10)
    h.clock.advance(10)
    h.network.answer = lambda _: kling_response(legacy_task("t-9", "processing"))
    await drive(h.runtime.assemble(Submitter))
    found = await h.job(row["id"])
    assert (found["state"], found["vendor_task_id"], found["attempt"]) == (S.PROCESSING, "t-9", 1)
    assert h.network.requests[-1].url.path.endswith("/" + row["external_task_id"])
    assert [request.method for request in h.network.requests] == ["POST", "GET"]


async def test_a_lost_answer_is_looked_up_twice_before_it_is_sent_again(h: Harness) -> None:
    """Each lookup waits for the visibility lag."""
    row = await submitted(h, "kling", LOST_ANSWER)
    h.network.answer = lambda _: task_not_found()
    for lookups in (1, 2):
        assert (await h.job(row["id"]))["misses"] == lookups - 1
        h.clock.advance(9.9)
        assert await drive(h.runtime.assemble(Submitter)) == 0
        h.clock.advance(0.1)
        assert await drive(h.runtime.assemble(Submitter)) == 1
    assert (await h.job(row["id"]))["state"] == S.QUEUED
    h.network.answer = kling_accepted
    await drive(h.runtime.assemble(Submitter))
    again = await h.job(row["id"])
    assert (again["state"], again["attempt"], again["vendor_task_id"]) == (S.SUBMITTED, 2, "t-1")
    assert [request.method for request in h.network.requests] == ["POST", "GET", "GET", "POST"]
    first, second = h.network.bodies()
    assert first["external_task_id"] == second["external_task_id"]


async def test_a_lookup_that_fails_counts_as_no_answer(h: Harness) -> None:
    row = await submitted(h, "kling", LOST_ANSWER)
    for answer in (
        raising(LOST_ANSWER),
        raising(NOT_SENT),
        lambda _: httpx.Response(503),
        lambda _: kling_refusal(1002, 401),
    ) * 2:
        h.network.answer = answer
        h.clock.advance(12)
        assert await drive(h.runtime.assemble(Submitter)) == 1
    assert ((await h.job(row["id"]))["state"], (await h.job(row["id"]))["misses"]) == (
        S.SUBMITTING,
        0,
    )


async def test_a_lookup_that_answers_with_tasks_of_others_adopts_only_ours(h: Harness) -> None:
    """A gateway may ignore the filter and list all tasks of the account."""
    row = await submitted(h, "kling", LOST_ANSWER)
    others = [
        {**legacy_task(task, "succeed"), "task_info": {"external_task_id": task}}
        for task in ("o-1", "o-2")
    ]
    for answer in (kling_response(others), kling_response(others[:1]), kling_response(others[0])):
        h.network.answer = partial(lambda answer, _: answer, answer)
        h.clock.advance(10)
        await drive(h.runtime.assemble(Submitter))
        found = await h.job(row["id"])
        assert (found["state"], found["misses"]) == (S.SUBMITTING, 0)
    ours = legacy_task("t-9", "processing")
    ours["task_info"] = {"external_task_id": row["external_task_id"]}
    h.network.answer = lambda _: kling_response([*others, ours])
    h.clock.advance(10)
    await drive(h.runtime.assemble(Submitter))
    assert (await h.job(row["id"]))["vendor_task_id"] == "t-9"
    assert [request.method for request in h.network.requests].count("POST") == 1


async def test_a_retried_request_that_the_vendor_already_has_is_looked_up(h: Harness) -> None:
    row = await submitted(h, "kling", NOT_SENT)
    h.clock.advance(2)
    h.network.answer = lambda _: kling_refusal(1201, message="external_task_id already exists")
    await drive(h.runtime.assemble(Submitter))
    assert (await h.job(row["id"]))["state"] == S.SUBMITTING
    h.clock.advance(10)
    h.network.answer = lambda _: kling_response(legacy_task("t-9", "submitted"))
    await drive(h.runtime.assemble(Submitter))
    assert (await h.job(row["id"]))["vendor_task_id"] == "t-9"


async def test_a_crash_after_the_claim_is_looked_up(h: Harness) -> None:
    opened = await h.open("kling")
    assert len(await h.runtime.assemble(Submitter).take(10)) == 1
    h.clock.advance(LEASE - 0.1)
    assert await drive(h.runtime.assemble(Submitter)) == 0
    h.clock.advance(0.1)
    h.network.answer = lambda _: kling_response(legacy_task("t-9", "submitted"))
    assert await drive(h.runtime.assemble(Submitter)) == 1
    row = await h.job(opened["id"])
    assert (row["state"], row["vendor_task_id"], row["attempt"], row["lease"]) == (
        S.SUBMITTED,
        "t-9",
        1,
        2,
    )
    assert [request.method for request in h.network.requests] == ["GET"]


# -- a lost answer, without a lookup


async def test_a_lost_answer_without_a_lookup_waits_for_its_push_and_then_fails(h: Harness) -> None:
    row = await submitted(h, "dreamto", LOST_ANSWER)
    assert (row["state"], seconds_until_due(h, row)) == (S.SUBMITTING, 600)
    h.clock.advance(600)
    await drive(h.runtime.assemble(Submitter))
    ended = await h.job(row["id"])
    assert (ended["state"], job_error(ended)["code"]) == (S.FAILED, "submit_unknown")
    assert len(h.network.requests) == 1


async def test_a_push_settles_a_lost_answer(h: Harness) -> None:
    row = await submitted(h, "dreamto", LOST_ANSWER)
    await report_state(h, row["id"], S.PROCESSING)
    h.clock.advance(600)
    assert await drive(h.runtime.assemble(Submitter)) == 0
    assert (await h.job(row["id"]))["state"] == S.PROCESSING


async def test_at_least_once_sends_a_lost_submission_again(h: Harness) -> None:
    row = await submitted(h, "again", LOST_ANSWER)
    h.clock.advance(600)
    await drive(h.runtime.assemble(Submitter))
    h.network.answer = dreamto_accepted
    await drive(h.runtime.assemble(Submitter))
    again = await h.job(row["id"])
    assert (again["state"], again["attempt"]) == (S.PROCESSING, 2)


async def test_a_crash_without_a_lookup_waits_as_long_as_a_lost_answer(h: Harness) -> None:
    opened = await h.open("dreamto")
    await h.runtime.assemble(Submitter).take(10)
    h.clock.advance(LEASE)
    await drive(h.runtime.assemble(Submitter))
    waiting = await h.job(opened["id"])
    assert (waiting["state"], seconds_until_due(h, waiting)) == (S.SUBMITTING, 600 - LEASE)
    h.clock.advance(600 - LEASE)
    await drive(h.runtime.assemble(Submitter))
    assert job_error(await h.job(opened["id"]))["code"] == "submit_unknown"
    assert h.network.requests == []


async def test_a_refresh_does_not_shorten_the_wait_for_a_push(h: Harness) -> None:
    row = await submitted(h, "dreamto", LOST_ANSWER)
    await h.runtime.store.write(h.runtime.ledger.poll_now, [row["id"]], h.clock.now())
    assert await drive(h.runtime.assemble(Submitter)) == 0


# -- races


@pytest.mark.parametrize("state", [S.PROCESSING, S.SUCCEEDED, S.FAILED])
async def test_a_push_before_the_answer_stands_and_the_answer_only_adds_the_task_id(
    h: Harness, state: JobState
) -> None:
    opened, stage = await h.open("dreamto"), h.runtime.assemble(Submitter)
    (row,) = await stage.take(10)
    pushed = await report_state(h, opened["id"], state)
    h.network.answer = dreamto_accepted
    await stage.work(row)
    now = await h.job(opened["id"])
    assert (now["state"], now["vendor_task_id"]) == (state, "t-1")
    assert (now["resolved_by"], now["finished_at"]) == (
        pushed["resolved_by"],
        pushed["finished_at"],
    )
    assert await event_types(h) == [f"job.{state}"]


def answer_after_lease(h: Harness, stage: Submitter, answer: Any, claimed: list[Any]) -> Responder:
    """Answer a submission after its lease, when `stage` has claimed the job again."""

    async def late(_: httpx.Request) -> httpx.Response:
        h.clock.advance(LEASE)
        claimed.extend(await stage.take(10))
        if isinstance(answer, Exception):
            raise answer
        found: httpx.Response = answer
        return found

    return late


@pytest.mark.parametrize(
    "answer", [kling_refusal(1201), kling_refusal(1303, 429), NOT_SENT, LOST_ANSWER]
)
async def test_a_refusal_after_the_lease_changes_nothing(h: Harness, answer: Any) -> None:
    opened, stage = await h.open("kling"), h.runtime.assemble(Submitter)
    claimed: list[Any] = []
    (zombie,) = await stage.take(10)
    h.network.answer = answer_after_lease(h, stage, answer, claimed)
    await stage.work(zombie)
    now = await h.job(opened["id"])
    assert (now["state"], now["lease"]) == (S.SUBMITTING, zombie.row["lease"] + 1)
    h.network.answer = lambda _: kling_response(legacy_task("t-9", "submitted"))
    await stage.work(claimed[0])
    assert (await h.job(opened["id"]))["vendor_task_id"] == "t-9"


async def test_an_acceptance_after_the_lease_still_counts(h: Harness) -> None:
    opened, stage = await h.open("kling"), h.runtime.assemble(Submitter)
    (zombie,) = await stage.take(10)
    h.network.answer = answer_after_lease(
        h, stage, kling_response(legacy_task("t-1", "submitted")), []
    )
    await stage.work(zombie)
    row = await h.job(opened["id"])
    assert (row["state"], row["vendor_task_id"]) == (S.SUBMITTED, "t-1")


async def test_a_claim_too_old_to_finish_sends_nothing_and_is_given_back(h: Harness) -> None:
    """Paused between claim and first byte: another process may have submitted the job already."""
    opened, stage = await h.open("kling"), h.runtime.assemble(Submitter)
    (zombie,) = await stage.take(10)
    h.clock.advance(LEASE_MARGIN + 1)
    await stage.work(zombie)
    assert h.network.requests == []
    row = await h.job(opened["id"])
    assert (row["state"], row["due_at"], row["tries"]) == (S.QUEUED, h.clock.now(), 0)

    (zombie,) = await stage.take(10)
    h.clock.advance(LEASE)
    (current,) = await stage.take(10)
    await stage.work(zombie)
    assert h.network.requests == []
    assert (await h.job(opened["id"]))["lease"] == current.row["lease"]


async def test_a_claim_lasts_as_long_as_its_account_waits_for_an_answer(h: Harness) -> None:
    for account in ("kling", "slow", "kling"):
        await h.open(account)
    claims = await h.runtime.assemble(Submitter).take(10)
    waits = sorted((row["account"], seconds_until_due(h, row)) for row, *_ in claims)
    assert waits == [("kling", LEASE), ("kling", LEASE), ("slow", 300 + LEASE_MARGIN)]


async def test_a_submission_is_cut_off_at_its_deadline(h: Harness) -> None:
    opened = await h.open("hasty")

    async def silence(_: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        return httpx.Response(200)

    h.network.answer = silence
    assert await drive(h.runtime.assemble(Submitter)) == 1
    assert (await h.job(opened["id"]))["state"] == S.SUBMITTING


async def test_a_job_canceled_during_its_submission_stays_canceled(h: Harness) -> None:
    opened, stage = await h.open("kling"), h.runtime.assemble(Submitter)
    (row,) = await stage.take(10)
    await report_state(h, opened["id"], S.CANCELED, Source.OPERATOR)
    h.network.answer = raising(NOT_SENT)
    await stage.work(row)
    now = await h.job(opened["id"])
    assert (now["state"], now["due_at"]) == (S.CANCELED, None)


# -- limits and claims


async def test_an_account_never_has_more_jobs_at_the_vendor_than_its_limit(h: Harness) -> None:
    jobs = [await h.open("narrow") for _ in range(8)]
    stages = [h.runtime.assemble(Submitter), h.runtime.assemble(Submitter)]
    h.network.answer = accepted_uniquely()
    for _ in range(4):
        taken = await asyncio.gather(*(stage.take(64) for stage in stages))
        await asyncio.gather(
            *(stage.work(row) for stage, rows in zip(stages, taken, strict=True) for row in rows)
        )
        busy = await h.rows(job, job.c.state.in_(IN_FLIGHT))
        assert len(busy) == 3
        await report_state(h, busy[0]["id"], S.SUCCEEDED)
    assert len([row for row in jobs if (await h.job(row["id"]))["state"] == S.SUCCEEDED]) == 4


def accepted_uniquely() -> Callable[[httpx.Request], httpx.Response]:
    numbers = iter(range(1000))
    return lambda _: kling_response(legacy_task(f"t-{next(numbers)}", "submitted"))


async def test_a_lost_submission_needs_no_second_slot(h: Harness) -> None:
    for _ in range(3):
        await h.open("narrow")
    await h.runtime.assemble(Submitter).take(10)
    h.clock.advance(LEASE)
    assert len(await h.runtime.assemble(Submitter).take(10)) == 3


async def test_claims_given_back_have_the_state_they_had(h: Harness) -> None:
    fresh, lost = await h.open("kling"), await h.open("dreamto")
    stage = h.runtime.assemble(Submitter)
    await stage.take(10)
    await h.run(
        job.update().where(job.c.id == fresh["id"]).values(state=S.QUEUED, due_at=h.clock.now())
    )
    await h.run(job.update().where(job.c.id == lost["id"]).values(due_at=h.clock.now()))
    await stage.give_back(await stage.take(10))
    assert ((await h.job(fresh["id"]))["state"], (await h.job(lost["id"]))["state"]) == (
        S.QUEUED,
        S.SUBMITTING,
    )
    assert len(await stage.take(10)) == 2


async def test_jobs_of_an_account_that_is_no_longer_configured_are_not_claimed(h: Harness) -> None:
    opened = await h.open("kling")
    await h.run(job.update().values(account="gone"))
    assert await drive(h.runtime.assemble(Submitter)) == 0
    assert (await h.job(opened["id"]))["state"] == S.QUEUED


async def test_failed_attempts_to_submit_are_not_announced(h: Harness) -> None:
    await subscribe(h)
    await submitted(h, "kling", NOT_SENT)
    await submitted(h, "dreamto", LOST_ANSWER)
    await at_vendor(h, "again")
    assert await event_types(h) == ["job.submitted"]
