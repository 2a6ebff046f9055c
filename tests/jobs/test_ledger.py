"""The ledger: in any order of reports from any source, a job ends once and is announced once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.database.store import Tx
from orchestrator.database.tables import delivery, event, job, metadata, trace
from orchestrator.events.destinations import Message, Target
from orchestrator.events.destinations.webhook import Webhook
from orchestrator.foundation.clock import after
from orchestrator.foundation.errors import Conflict, Problem
from orchestrator.foundation.states import FINAL, RANK, JobState, Source
from orchestrator.jobs.capacity import ensure_accounts
from orchestrator.jobs.creation import Accepted, create_jobs
from orchestrator.jobs.transition import ReportEvent, ReportOutcome
from orchestrator.vendors.report import Output, Report
from tests.harness.engine import (
    VIDEO,
    apply_report,
    at_vendor,
    event_bodies,
    event_types,
    report_result,
    report_state,
    subscribe,
)
from tests.harness.runtime import START, Harness, open_harness

S = JobState


async def create(h: Harness, **values: Any) -> Accepted | Problem:
    """Try to create a job, as a caller with an idempotency key does."""
    now, job_id = h.clock.now(), h.runtime.ids("job")
    draft = {
        "id": job_id, "account": "main", "vendor": "agentsflare", "model": "m",
        "capability": "text2video", "input": {"prompt": "a cat"}, "external_task_id": job_id,
        "metadata": {}, "api_key": "key", "created_at": now, "due_at": now,
        "deadline_at": after(now, 86400),
    }  # fmt: skip
    return (await h.runtime.store.write(create_jobs, [draft | values]))[0]


# -- creation


async def test_the_same_idempotency_key_and_body_returns_the_same_job(h: Harness) -> None:
    first = await create(h, idempotency_key="k", fingerprint="f")
    again = await create(h, idempotency_key="k", fingerprint="f")
    assert isinstance(first, Accepted)
    assert isinstance(again, Accepted)
    assert again.replayed
    assert again.job["id"] == first.job["id"]
    assert len(await h.rows(job)) == 1


async def test_an_idempotency_key_with_another_body_is_refused_with_the_job_id(h: Harness) -> None:
    first = await create(h, idempotency_key="k", fingerprint="f")
    other = await create(h, idempotency_key="k", fingerprint="g")
    assert isinstance(first, Accepted)
    assert isinstance(other, Problem)
    assert (other.status, other.members["job_id"]) == (422, first.job["id"])


async def test_idempotency_keys_of_different_callers_do_not_collide(h: Harness) -> None:
    await create(h, idempotency_key="k", fingerprint="f", api_key="one")
    other = await create(h, idempotency_key="k", fingerprint="g", api_key="two")
    assert isinstance(other, Accepted)


async def test_an_external_id_is_unique_within_an_account(h: Harness) -> None:
    first = await create(h, external_task_id="order-1")
    other = await create(h, external_task_id="order-1")
    assert isinstance(first, Accepted)
    assert isinstance(other, Conflict)
    assert (other.status, other.members["job_id"]) == (409, first.job["id"])
    assert isinstance(await create(h, external_task_id="order-1", account="elsewhere"), Accepted)


async def test_drafts_with_one_idempotency_key_in_one_commit_create_one_job(h: Harness) -> None:
    batch = h.runtime.store.batched(create_jobs)
    now = h.clock.now()
    drafts = [
        {
            "id": f"job_{n}", "account": "main", "vendor": "v", "model": "m",
            "capability": "text2video", "input": {}, "external_task_id": f"job_{n}", "metadata": {},
            "api_key": "key", "created_at": now, "due_at": now, "deadline_at": now,
            "idempotency_key": "k", "fingerprint": "f",
        }
        for n in range(20)
    ]  # fmt: skip
    answers = await asyncio.gather(*(batch(draft) for draft in drafts))
    assert {answer.job["id"] for answer in answers if isinstance(answer, Accepted)} == {"job_0"}
    assert sum(not answer.replayed for answer in answers if isinstance(answer, Accepted)) == 1


async def test_a_submission_attempt_is_recorded_before_it_is_sent(h: Harness) -> None:
    opened = await h.open()
    started = await h.runtime.store.write(h.runtime.ledger.begin, [opened])
    assert [(row["state"], row["attempt"]) for row in started] == [(S.SUBMITTING, 1)]
    assert await h.runtime.store.write(h.runtime.ledger.begin, [opened]) == [], (
        "it is no longer queued"
    )
    (note,) = await h.rows(trace)
    assert note["detail"] == {"attempt": 1, "outcome": "begun"}


# -- reports


async def test_a_hundred_concurrent_reports_move_a_job_once(h: Harness) -> None:
    await subscribe(h)
    opened = await at_vendor(h)
    results = await asyncio.gather(
        *(report_result(h, opened["id"], S.SUCCEEDED) for _ in range(100))
    )
    assert sum(result.moved is not None for result in results) == 1
    assert await event_types(h) == ["job.submitted", "job.succeeded"]
    assert len(await h.rows(delivery)) == 2


async def test_the_first_final_report_stands_and_a_contradicting_report_returns_contradicts(
    h: Harness,
) -> None:
    opened = await at_vendor(h)
    failed, succeeded = await asyncio.gather(
        report_result(h, opened["id"], S.FAILED), report_result(h, opened["id"], S.SUCCEEDED)
    )
    assert (failed.outcome, succeeded.outcome) == (ReportOutcome.MOVED, ReportOutcome.CONTRADICTS)
    assert (await h.job(opened["id"]))["output"] is None


async def test_several_reports_about_one_job_in_one_call_are_applied_in_order(h: Harness) -> None:
    opened = await h.open()
    reports = [
        ReportEvent(opened["id"], Report(state, videos=(Output(VIDEO),)), Source.PUSH)
        for state in (S.SUBMITTED, S.PROCESSING, S.SUCCEEDED, S.PROCESSING)
    ]
    results = await h.runtime.store.write(h.runtime.ledger.apply, reports)
    assert [result.moved for result in results] == [S.SUBMITTED, S.PROCESSING, S.SUCCEEDED, None]
    assert [body["sequence"] for body in await event_bodies(h)] == [1, 2, 3]
    assert [body["data"]["status"] for body in await event_bodies(h)] == [
        "submitted",
        "processing",
        "succeeded",
    ]


async def test_a_report_about_a_missing_job_returns_no_job_and_changes_nothing(h: Harness) -> None:
    result = await report_result(h, "job_gone", S.SUCCEEDED)
    assert (result.outcome, result.job, result.moved) == (ReportOutcome.NO_JOB, None, None)


async def test_a_vendor_task_id_belongs_to_one_job(h: Harness) -> None:
    await at_vendor(h, task="t-1")
    other = await at_vendor(h, task="t-1")
    assert (other["state"], other["vendor_task_id"]) == (S.SUBMITTED, None)


async def test_two_jobs_with_one_vendor_task_id_in_one_commit_both_move(h: Harness) -> None:
    jobs = [await h.open() for _ in range(2)]
    reports = [
        report_result(h, row["id"], S.SUBMITTED, Source.SUBMIT, vendor_task_id="t-1")
        for row in jobs
    ]
    await asyncio.gather(*reports)
    rows = await h.rows(job)
    assert [row["state"] for row in rows] == [S.SUBMITTED, S.SUBMITTED]
    assert sorted(row["vendor_task_id"] or "" for row in rows) == ["", "t-1"]


async def test_a_vendors_outcome_replaces_expired_and_its_event_is_marked_late(h: Harness) -> None:
    opened = await at_vendor(h)
    await report_state(h, opened["id"], S.EXPIRED, Source.CLOCK)
    late = await report_state(h, opened["id"], S.SUCCEEDED, Source.PUSH)
    assert (late["state"], late["resolved_by"], late["due_at"]) == (S.SUCCEEDED, Source.PUSH, None)
    expired, succeeded = (await event_bodies(h))[1:]
    assert "late" not in expired
    assert (succeeded["type"], succeeded["late"]) == ("job.succeeded", True)


async def test_the_version_grows_with_every_visible_change_and_only_then(h: Harness) -> None:
    opened = await at_vendor(h)
    moved = await report_state(h, opened["id"], S.PROCESSING)
    assert moved["version"] == opened["version"] + 1
    ended = await report_state(h, opened["id"], S.SUCCEEDED)
    again = await report_state(h, opened["id"], S.SUCCEEDED)
    assert ended["version"] == again["version"] == moved["version"] + 1


async def test_a_charge_after_the_end_makes_a_version_and_no_event(h: Harness) -> None:
    opened = await at_vendor(h)
    ended = await report_state(h, opened["id"], S.SUCCEEDED)
    for units in (1, 2):
        await report_result(h, opened["id"], S.SUCCEEDED, billing={"units": units})
    charged = await h.job(opened["id"])
    assert (charged["billing"], charged["version"]) == ({"units": 1}, ended["version"] + 1)
    assert charged["finished_at"] == ended["finished_at"]
    assert await event_types(h) == ["job.submitted", "job.succeeded"]


# -- bookkeeping


@pytest.mark.parametrize(
    ("state", "pulled_forward"),
    [(S.SUBMITTING, False), (S.SUBMITTED, True), (S.PROCESSING, True), (S.SUCCEEDED, False)],
)
async def test_only_a_job_at_the_vendor_is_polled_now(
    h: Harness, state: JobState, pulled_forward: bool
) -> None:
    """A job being submitted keeps its claim: treated as lost, it would be sent twice."""
    opened = await h.open()
    due = None if state in FINAL else START + timedelta(seconds=60)
    await h.run(job.update().where(job.c.id == opened["id"]).values(state=state, due_at=due))
    await h.runtime.store.write(h.runtime.ledger.poll_now, [opened["id"]], START)
    assert ((await h.job(opened["id"]))["due_at"] == START) is pulled_forward


async def test_overdue_finds_live_jobs_only(h: Harness) -> None:
    late = await h.open(deadline_at=START)
    ended = await h.open(deadline_at=START)
    await h.open()
    await report_state(h, ended["id"], S.FAILED)
    assert await h.runtime.store.read(h.runtime.ledger.overdue, START) == [late["id"]]


# -- any sequence of reports

FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "state": st.sampled_from(
        (None, S.SUBMITTED, S.PROCESSING, S.SUCCEEDED, S.FAILED, S.CANCELED, S.EXPIRED)
    ),
    "word": st.sampled_from(("", "raw")),
    "vendor_task_id": st.sampled_from((None, "t-1", "t-2")),
    "progress": st.one_of(st.none(), st.integers(0, 100)),
    "videos": st.sampled_from(((), (Output(VIDEO),))),
    "updated_at": st.sampled_from((None, START, after(START, 60))),
}
REPORTS = st.tuples(
    st.integers(0, 1),
    st.fixed_dictionaries(FIELDS).map(lambda given: Report(**given)),
    st.sampled_from(Source),
    st.sampled_from((None, 0, 1, 2)),
    st.sampled_from((None, 0, 1)),
    st.integers(0, 200),
)
ACCOUNTS = {
    "plain": {"vendor": "agentsflare", "api_key": "k"},
    "forking": {"vendor": "cubicspaces", "api_key": "k"},
    "faithful": {"vendor": "kling", "api_key": "k"},
}


@pytest.fixture(scope="module")
def emptied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[asyncio.Runner, Harness]]:
    """One runtime for all examples, and the loop that it runs on."""
    with asyncio.Runner() as runner:
        opened = open_harness(tmp_path_factory.mktemp("ledger"), accounts=ACCOUNTS)
        yield runner, runner.run(opened.__aenter__())
        runner.run(opened.__aexit__(None, None, None))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(sorted(ACCOUNTS)), st.lists(REPORTS, max_size=16))
def test_no_sequence_of_reports_breaks_an_invariant(
    emptied: tuple[asyncio.Runner, Harness], account: str, reports: list[Any]
) -> None:
    runner, h = emptied
    runner.run(_start_again(h))
    runner.run(_apply_all(h, account, reports))


async def _start_again(h: Harness) -> None:
    """Empty the database: task ids of other examples would be taken."""

    def empty(tx: Tx) -> None:
        for table in reversed(metadata.sorted_tables):
            tx.execute(sa.delete(table))
        ensure_accounts(tx, sorted(ACCOUNTS))

    await h.runtime.store.write(empty)
    await subscribe(h)


async def _apply_all(h: Harness, account: str, reports: list[Any]) -> None:
    opened = [await h.open(account) for _ in range(2)]
    await h.runtime.store.write(h.runtime.ledger.begin, opened[:1])
    known = {row["id"]: row for row in await h.rows(job)}
    for which, report, source, attempt, lease, seconds in reports:
        h.clock.advance(seconds)
        event = ReportEvent(opened[which]["id"], report, source, attempt=attempt, lease=lease)
        await apply_report(h, event)
        for row in await h.rows(job):
            _check_change(known[row["id"]], row)
            known[row["id"]] = row
    await _check_events(h, known)


def _check_change(before: dict[str, Any], now: dict[str, Any]) -> None:
    old, new = JobState(before["state"]), JobState(now["state"])
    assert RANK[new] >= RANK[old]
    if RANK[old] == 100:
        assert {**before, "vendor_task_id": "", "version": 0} == {
            **now,
            "vendor_task_id": "",
            "version": 0,
        }
    assert (now["due_at"] is not None) is (new not in FINAL)
    assert (now["finished_at"] is not None) is (now["resolved_by"] is not None) is (new in FINAL)
    assert (now["version"] > before["version"]) or _visible(now) == _visible(before)


def _visible(row: dict[str, Any]) -> dict[str, Any]:
    """Return the columns that a caller may wait for: without our own schedule."""
    ours = {"due_at", "asks", "misses", "alive_at", "vendor_updated_at", "outputless_since"}
    return {name: value for name, value in row.items() if name not in ours}


async def _check_events(h: Harness, jobs: dict[str, dict[str, Any]]) -> None:
    for job_id, job_row in jobs.items():
        events = await h.rows(event, event.c.job_id == job_id)
        assert [row["sequence"] for row in events] == list(range(1, job_row["sequence"] + 1))
        ends = [row["type"] for row in events if row["type"].removeprefix("job.") in FINAL]
        assert len([kind for kind in ends if kind != "job.expired"]) <= 1
        assert len(ends) == len(set(ends))
        assert not ends or ends[-1] == f"job.{job_row['state']}"
        assert bool(ends) is (job_row["state"] in FINAL)
        late = [json.loads(row["body"]).get("late", False) for row in events]
        assert late == [
            ends[:1] == ["job.expired"] and n == len(events) - 1 and len(ends) == 2
            for n in range(len(events))
        ]
    assert len(await h.rows(delivery)) == len(await h.rows(event))


async def test_a_vendor_task_id_is_written_once(h: Harness) -> None:
    """An update with the same value would rewrite SQLite's index of it with every report."""
    opened = await h.open()

    def writes_of_id(tx: Tx, state: JobState) -> int:
        statements: list[str] = []
        sa.event.listen(tx, "before_cursor_execute", lambda *called: statements.append(called[2]))
        h.runtime.ledger.apply(
            tx, [ReportEvent(opened["id"], Report(state, vendor_task_id="t-1"), Source.SUBMIT)]
        )
        return sum("SET vendor_task_id" in statement for statement in statements)

    reported = (S.SUBMITTED, S.PROCESSING, S.FAILED)
    assert [await h.runtime.store.write(writes_of_id, state) for state in reported] == [1, 0, 0]
    settled = await h.job(opened["id"])
    assert (settled["vendor_task_id"], settled["state"]) == ("t-1", S.FAILED)


async def test_the_event_of_the_largest_job_fits_the_documented_receivers(h: Harness) -> None:
    opened = await h.open(input={"prompt": "\U0001f408" * (1 << 18)}, callback_url="x")
    url = "https://cdn.example.com/" + "\U0001f408" * 2000
    files = [{"url": f"{url}{n}", "watermark_url": f"{url}w{n}", "id": url} for n in range(99)]
    body = {
        "task_id": "t-1",
        "task_status": "succeed",
        "task_status_msg": "\U0001f408" * 9999,
        "task_result": dict.fromkeys(("videos", "images", "audios"), files),
    }
    (report,) = h.runtime.vendors["main"].read_push(json.dumps(body).encode())
    await apply_report(h, ReportEvent(opened["id"], report, Source.PUSH))
    (published,) = await h.rows(event)
    assert 1 << 20 < len(published["body"]) < 4 << 20
    message = Message(published["id"], published["type"], published["body"], h.clock.now())
    to = Target("https://a.example", options={"format": "cloudevents"})
    sent = Webhook().request(to, message)
    assert len(sent.content) < 4 << 20
