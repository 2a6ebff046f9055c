"""Callback probes: a holder of the keys learns that a URL leads here; others learn nothing."""

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


def test_a_ping_is_answered_only_with_the_same_keys_and_only_for_five_minutes() -> None:
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


async def posted(harness: Harness, path: str) -> httpx.Response:
    transport = httpx.ASGITransport(application(harness.runtime))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        return await http.post(path, json={"task_id": "1"})


async def test_the_callback_endpoint_answers_our_pings_and_404_to_all_others(
    tmp_path: Path,
) -> None:
    async with open_harness(tmp_path) as harness:
        now = harness.clock.now()
        response = await posted(
            harness, f"/callbacks/PING/{callback_probe.ping(harness.runtime.keys, 'nonce', now)}"
        )
        assert response.status_code == 200
        assert callback_probe.is_answered(
            harness.runtime.keys, "nonce", response.json()["pong"], now
        )
        job = harness.runtime.keys.mint("main", Callback("job_1", 1), now + timedelta(days=1))
        paths = [
            "/callbacks/main/nonsense",
            "/callbacks/nobody/nonsense",
            "/callbacks/PING/nonsense",
            f"/callbacks/PING/{callback_probe.ping(OTHERS, 'nonce', now)}",
            f"/callbacks/PING/{job}",
            f"/callbacks/main/{callback_probe.ping(harness.runtime.keys, 'nonce', now)}",
            f"/callbacks/PONG/{response.json()['pong']}",
        ]
        answers = [await posted(harness, path) for path in paths]
        assert {
            (answer.status_code, answer.content, str(answer.headers)) for answer in answers
        } == {(404, answers[0].content, str(answers[0].headers))}
        assert await harness.rows("push") == []
