"""Pushes that stop, and somebody who notices."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.database.tables import account_state
from orchestrator.foundation.states import JobState, Source
from orchestrator.jobs.push_health import MISSED_IN_A_ROW
from tests.harness.engine import at_vendor, event_bodies, event_types, report_state
from tests.harness.runtime import Harness, open_harness

NAMED = ("account.push_degraded", "account.push_recovered")


async def ends(h: Harness, source: Source, count: int, account: str = "main") -> None:
    """Let that many jobs end, each told of by `source`."""
    for _ in range(count):
        job = await at_vendor(h, account, task=h.runtime.ids("job"))
        await report_state(h, job["id"], JobState.SUCCEEDED, source)


async def about(h: Harness, account: str = "main") -> dict[str, Any]:
    (row,) = await h.rows(account_state, account_state.c.account == account)
    return row


async def said(h: Harness) -> list[str]:
    return [kind for kind in await event_types(h) if kind in NAMED]


async def test_three_completions_without_a_push_are_told_once(h: Harness) -> None:
    await ends(h, Source.POLL, MISSED_IN_A_ROW - 1)
    assert await said(h) == []
    await ends(h, Source.POLL, 4)
    assert await said(h) == ["account.push_degraded"]
    assert (await about(h))["pushes_missed"] == MISSED_IN_A_ROW + 3
    told = next(body for body in await event_bodies(h) if body["type"] == "account.push_degraded")
    assert told["data"] == {
        "object": "account",
        "name": "main",
        "completions_without_push": MISSED_IN_A_ROW,
    }


async def test_one_push_between_them_starts_the_count_again(h: Harness) -> None:
    await ends(h, Source.POLL, MISSED_IN_A_ROW - 1)
    await ends(h, Source.PUSH, 1)
    await ends(h, Source.POLL, MISSED_IN_A_ROW - 1)
    assert await said(h) == []
    assert (await about(h))["pushes_missed"] == 2 * (MISSED_IN_A_ROW - 1)


async def test_the_first_push_after_the_silence_is_told(h: Harness) -> None:
    await ends(h, Source.POLL, MISSED_IN_A_ROW)
    job = await at_vendor(h, task="t-last")
    await report_state(h, job["id"], JobState.PROCESSING, Source.PUSH)
    assert await said(h) == ["account.push_degraded", "account.push_recovered"]
    assert not (await about(h))["degraded"]
    await ends(h, Source.POLL, MISSED_IN_A_ROW)
    assert (await said(h))[2:] == ["account.push_degraded"]


@pytest.mark.parametrize("source", [Source.CLOCK, Source.OPERATOR, Source.SUBMIT, Source.LOOKUP])
async def test_only_a_question_that_found_the_end_counts_as_missed(
    h: Harness, source: Source
) -> None:
    await ends(h, source, MISSED_IN_A_ROW)
    assert (await about(h))["pushes_missed"] == 0


async def test_progress_found_by_asking_is_not_a_missed_push(h: Harness) -> None:
    for number in range(MISSED_IN_A_ROW):
        job = await at_vendor(h, task=f"t-{number}")
        await report_state(h, job["id"], JobState.PROCESSING, Source.POLL)
    assert (await about(h))["pushes_missed"] == 0


async def test_a_dialect_without_pushes_is_never_silent_and_accounts_do_not_mix(
    tmp_path: Path,
) -> None:
    accounts = {
        "main": {"vendor": "agentsflare", "api_key": "k"},
        "mute": {"vendor": "uniall", "api_key": "k", "base_url": "https://gw.example.com"},
    }
    async with open_harness(tmp_path, accounts=accounts) as h:
        await ends(h, Source.POLL, MISSED_IN_A_ROW, "mute")
        await ends(h, Source.POLL, MISSED_IN_A_ROW - 1)
        assert await said(h) == []
        assert (await about(h, "mute"))["pushes_missed"] == 0
        assert (await about(h))["pushes_missed"] == MISSED_IN_A_ROW - 1
