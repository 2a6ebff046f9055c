"""Push health: completions without a push degrade an account, and a push recovers it."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.database.tables import account_state
from orchestrator.foundation.clock import after
from orchestrator.foundation.states import JobState, Source
from orchestrator.jobs import push_health
from orchestrator.jobs.push_health import RECENT
from orchestrator.jobs.query_economy import MISSED_IN_A_ROW
from tests.harness.engine import at_vendor, event_bodies, event_types, report_state
from tests.harness.runtime import Harness, open_harness

PUSH_HEALTH = ("account.push_degraded", "account.push_recovered")


async def ends(h: Harness, source: Source, count: int, account: str = "main") -> None:
    """Let `count` jobs succeed, each reported by `source`."""
    for _ in range(count):
        job = await at_vendor(h, account, task=h.runtime.ids("job"))
        await report_state(h, job["id"], JobState.SUCCEEDED, source)


async def published(h: Harness) -> list[str]:
    return [kind for kind in await event_types(h) if kind in PUSH_HEALTH]


async def test_three_completions_without_a_push_are_announced_once(h: Harness) -> None:
    await ends(h, Source.POLL, MISSED_IN_A_ROW - 1)
    assert await published(h) == []
    await ends(h, Source.POLL, 4)
    assert await published(h) == ["account.push_degraded"]
    assert (await h.account())["pushes_missed"] == MISSED_IN_A_ROW + 3
    degraded = next(
        body for body in await event_bodies(h) if body["type"] == "account.push_degraded"
    )
    assert degraded["data"] == {
        "object": "account",
        "name": "main",
        "completions_without_push": MISSED_IN_A_ROW,
    }


async def test_a_completion_by_push_restarts_the_count(h: Harness) -> None:
    await ends(h, Source.POLL, MISSED_IN_A_ROW - 1)
    await ends(h, Source.PUSH, 1)
    await ends(h, Source.POLL, MISSED_IN_A_ROW - 1)
    assert await published(h) == []
    assert (await h.account())["pushes_missed"] == 2 * (MISSED_IN_A_ROW - 1)


@pytest.mark.parametrize(
    ("ended", "counts"),
    [
        (-10.0, False),
        (10.0, True),
        # By a clock that is wrong: long ago, or to come.
        (-90_000.0, True),
        (90_000.0, True),
        (None, True),
    ],
)
async def test_ends_before_the_last_push_do_not_show_that_pushes_have_stopped(
    h: Harness, ended: float | None, counts: bool
) -> None:
    """A query finds lost ones together that pushed ones lay between."""
    jobs = [await at_vendor(h, task=f"t-{n}") for n in range(2 * MISSED_IN_A_ROW)]
    h.clock.advance(60)
    pushed_at = h.clock.now()
    await h.run(account_state.update().values(last_push_at=pushed_at))
    h.clock.advance(60)
    updated = None if ended is None else after(pushed_at, ended)
    for job in jobs:
        await report_state(h, job["id"], JobState.SUCCEEDED, Source.POLL, updated_at=updated)
    assert (await h.account())["pushes_missed"] == len(jobs)
    assert (await published(h) == ["account.push_degraded"]) is counts


async def test_pushes_of_the_last_seconds_show_that_pushes_arrive(h: Harness) -> None:
    jobs = [await at_vendor(h, task=f"t-{n}") for n in range(2 * MISSED_IN_A_ROW)]
    h.clock.advance(60)
    await h.run(account_state.update().values(last_push_at=h.clock.now()))
    h.clock.advance(1)
    for job in jobs:
        await report_state(h, job["id"], JobState.SUCCEEDED, Source.POLL)
    assert await published(h) == []
    # Those that were submitted since.
    await ends(h, Source.POLL, MISSED_IN_A_ROW)
    assert await published(h) == ["account.push_degraded"]


async def test_the_first_push_after_a_degradation_is_announced(h: Harness) -> None:
    await ends(h, Source.POLL, MISSED_IN_A_ROW)
    job = await at_vendor(h, task="t-last")
    await report_state(h, job["id"], JobState.PROCESSING, Source.PUSH)
    assert await published(h) == ["account.push_degraded", "account.push_recovered"]
    assert not (await h.account())["degraded"]
    await ends(h, Source.POLL, MISSED_IN_A_ROW)
    assert (await published(h))[2:] == ["account.push_degraded"]


async def test_a_degradation_is_history_without_a_recent_job_or_one_in_flight(h: Harness) -> None:
    async def is_current() -> bool:
        return await h.runtime.store.read(push_health.is_current, "main", h.clock.now())

    assert not await is_current(), "it never had a job"
    job = await at_vendor(h)
    h.clock.advance(2 * RECENT)
    assert await is_current(), "one is in flight"
    await report_state(h, job["id"], JobState.SUCCEEDED, Source.POLL)
    assert not await is_current()
    await ends(h, Source.POLL, 1)
    h.clock.advance(RECENT - 1)
    assert await is_current()
    h.clock.advance(2)
    assert not await is_current()


@pytest.mark.parametrize("source", [Source.CLOCK, Source.OPERATOR, Source.SUBMIT, Source.LOOKUP])
async def test_only_an_end_found_by_polling_counts_as_a_missed_push(
    h: Harness, source: Source
) -> None:
    await ends(h, source, MISSED_IN_A_ROW)
    assert (await h.account())["pushes_missed"] == 0


async def test_progress_found_by_polling_is_not_a_missed_push(h: Harness) -> None:
    for number in range(MISSED_IN_A_ROW):
        job = await at_vendor(h, task=f"t-{number}")
        await report_state(h, job["id"], JobState.PROCESSING, Source.POLL)
    assert (await h.account())["pushes_missed"] == 0


async def test_a_dialect_without_pushes_never_degrades_and_accounts_are_counted_separately(
    tmp_path: Path,
) -> None:
    accounts = {
        "main": {"vendor": "agentsflare", "api_key": "k"},
        "mute": {"vendor": "uniall", "api_key": "k", "base_url": "https://gw.example.com"},
    }
    async with open_harness(tmp_path, accounts=accounts) as h:
        await ends(h, Source.POLL, MISSED_IN_A_ROW, "mute")
        await ends(h, Source.POLL, MISSED_IN_A_ROW - 1)
        assert await published(h) == []
        assert (await h.account("mute"))["pushes_missed"] == 0
        assert (await h.account())["pushes_missed"] == MISSED_IN_A_ROW - 1
