"""Slack: every message passes Slack's own models, and nothing that was written outside can mention anybody."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from slack_sdk.models.blocks import Block

from orchestrator.events.destinations import ResponseClass
from orchestrator.foundation.states import EventType
from tests.events.test_destinations import ADDRESS, FAILED, FLAWS, JOB, KINDS, SUBSCRIBER, message


def slack(kind: str = "job.succeeded", data: Mapping[str, Any] = JOB) -> dict[str, Any]:
    """Return a message as Slack gets it, after Slack's own models found nothing wrong with it."""
    said: dict[str, Any] = json.loads(
        KINDS["slack"].request(ADDRESS, message(kind, data), []).content
    )
    blocks = Block.parse_all(said["blocks"])
    assert [block.to_dict() for block in blocks] == said["blocks"]
    assert said["text"]
    assert len(json.dumps(said["blocks"])) < 13_000
    return said


@pytest.mark.parametrize("event", list(EventType))
@pytest.mark.parametrize("data", [JOB, FAILED, SUBSCRIBER, *FLAWS])
def test_slacks_own_models_accept_every_message(event: str, data: dict[str, Any]) -> None:
    said = slack(event, data)
    assert said["unfurl_links"] is said["unfurl_media"] is False


def test_a_ready_video_can_be_watched_and_looked_into() -> None:
    said = slack()
    (actions,) = [block for block in said["blocks"] if block["type"] == "actions"]
    assert [(one["text"]["text"], one["url"]) for one in actions["elements"]] == [
        ("Watch video", "https://cdn/v.mp4"),
        ("Timeline", "https://orchestrator.example.com/v1/jobs/job_1/timeline"),
    ]
    assert "a cat surfing" in said["text"]
    whole = json.dumps(said, ensure_ascii=False)
    for words in (
        "kling-v3",
        "cloudsway",
        "5.041 s · 1080p",
        "2 min 14 s (push)",
        "https://cdn/v.jpg",
    ):
        assert words in whole
    assert "<!date^1795219200^{date_short_pretty} {time}|2026-11-21 00:00 UTC>" in whole


def test_a_failure_says_why() -> None:
    assert "*vendor_failed*: &lt;!here&gt; no" in json.dumps(slack("job.failed", FAILED))


def test_an_url_that_slack_would_refuse_gets_no_button() -> None:
    video = {"url": "https://cdn/" + "v" * 3000, "duration": None, "expires_at": None}
    job = JOB | {"output": {"videos": [video], "images": [{"url": "javascript:alert(1)"}]}}
    assert "Watch video" not in json.dumps(slack(data=job))
    assert "javascript" not in json.dumps(slack(data=job))


HOSTILE = st.one_of(
    st.text(max_size=4000),
    st.lists(st.sampled_from(["<!channel>", "<@U1>", "<", "&", ">", "\n", "a"])).map("".join),
)


@given(HOSTILE, HOSTILE)
def test_no_prompt_mentions_anybody_or_breaks_the_layout(prompt: str, why: str) -> None:
    job = FAILED | {
        "input": {"prompt": prompt},
        "error": {"code": "vendor_failed", "message": why},
        "model": why,
    }
    said = slack("job.failed", job)
    texts = [said["text"], *_texts(said["blocks"])]
    assert not any(re.search(r"<(?!!date\^)", text) for text in texts)


def _texts(value: Any) -> list[str]:
    """Return every text that Slack reads as mrkdwn, each of which must be verbatim."""
    if isinstance(value, list):
        return [text for one in value for text in _texts(one)]
    if not isinstance(value, dict):
        return []
    if value.get("type") == "mrkdwn":
        assert value["verbatim"] is True
        return [value["text"]]
    return [text for one in value.values() for text in _texts(one)]


@pytest.mark.parametrize(
    ("status", "verdict"),
    [(403, ResponseClass.GONE), (404, ResponseClass.GONE), (410, ResponseClass.GONE)],
)
def test_a_webhook_that_slack_knows_no_more_is_gone(status: int, verdict: ResponseClass) -> None:
    assert KINDS["slack"].judge(httpx.Response(status, text="no_service")) is verdict
