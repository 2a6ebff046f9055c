"""The truth: whatever is told, in whatever order and by whomever, a job ends once and everybody hears it once."""

from __future__ import annotations

import asyncio
import json
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.database.store import Tx
from orchestrator.database.tables import delivery, event, job, trace
from orchestrator.foundation.clock import after
from orchestrator.foundation.errors import Conflict, Problem
from orchestrator.foundation.states import FINAL, RANK, JobState, Source
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


async def take(h: Harness, **values: Any) -> Accepted | Problem:
    """Try to take a job on, as a caller with an idempotency key would."""
    now, job_id = h.clock.now(), h.runtime.ids("job")
    draft = {
        "id": job_id, "account": "main", "vendor": "agentsflare", "model": "m", "capability": "text2video",
        "input": {"prompt": "a cat"}, "external_task_id": job_id, "metadata": {}, "api_key": "key", "created_at": now,
        "due_at": now, "deadline_at": after(now, 86400),
    }  # fmt: skip
    return (await h.runtime.store.write(create_jobs, [draft | values]))[0]


# -- a job begins


async def test_the_same_key_and_body_is_the_same_job(h: Harness) -> None:
    first = await take(h, idempotency_key="k", fingerprint="f")
    again = await take(h, idempotency_key="k", fingerprint="f")
    assert isinstance(first, Accepted)
    assert isinstance(again, Accepted)
    assert again.replayed
    assert again.job["id"] == first.job["id"]
    assert len(await h.rows(job)) == 1


async def test_the_same_key_with_another_body_is_refused_and_names_the_job(h: Harness) -> None:
    first = await take(h, idempotency_key="k", fingerprint="f")
    other = await take(h, idempotency_key="k", fingerprint="g")
    assert isinstance(first, Accepted)
    assert isinstance(other, Problem)
    assert (other.status, other.members["job_id"]) == (422, first.job["id"])


async def test_keys_of_different_callers_do_not_meet(h: Harness) -> None:
    await take(h, idempotency_key="k", fingerprint="f", api_key="one")
    assert isinstance(await take(h, idempotency_key="k", fingerprint="g", api_key="two"), Accepted)


async def test_an_external_id_is_taken_once_for_each_account(h: Harness) -> None:
    first = await take(h, external_task_id="order-1")
    other = await take(h, external_task_id="order-1")
    assert isinstance(first, Accepted)
    assert isinstance(other, Conflict)
    assert (other.status, other.members["job_id"]) == (409, first.job["id"])
    assert isinstance(await take(h, external_task_id="order-1", account="elsewhere"), Accepted)


async def test_two_drafts_of_one_commit_meet_each_other(h: Harness) -> None:
    batch = h.runtime.store.batched(create_jobs)
    now = h.clock.now()
    drafts = [
        {
            "id": f"job_{n}", "account": "main", "vendor": "v", "model": "m", "capability": "text2video", "input": {},
            "external_task_id": f"job_{n}", "metadata": {}, "api_key": "key", "created_at": now, "due_at": now,
            "deadline_at": now, "idempotency_key": "k", "fingerprint": "f",
        }
        for n in range(20)
    ]  # fmt: skip
    answers = await asyncio.gather(*(batch(draft) for draft in drafts))
    assert {answer.job["id"] for answer in answers if isinstance(answer, Accepted)} == {"job_0"}
    assert sum(not answer.replayed for answer in answers if isinstance(answer, Accepted)) == 1


async def test_nothing_leaves_before_the_intent_is_written(h: Harness) -> None:
    opened = await h.open()
    begun = await h.runtime.store.write(h.runtime.ledger.begin, [opened])
    assert [(row["state"], row["attempt"]) for row in begun] == [(S.SUBMITTING, 1)]
    assert await h.runtime.store.write(h.runtime.ledger.begin, [opened]) == [], (
        "it is no longer queued"
    )
    (note,) = await h.rows(trace)
    assert note["detail"] == {"attempt": 1, "outcome": "begun"}


# -- what is heard of it


async def test_a_hundred_tellers_move_a_job_once(h: Harness) -> None:
    await subscribe(h)
    opened = await at_vendor(h)
    verdicts = await asyncio.gather(
        *(report_result(h, opened["id"], S.SUCCEEDED) for _ in range(100))
    )
    assert sum(verdict.moved for verdict in verdicts) == 1
    assert await event_types(h) == ["job.submitted", "job.succeeded"]
    assert len(await h.rows(delivery)) == 2


async def test_the_first_verdict_stands_and_the_contradiction_is_told_to_who_asks(
    h: Harness,
) -> None:
    opened = await at_vendor(h)
    failed, succeeded = await asyncio.gather(
        report_result(h, opened["id"], S.FAILED), report_result(h, opened["id"], S.SUCCEEDED)
    )
    assert (failed.outcome, succeeded.outcome) == (ReportOutcome.MOVED, ReportOutcome.CONTRADICTS)
    assert (await h.job(opened["id"]))["output"] is None


async def test_several_reports_about_one_job_in_one_call_are_believed_in_order(h: Harness) -> None:
    opened = await h.open()
    said = [
        ReportEvent(opened["id"], Report(state, videos=(Output(VIDEO),)), Source.PUSH)
        for state in (S.SUBMITTED, S.PROCESSING, S.SUCCEEDED, S.PROCESSING)
    ]
    verdicts = await h.runtime.store.write(h.runtime.ledger.apply, said)
    assert [verdict.moved for verdict in verdicts] == [True, True, True, False]
    assert [body["sequence"] for body in await event_bodies(h)] == [1, 2, 3]
    assert [body["data"]["status"] for body in await event_bodies(h)] == [
        "submitted",
        "processing",
        "succeeded",
    ]


async def test_a_report_about_no_job_is_nothing_to_worry_about(h: Harness) -> None:
    verdict = await report_result(h, "job_gone", S.SUCCEEDED)
    assert (verdict.outcome, verdict.job, verdict.moved) == (ReportOutcome.NO_JOB, None, False)


async def test_one_vendor_id_belongs_to_one_job(h: Harness) -> None:
    await at_vendor(h, task="t-1")
    other = await at_vendor(h, task="t-1")
    assert (other["state"], other["vendor_task_id"]) == (S.SUBMITTED, None)


async def test_two_jobs_that_claim_one_vendor_id_in_one_commit_both_move(h: Harness) -> None:
    jobs = [await h.open() for _ in range(2)]
    said = [
        report_result(h, row["id"], S.SUBMITTED, Source.SUBMIT, vendor_task_id="t-1")
        for row in jobs
    ]
    await asyncio.gather(*said)
    rows = await h.rows(job)
    assert [row["state"] for row in rows] == [S.SUBMITTED, S.SUBMITTED]
    assert sorted(row["vendor_task_id"] or "" for row in rows) == ["", "t-1"]


async def test_an_expired_job_is_overtaken_by_the_vendor_and_the_event_says_that_it_is_late(
    h: Harness,
) -> None:
    opened = await at_vendor(h)
    await report_state(h, opened["id"], S.EXPIRED, Source.CLOCK)
    late = await report_state(h, opened["id"], S.SUCCEEDED, Source.PUSH)
    assert (late["state"], late["resolved_by"], late["due_at"]) == (S.SUCCEEDED, Source.PUSH, None)
    expired, succeeded = (await event_bodies(h))[1:]
    assert "late" not in expired
    assert (succeeded["type"], succeeded["late"]) == ("job.succeeded", True)


async def test_a_version_grows_with_every_change_and_only_then(h: Harness) -> None:
    opened = await at_vendor(h)
    moved = await report_state(h, opened["id"], S.PROCESSING)
    assert moved["version"] == opened["version"] + 1
    ended = await report_state(h, opened["id"], S.SUCCEEDED)
    again = await report_state(h, opened["id"], S.SUCCEEDED)
    assert ended["version"] == again["version"] == moved["version"] + 1


# -- bookkeeping


@pytest.mark.parametrize(
    ("state", "hurried"),
    [(S.SUBMITTING, False), (S.SUBMITTED, True), (S.PROCESSING, True), (S.SUCCEEDED, False)],
)
async def test_only_a_job_the_vendor_has_is_hurried(
    h: Harness, state: JobState, hurried: bool
) -> None:
    """One that is being submitted keeps its claim: taken for lost, it would be sent twice."""
    opened = await h.open()
    due = None if state in FINAL else START + timedelta(seconds=60)
    await h.run(job.update().where(job.c.id == opened["id"]).values(state=state, due_at=due))
    await h.runtime.store.write(h.runtime.ledger.poll_now, [opened["id"]], START)
    assert ((await h.job(opened["id"]))["due_at"] == START) is hurried


async def test_what_is_overdue_is_live(h: Harness) -> None:
    late = await h.open(deadline_at=START)
    ended = await h.open(deadline_at=START)
    await h.open()
    await report_state(h, ended["id"], S.FAILED)
    assert await h.runtime.store.read(h.runtime.ledger.overdue, START) == [late["id"]]


# -- anything at all

SAID = st.tuples(
    st.integers(0, 1),
    st.builds(
        Report,
        state=st.sampled_from(
            (None, S.SUBMITTED, S.PROCESSING, S.SUCCEEDED, S.FAILED, S.CANCELED, S.EXPIRED)
        ),
        word=st.sampled_from(("", "raw")),
        vendor_task_id=st.sampled_from((None, "t-1", "t-2")),
        progress=st.one_of(st.none(), st.integers(0, 100)),
        videos=st.sampled_from(((), (Output(VIDEO),))),
        updated_at=st.sampled_from((None, START, after(START, 60))),
    ),
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


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(sorted(ACCOUNTS)), st.lists(SAID, max_size=16))
def test_no_sequence_of_reports_breaks_an_invariant(account: str, said: list[Any]) -> None:
    async def told() -> None:
        with tempfile.TemporaryDirectory() as folder:
            async with open_harness(Path(folder), accounts=ACCOUNTS) as h:
                await subscribe(h)
                await _hold_while(h, account, said)

    asyncio.run(told())


async def _hold_while(h: Harness, account: str, said: list[Any]) -> None:
    opened = [await h.open(account) for _ in range(2)]
    await h.runtime.store.write(h.runtime.ledger.begin, opened[:1])
    known = {row["id"]: row for row in await h.rows(job)}
    for which, report, source, attempt, lease, turn in said:
        h.clock.advance(turn)
        event = ReportEvent(opened[which]["id"], report, source, attempt=attempt, lease=lease)
        await apply_report(h, event)
        for row in await h.rows(job):
            _compare(known[row["id"]], row)
            known[row["id"]] = row
    await _account_for_events(h, known)


def _compare(before: dict[str, Any], now: dict[str, Any]) -> None:
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
    """Return what a caller may wait for: our own schedule is not part of it."""
    ours = {"due_at", "asks", "misses", "vendor_updated_at", "outputless_since"}
    return {name: value for name, value in row.items() if name not in ours}


async def _account_for_events(h: Harness, jobs: dict[str, dict[str, Any]]) -> None:
    for job_id, row in jobs.items():
        events = await h.rows(event, event.c.job_id == job_id)
        assert [one["sequence"] for one in events] == list(range(1, row["sequence"] + 1))
        ends = [one["type"] for one in events if one["type"].removeprefix("job.") in FINAL]
        assert len([kind for kind in ends if kind != "job.expired"]) <= 1
        assert len(ends) == len(set(ends))
        assert not ends or ends[-1] == f"job.{row['state']}"
        assert bool(ends) is (row["state"] in FINAL)
        late = [json.loads(one["body"]).get("late", False) for one in events]
        assert late == [
            ends[:1] == ["job.expired"] and n == len(events) - 1 and len(ends) == 2
            for n in range(len(events))
        ]
    assert len(await h.rows(delivery)) == len(await h.rows(event))


async def test_a_vendors_id_is_written_when_it_is_new_and_never_again(h: Harness) -> None:
    """To write it as it is would cost SQLite its index of them with every report."""
    opened = await h.open()

    def named(tx: Tx, state: JobState) -> int:
        noted: list[str] = []
        sa.event.listen(tx, "before_cursor_execute", lambda *called: noted.append(called[2]))
        h.runtime.ledger.apply(
            tx, [ReportEvent(opened["id"], Report(state, vendor_task_id="t-1"), Source.SUBMIT)]
        )
        return sum("SET vendor_task_id" in statement for statement in noted)

    assert [
        await h.runtime.store.write(named, state) for state in (S.SUBMITTED, S.PROCESSING, S.FAILED)
    ] == [1, 0, 0]
    settled = await h.job(opened["id"])
    assert (settled["vendor_task_id"], settled["state"]) == ("t-1", S.FAILED)
