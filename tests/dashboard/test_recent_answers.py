"""Answers of the API that open pages share: two questions a second, however many look again."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from orchestrator.api.auth.api_keys import Scope
from orchestrator.dashboard import recent_answers
from orchestrator.dashboard.recent_answers import Answer, Question, RecentAnswers
from tests.harness.readers import dashboard
from tests.harness.runtime import ManualClock

QUESTION = Question("read", "/v1/jobs", "")


async def test_a_question_is_asked_once_in_half_a_second() -> None:
    clock, asked = ManualClock(), 0
    recent = RecentAnswers(clock)

    async def ask() -> Answer:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0)
        return Answer(200, str(asked).encode())

    first = await asyncio.gather(*(recent.get(QUESTION, ask) for _ in range(1000)))
    assert set(first) == {Answer(200, b"1")}
    assert await recent.get(QUESTION._replace(scope="admin"), ask) == Answer(200, b"2")
    clock.advance(1.1)
    assert await recent.get(QUESTION, ask) == Answer(200, b"3")


async def test_a_reader_who_leaves_takes_the_answer_from_no_other() -> None:
    recent, may_go_on = RecentAnswers(ManualClock()), asyncio.Event()

    async def ask() -> Answer:
        await may_go_on.wait()
        return Answer(200, b"{}")

    leaves, stays = (asyncio.create_task(recent.get(QUESTION, ask)) for _ in range(2))
    await asyncio.sleep(0)
    leaves.cancel()
    may_go_on.set()
    assert await stays == Answer(200, b"{}")
    with pytest.raises(asyncio.CancelledError):
        await leaves


async def test_only_a_page_that_looks_again_shares_an_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recent_answers, "_SHARED", 60.0)
    async with dashboard(tmp_path) as pages, pages.reader(Scope.READ) as reader:
        again = {"hx-request": "true"}
        await reader.http.get("/dashboard/jobs", headers=again)
        job = await pages.api.open()
        shared = await reader.http.get("/dashboard/jobs", headers=again)
        assert job["id"] not in shared.text
        assert job["id"] in (await reader.http.get("/dashboard/jobs")).text
        pages.api.clock.advance(61)
        assert job["id"] in (await reader.http.get("/dashboard/jobs", headers=again)).text
