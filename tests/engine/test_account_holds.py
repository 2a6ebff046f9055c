"""An account that its vendor refuses holds its queue: what was refused fails, the rest waits."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from orchestrator.database.tables import event, job
from orchestrator.engine.account_holds import AccountHolds
from orchestrator.engine.deliver import Deliverer
from orchestrator.engine.poll import Poller
from orchestrator.engine.submit import Submitter
from orchestrator.engine.worker import Worker
from orchestrator.foundation.clock import SUBMIT_SCHEDULE
from orchestrator.foundation.states import HoldReason, JobState, Source
from orchestrator.jobs import holds
from orchestrator.jobs.holds import CALM, FIRST_LOOK, LAST_LOOK
from orchestrator.vendors.account_check import CheckResult
from tests.harness.engine import (
    Stage,
    drive,
    event_types,
    job_error,
    kling_refusal,
    kling_response,
    legacy_task,
    report_state,
    subscribe,
    task_not_found,
)
from tests.harness.runtime import Harness, open_harness

#: Jobs that are refused before the account is held.
IN_FLIGHT = 3
ACCOUNTS: dict[str, Any] = {
    "kling": {"vendor": "kling", "api_key": "k", "max_in_flight": IN_FLIGHT},
    "flare": {"vendor": "agentsflare", "api_key": "k"},
}
UNAUTHORIZED, EXHAUSTED = kling_refusal(1002, 401), kling_refusal(1102, 429, "no balance")
ROOM = 64


@pytest.fixture
async def h(tmp_path: Path, database: str) -> AsyncIterator[Harness]:
    async with open_harness(tmp_path, accounts=ACCOUNTS, database_url=database) as opened:
        yield opened


class Vendor:
    """Answers submissions and status queries of all accounts."""

    def __init__(self, h: Harness) -> None:
        self.submission: httpx.Response | None = None
        self.query = task_not_found()
        self.asked: list[str] = []
        #: The external id of a job that costs more than is left.
        self.exhausted_by = ""
        h.network.answer = self._answer

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request.method)
        if request.method == "GET":
            return self.query
        accepted = kling_response(legacy_task(f"t-{len(self.asked)}", "submitted"))
        if self.exhausted_by and self.exhausted_by.encode() in request.content:
            return EXHAUSTED
        return self.submission or accepted


async def states(h: Harness) -> list[str]:
    """Return the states of the jobs that were not refused."""
    return [row["state"] for row in await h.rows(job) if row["state"] != JobState.FAILED]


async def facts(h: Harness) -> list[tuple[str, str]]:
    """Return type and reason of the events about accounts."""
    rows = await h.rows(event, event.c.type.startswith("account."))
    return [(row["type"], json.loads(row["body"])["data"]["reason"]) for row in rows]


async def submit(h: Harness) -> int:
    return await drive(h.runtime.assemble(Submitter), ROOM)


async def tick(h: Harness) -> None:
    await h.runtime.assemble(AccountHolds).run()


async def held(h: Harness, count: int, answer: httpx.Response) -> Vendor:
    """Let the vendor refuse the first jobs of an account; so many wait behind them."""
    vendor = Vendor(h)
    for _ in range(count + IN_FLIGHT):
        await h.open("kling")
    vendor.submission = answer
    await submit(h)
    return vendor


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (UNAUTHORIZED, "unauthorized"),
        (kling_refusal(1304, 429), "unauthorized"),
        (httpx.Response(401), "unauthorized"),
        (EXHAUSTED, "exhausted"),
        (kling_refusal(1101, 429), "exhausted"),
        (httpx.Response(402), "exhausted"),
    ],
)
async def test_a_refusal_of_the_account_fails_its_job_and_holds_the_others(
    h: Harness, answer: httpx.Response, reason: str
) -> None:
    vendor = await held(h, 5, answer)
    assert len(vendor.asked) == 3, "what was in flight at once, and no more"
    other = await h.open("flare")
    vendor.submission = None
    assert await submit(h) == 1, "another account is not held"
    assert (await h.job(other["id"]))["state"] == JobState.SUBMITTED
    assert await states(h) == [JobState.QUEUED] * 5 + [JobState.SUBMITTED]
    failed = [row for row in await h.rows(job) if row["state"] == JobState.FAILED]
    codes = {"unauthorized": "vendor_auth", "exhausted": "account_exhausted"}
    found = [job_error(await h.job(row["id"]))["code"] for row in failed]
    assert found == [codes[reason]] * IN_FLIGHT
    assert await facts(h) == [(f"account.{reason}", reason)]
    row = await h.account("kling")
    assert (row["held_reason"], row["held_since"]) == (reason, h.clock.now())
    assert "kling answered" in (row["held_message"] or "")


async def test_a_check_that_succeeds_releases_an_unauthorized_account(h: Harness) -> None:
    vendor = await held(h, 4, UNAUTHORIZED)
    vendor.query = UNAUTHORIZED
    waits = []
    for _ in range(8):
        look_at = (await h.account("kling"))["look_at"]
        assert look_at is not None
        waits.append((look_at - h.clock.now()).total_seconds())
        await tick(h)
        h.clock.advance(waits[-1])
        asked = len(vendor.asked)
        await tick(h)
        assert vendor.asked[asked:] == ["GET"], "a check is due, and one alone"
        assert await submit(h) == 0
    assert all(low <= wait <= low * 1.2 for low, wait in zip((5, 10, 20), waits, strict=False))
    assert waits[-1] <= 1.2 * LAST_LOOK
    vendor.query, vendor.submission = task_not_found(), None
    h.clock.advance(1.2 * LAST_LOOK)
    await tick(h)
    assert (await h.account("kling"))["held_since"] is None
    while await submit(h):
        await h.run(job.update().where(job.c.state == JobState.SUBMITTED).values(due_at=None))
    assert set(await states(h)) == {JobState.SUBMITTED}
    kinds = [("account.unauthorized", "unauthorized"), ("account.recovered", "unauthorized")]
    assert await facts(h) == kinds


@pytest.mark.parametrize(
    ("by", "reason", "left", "is_held"),
    [
        ("poll", "unauthorized", "after", False),
        ("poll", "unauthorized", "before", True),
        ("poll", "exhausted", "after", True),
        ("lookup", "unauthorized", "after", False),
        ("lookup", "unauthorized", "before", True),
        ("lookup", "exhausted", "after", True),
        ("push", "unauthorized", "after", True),
    ],
)
async def test_a_query_that_left_after_the_hold_began_and_is_answered_ends_it(
    h: Harness, by: str, reason: str, left: str, is_held: bool
) -> None:
    """As a check does. A push proves nothing: its job may have been accepted long before."""
    vendor, row = Vendor(h), await h.open("kling")
    await subscribe(h, "account.recovered")
    vendor.submission = httpx.Response(504) if by == "lookup" else None
    await submit(h)
    h.clock.advance(10_000)
    await h.run(job.update().values(due_at=h.clock.now()))
    ids = {"external_task_id": row["external_task_id"]}
    stage: Stage[Any] = h.runtime.assemble(Poller)
    if by == "lookup":
        stage = h.runtime.assemble(Submitter)

    async def refuse() -> None:
        refusal = holds.Refusal(HoldReason(reason), "no", probe=False)
        ids, rng, now = h.runtime.ids, h.runtime.rng, h.clock.now()
        await h.runtime.store.write(holds.refused, ids, rng, "kling", refusal, now)
        h.clock.advance(1)

    async def answered(_: httpx.Request) -> httpx.Response:
        if left == "before":
            await refuse()
        task = legacy_task("t-1", "processing", task_info=ids)
        return kling_response(task if by == "poll" else [task])

    h.network.answer = answered
    if left == "after":
        await refuse()
    deliveries = Worker("deliver", h.runtime.assemble(Deliverer), limit=1)
    h.runtime.notifier.workers["deliver"] = deliveries
    if by == "push":
        await report_state(h, row["id"], JobState.PROCESSING, Source.PUSH)
    else:
        assert await drive(stage) == 1
        # Its event shares a commit with the job's, which nobody wants.
        assert deliveries._due.is_set() == (not is_held)
    assert (await h.job(row["id"]))["state"] == JobState.PROCESSING
    assert ((await h.account("kling"))["held_since"] is not None) == is_held
    kinds = [kind for kind, _ in await facts(h)]
    assert kinds == [f"account.{reason}"] + ["account.recovered"] * (not is_held)


async def test_an_exhausted_account_is_probed_with_one_job_at_a_time(h: Harness) -> None:
    vendor = await held(h, 5, EXHAUSTED)
    for _ in range(2 * len(SUBMIT_SCHEDULE)):
        await tick(h)
        h.clock.advance(1.2 * LAST_LOOK)
        assert await submit(h) == 1
        assert await submit(h) == 0
    assert "GET" not in vendor.asked, "a check shows no balance"
    assert set(await states(h)) == {JobState.QUEUED}
    vendor.submission = None
    h.clock.advance(1.2 * LAST_LOOK)
    assert await submit(h) == 1
    assert (await h.account("kling"))["held_since"] is None
    assert await submit(h) == 2, "the other slots"
    assert [kind for kind, _ in await facts(h)] == ["account.exhausted", "account.recovered"]
    assert (await h.account("kling"))["looks"] is None


@pytest.mark.parametrize("query", [httpx.Response(404), httpx.Response(405, text="no")])
async def test_where_a_check_cannot_tell_one_job_is_submitted(
    h: Harness, query: httpx.Response
) -> None:
    vendor = await held(h, 4, UNAUTHORIZED)
    vendor.query = query
    h.clock.advance(1.2 * FIRST_LOOK)
    await tick(h)
    assert await submit(h) == 1
    assert await submit(h) == 0
    vendor.submission = None
    h.clock.advance(1.2 * LAST_LOOK)
    await tick(h)
    assert await submit(h) == 1
    assert await submit(h) == 2
    assert vendor.asked.count("GET") == 1


async def test_a_check_that_is_wrong_is_not_believed_twice(h: Harness) -> None:
    """The key may read tasks, and not make them: no wave of refused jobs after each check."""
    vendor = await held(h, 5, UNAUTHORIZED)
    h.clock.advance(1.2 * FIRST_LOOK)
    await tick(h)
    assert await submit(h) == 3
    for _ in range(5):
        h.clock.advance(1.2 * LAST_LOOK)
        await tick(h)
        assert await submit(h) == 1
    assert vendor.asked.count("GET") == 1
    assert [kind for kind, _ in await facts(h)].count("account.unauthorized") == 2


def check_of(account: str, h: Harness, *, authorized: bool | None) -> CheckResult:
    return CheckResult(account, True, authorized, "ok", 200, None, None, 1, None, h.clock.now())


@pytest.mark.parametrize(("answer", "begun"), [(UNAUTHORIZED, 3), (EXHAUSTED, 1)])
async def test_a_check_of_an_operator_releases_the_jobs_or_the_first_of_them(
    h: Harness, answer: httpx.Response, begun: int
) -> None:
    vendor = await held(h, 5, answer)
    vendor.submission = None
    holds = h.runtime.assemble(AccountHolds)
    h.clock.advance(2)
    before = await h.account("kling")
    await holds.note(check_of("kling", h, authorized=False), asked=True)
    assert await h.account("kling") == before, "a failed one postpones nothing"
    await holds.note(check_of("kling", h, authorized=True), asked=True)
    assert await submit(h) == begun


async def test_a_start_looks_at_once(h: Harness) -> None:
    """A changed key is found without waiting for the next look."""
    vendor = await held(h, 4, UNAUTHORIZED)
    vendor.submission = None
    h.clock.advance(2)
    await tick(h)
    assert (await h.account("kling"))["held_since"] is not None
    await h.runtime.assemble(AccountHolds).start()
    await tick(h)
    assert await submit(h) == 3


async def test_a_start_does_not_end_a_hold_that_only_a_job_can_judge(h: Harness) -> None:
    await held(h, 5, UNAUTHORIZED)
    h.clock.advance(1.2 * FIRST_LOOK)
    await tick(h)
    assert await submit(h) == 3, "a check said that all is well, and it is not"
    h.clock.advance(1.2 * LAST_LOOK)
    before = await facts(h)
    await h.runtime.assemble(AccountHolds).start()
    await tick(h)
    assert await submit(h) == 1
    assert await facts(h) == before


async def test_of_two_processes_one_checks_and_one_probes(h: Harness) -> None:
    vendor = await held(h, 5, UNAUTHORIZED)
    h.clock.advance(1.2 * FIRST_LOOK)
    holds = [h.runtime.assemble(AccountHolds) for _ in range(2)]
    taken = [await h.runtime.store.write(one._take, ["flare", "kling"]) for one in holds]
    assert [names for names, _ in taken] == [["kling"], []]
    vendor.query = httpx.Response(404)
    await holds[0]._check(h.runtime.vendors["kling"])
    stages = [h.runtime.assemble(Submitter) for _ in range(2)]
    claims = [await stage.take(ROOM) for stage in stages]
    assert [len(found) for found in claims] == [1, 0]


async def test_a_probe_that_was_lost_is_followed_by_another(h: Harness) -> None:
    vendor = await held(h, 5, EXHAUSTED)
    vendor.submission = None
    h.clock.advance(1.2 * FIRST_LOOK)
    stage = h.runtime.assemble(Submitter)
    assert len(await stage.take(ROOM)) == 1
    h.clock.advance(60)
    assert len(await stage.take(ROOM)) == 0
    h.clock.advance(60)
    fresh = [claim for claim in await stage.take(ROOM) if claim.fresh]
    assert [claim.probe for claim in fresh] == [True]


async def test_a_job_that_alone_costs_too_much_fails_in_the_end_and_the_others_go_on(
    h: Harness,
) -> None:
    dear = await h.open("kling")
    vendor = Vendor(h)
    vendor.exhausted_by = dear["id"]
    opened = []
    for _ in range(2 * len(SUBMIT_SCHEDULE)):
        opened.append((await h.open("kling"))["id"])
        for _ in range(3):
            h.clock.advance(1.2 * LAST_LOOK)
            await submit(h)
            await h.run(job.update().where(job.c.state == JobState.SUBMITTED).values(due_at=None))
    row = await h.job(dear["id"])
    assert (row["state"], job_error(row)["code"]) == (JobState.FAILED, "account_exhausted")
    assert {(await h.job(one))["state"] for one in opened} == {JobState.SUBMITTED}


# -- pauses


async def test_pauses_in_a_row_have_one_event_and_end_when_they_are_over(h: Harness) -> None:
    vendor = await held(h, 2, kling_refusal(1303, 429, retry_after="30"))
    assert [kind for kind, _ in await facts(h)] == ["account.paused"]
    for _ in range(3):
        h.clock.advance(100)
        await submit(h)
    await tick(h)
    assert [kind for kind, _ in await facts(h)] == ["account.paused"]
    vendor.submission = None
    h.clock.advance(100)
    await submit(h)
    await tick(h)
    assert (await h.account("kling"))["crowded"] == 0
    h.clock.advance(120 + CALM)
    await tick(h)
    row = await h.account("kling")
    assert (row["paused_until"], row["paused_since"]) == (None, None)
    assert await facts(h) == [("account.paused", "paused"), ("account.recovered", "paused")]
    await tick(h)
    assert len(await event_types(h)) == 2 + IN_FLIGHT
