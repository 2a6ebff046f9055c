"""Pings: whoever holds our keys learns that a URL leads to us, and nobody learns anything else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from orchestrator.app import application
from orchestrator.foundation.errors import BadToken
from orchestrator.foundation.signing import callback_probe
from orchestrator.foundation.signing.secret_keys import Callback, Keys
from tests.harness.runtime import Harness, open_harness

AT = datetime(2026, 11, 20, 10, tzinfo=UTC)
KEYS = Keys(["one long random text of thirty-two"])
OTHERS = Keys(["another long random text of thirty"])


def test_only_the_same_keys_answer_a_ping_and_only_for_a_while() -> None:
    token = callback_probe.ping(KEYS, "nonce", AT)
    answer = callback_probe.pong(KEYS, token, AT)
    assert callback_probe.is_answered(KEYS, "nonce", answer, AT)
    assert not callback_probe.is_answered(KEYS, "another", answer, AT)
    assert not callback_probe.is_answered(OTHERS, "nonce", answer, AT)
    assert not callback_probe.is_answered(KEYS, "nonce", token, AT), "a ping is no answer to itself"
    assert not callback_probe.is_answered(KEYS, "nonce", "", AT)
    with pytest.raises(BadToken):
        callback_probe.pong(OTHERS, token, AT)
    with pytest.raises(BadToken):
        callback_probe.pong(KEYS, token, AT + timedelta(minutes=6))
    with pytest.raises(BadToken):
        callback_probe.pong(KEYS, answer, AT)


async def posted(it: Harness, path: str) -> httpx.Response:
    transport = httpx.ASGITransport(application(it.runtime))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        return await http.post(path, json={"task_id": "1"})


async def test_the_door_answers_pings_of_ours_and_strangers_as_ever(tmp_path: Path) -> None:
    async with open_harness(tmp_path) as it:
        now = it.clock.now()
        said = await posted(
            it, f"/callbacks/PING/{callback_probe.ping(it.runtime.keys, 'nonce', now)}"
        )
        assert said.status_code == 200
        assert callback_probe.is_answered(it.runtime.keys, "nonce", said.json()["pong"], now)
        job = it.runtime.keys.mint("main", Callback("job_1", 1), now + timedelta(days=1))
        strange = [
            "/callbacks/main/nonsense",
            "/callbacks/nobody/nonsense",
            "/callbacks/PING/nonsense",
            f"/callbacks/PING/{callback_probe.ping(OTHERS, 'nonce', now)}",
            f"/callbacks/PING/{job}",
            f"/callbacks/main/{callback_probe.ping(it.runtime.keys, 'nonce', now)}",
            f"/callbacks/PONG/{said.json()['pong']}",
        ]
        answers = [await posted(it, path) for path in strange]
        assert {(one.status_code, one.content, str(one.headers)) for one in answers} == {
            (404, answers[0].content, str(answers[0].headers))
        }
        assert await it.rows("push") == []
