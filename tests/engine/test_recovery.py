"""Recovery: work of a process that has ended goes on at once, and such a process sends nothing."""

from __future__ import annotations

import itertools
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from orchestrator.database import queue
from orchestrator.database.membership import ALONE
from orchestrator.database.queue import LONGEST_LEASE
from orchestrator.database.tables import delivery, job
from orchestrator.engine import deliver_scheduler, poll, submit
from orchestrator.engine.deliver import Deliverer
from orchestrator.engine.expiry import Expiry
from orchestrator.engine.poll import Poller
from orchestrator.engine.recovery import Recovery
from orchestrator.engine.submit import Submitter
from orchestrator.foundation.clock import after
from orchestrator.foundation.states import AT_VENDOR, FINAL, JobState, Source
from tests.harness.engine import (
    at_vendor,
    drive,
    kling_response,
    legacy_task,
    report_state,
    subscribe,
    task_not_found,
)
from tests.harness.runtime import Harness, open_harness

ACCOUNTS = {
    name: {"vendor": name, "api_key": "k", "base_url": f"https://{name}.example.com"}
    for name in ("kling", "dreamto")
}
STAGES: tuple[Any, ...] = (Submitter, Poller, Deliverer)


@pytest.fixture
async def h(tmp_path: Path, database: str) -> AsyncIterator[Harness]:
    async with open_harness(tmp_path, database_url=database, accounts=ACCOUNTS) as opened:
        opened.network.answer = lambda _: task_not_found()
        yield opened


async def work_for_all(h: Harness) -> None:
    """Make work due for every stage."""
    await subscribe(h)
    await at_vendor(h, "kling")
    await h.open("kling")
    h.clock.advance(60)


async def take_back(h: Harness, *numbers: int) -> int:
    return await h.runtime.store.write(queue.take_back, numbers or (ALONE,), h.clock.now())


def claim_as(h: Harness, number: int | None) -> None:
    """Give the process another number; None fences it."""
    membership = h.runtime.store.membership
    membership.fence() if number is None else membership.confirm(number)


@pytest.mark.parametrize("stage", STAGES)
async def test_what_another_process_had_claimed_is_due_at_once(
    h: Harness, stage: type[Any]
) -> None:
    await work_for_all(h)
    claim_as(h, ALONE)
    (claim,) = await h.runtime.assemble(stage).take(1)
    assert list(await h.runtime.assemble(stage).take(1)) == []
    assert await take_back(h, 7) == 0
    assert await take_back(h) == 1
    (again,) = await h.runtime.assemble(stage).take(1)
    assert type(again) is type(claim)
    assert await take_back(h, 7) == 0


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("how", ["fenced", "another number", "late"])
async def test_nothing_is_sent_under_a_claim_that_is_no_longer_ours(
    h: Harness, stage: type[Any], how: str
) -> None:
    await work_for_all(h)
    claim_as(h, 3)
    (claim,) = await h.runtime.assemble(stage).take(1)
    if how == "late":
        h.clock.advance(deliver_scheduler.LEASE_MARGIN + 0.1)
        h.clock.advance(0 if stage is Deliverer else poll.LEASE_MARGIN + submit.LEASE_MARGIN)
    else:
        claim_as(h, None if how == "fenced" else 4)
    await h.runtime.assemble(stage).work(claim)
    assert h.network.requests == []
    claim_as(h, 5)
    (again,) = await h.runtime.assemble(stage).take(1)
    await h.runtime.assemble(stage).work(again)
    assert len(h.network.requests) == 1
    tries = {row["tries"] for row in await h.rows(delivery)}
    assert tries <= {0, 1}


async def test_a_lookup_is_not_sent_under_a_claim_that_is_no_longer_ours(h: Harness) -> None:
    await h.open("kling")
    await h.runtime.assemble(Submitter).take(1)
    h.clock.advance(LONGEST_LEASE)
    (lookup,) = await h.runtime.assemble(Submitter).take(1)
    claim_as(h, None)
    await h.runtime.assemble(Submitter).work(lookup)
    assert h.network.requests == []


@pytest.mark.parametrize("stage", STAGES)
async def test_a_fenced_process_claims_nothing(h: Harness, stage: type[Any]) -> None:
    await work_for_all(h)
    claim_as(h, None)
    assert list(await h.runtime.assemble(stage).take(9)) == []
    claim_as(h, 1)
    assert len(await h.runtime.assemble(stage).take(9)) == 1


async def test_a_submission_that_was_taken_back_is_adopted_at_once(h: Harness) -> None:
    opened = await h.open("kling")
    claim_as(h, ALONE)
    await h.runtime.assemble(Submitter).take(1)
    await take_back(h)
    h.network.answer = lambda _: kling_response(legacy_task("t-9", "submitted"))
    await drive(h.runtime.assemble(Submitter))
    row = await h.job(opened["id"])
    assert (row["state"], row["vendor_task_id"], row["attempt"]) == ("submitted", "t-9", 1)
    assert [request.method for request in h.network.requests] == ["GET"]


async def test_a_submission_that_was_taken_back_is_sent_again_after_two_answers_that_count(
    h: Harness,
) -> None:
    """The first lookup follows at once: the request may still be on its way."""
    opened = await h.open("kling")
    claim_as(h, ALONE)
    await h.runtime.assemble(Submitter).take(1)
    await take_back(h)
    for methods in (["GET"], ["GET"] * 2, ["GET"] * 3):
        await drive(h.runtime.assemble(Submitter))
        assert [request.method for request in h.network.requests] == methods
        due = (await h.job(opened["id"]))["due_at"]
        h.clock.advance(9.9)
        again = await h.runtime.assemble(Submitter).take(9)
        assert (len(methods) == 3) is (len(again) == 1), due
        h.clock.advance(0.1)
    assert again[0].fresh


async def test_without_a_lookup_a_submission_that_was_taken_back_waits_for_its_push(
    h: Harness,
) -> None:
    opened = await h.open("dreamto")
    claim_as(h, ALONE)
    await h.runtime.assemble(Submitter).take(1)
    await take_back(h)
    await drive(h.runtime.assemble(Submitter))
    waiting = await h.job(opened["id"])
    assert (waiting["state"], waiting["due_at"]) == ("submitting", after(h.clock.now(), 600))
    assert h.network.requests == []


async def test_a_claim_that_was_taken_back_finishes_nothing(h: Harness) -> None:
    opened = await h.open("kling")
    claim_as(h, ALONE)
    stage = h.runtime.assemble(Submitter)
    (claim,) = await stage.take(1)
    await take_back(h)
    await stage.give_back([claim])
    assert (await h.job(opened["id"]))["state"] == JobState.SUBMITTING


async def test_a_start_on_sqlite_takes_everything_back(tmp_path: Path) -> None:
    for expected in (0, 3):
        async with open_harness(tmp_path, accounts=ACCOUNTS) as h:
            if not expected:
                await work_for_all(h)
            now = h.clock.now()
            await h.runtime.assemble(Recovery).start()
            for stage in STAGES:
                await h.runtime.assemble(stage).take(9)
            h.clock.advance(0)
            found = [*await h.rows(job), *await h.rows(delivery)]
            claimed = [row for row in found if row["claimed_by"] == ALONE]
            assert len(claimed) >= 3
            assert all(row["due_at"] > now for row in claimed)
            assert {row["lease"] for row in claimed} == ({1} if not expected else {3})


@pytest.mark.parametrize("seed", range(3))
async def test_a_process_is_named_only_while_its_claim_lasts(h: Harness, seed: int) -> None:
    """Random work of every kind. A claim lasts until the row is due at another time."""
    rng, claimed = random.Random(seed), dict[str, Any]()
    claim_as(h, 5)
    await subscribe(h)
    job_ids = [(await h.open("kling", deadline_at=after(h.clock.now(), 900)))["id"]
               for _ in range(4)]  # fmt: skip
    numbers = itertools.count(1)
    for _ in range(40):
        await one_step(h, rng, rng.choice(job_ids), next(numbers))
        for row in [*await h.rows(job), *await h.rows(delivery)]:
            if row["claimed_by"] is None:
                claimed.pop(row["id"], None)
                continue
            assert row["claimed_by"] == 5
            assert row["due_at"] is not None
            known = claimed.setdefault(row["id"], (row["lease"], row["due_at"]))
            if known[0] == row["lease"]:
                assert known[1] == row["due_at"], row
            claimed[row["id"]] = row["lease"], row["due_at"]
            assert row["state"] not in FINAL


async def one_step(h: Harness, rng: random.Random, job_id: str, number: int) -> None:
    """Do one thing that claims rows, ends claims, or changes rows meanwhile."""
    stage, ledger = h.runtime.assemble(rng.choice(STAGES)), h.runtime.ledger
    write, now = h.runtime.store.write, h.clock.now()
    answers: tuple[Callable[[httpx.Request], httpx.Response], ...] = (
        lambda _: kling_response(legacy_task(f"t-{number}", "processing")),
        lambda _: task_not_found(),
        lambda _: httpx.Response(500),
    )
    h.network.answer = rng.choice(answers)
    match rng.randrange(8):
        case 0 | 1:
            for claim in await stage.take(rng.randint(1, 4)):
                if rng.random() < 0.7:
                    await stage.work(claim)
        case 2:
            await stage.give_back(await stage.take(2))
        case 3:
            states = (JobState.PROCESSING, JobState.PROCESSING, JobState.SUCCEEDED)
            await report_state(h, job_id, rng.choice(states), Source.PUSH, progress=number % 99)
        case 4 if (await h.job(job_id))["state"] in AT_VENDOR:
            await write(rng.choice((ledger.poll_now, ledger.poll_soon)), [job_id], now)
        case 5:
            await take_back(h, rng.choice((5, 6)))
        case 6:
            await h.runtime.assemble(Expiry).run()
        case _:
            h.clock.advance(rng.choice((1, 10, 60, 110)))
