"""Slack: every message passes Slack's own models, and no text of others can mention anyone."""

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
from tests.events.test_destinations import FAILED, FLAWS, JOB, SUBSCRIBER, http, message, target

PAGE = "https://orchestrator.example.com/dashboard/shared/a.b"


def slack(
    kind: str = "job.succeeded", data: Mapping[str, Any] = JOB, page: str | None = PAGE
) -> dict[str, Any]:
    """Return a message as sent, after Slack's own models have accepted it."""
    sent: dict[str, Any] = json.loads(
        http("slack").request(target(), message(kind, data, job_page=page)).content
    )
    blocks = Block.parse_all(sent["blocks"])
    assert [block.to_dict() for block in blocks] == sent["blocks"]
    assert sent["text"]
    assert len(json.dumps(sent["blocks"])) < 13_000
    return sent


@pytest.mark.parametrize("event", list(EventType))
@pytest.mark.parametrize("data", [JOB, FAILED, SUBSCRIBER, *FLAWS])
def test_slacks_own_models_accept_every_message(event: str, data: dict[str, Any]) -> None:
    sent = slack(event, data)
    assert sent["unfurl_links"] is sent["unfurl_media"] is False


def test_characters_that_no_reader_can_see_are_left_out() -> None:
    hidden = "\u202e\u2066\u200b\u200d\u2060\ufeff\u00ad\u061c\U000e0041\u3164\x07"
    prompt = f"a{hidden} cat{hidden}{hidden}"
    job = {**JOB, "input": {"prompt": prompt, "resolution": hidden}, "model": f"m{hidden}1"}
    sent = slack(data=job)
    assert not any(character in json.dumps(sent, ensure_ascii=False) for character in hidden)
    assert "a cat" in sent["text"]


def test_a_ready_video_has_buttons_for_the_video_and_the_timeline() -> None:
    sent = slack()
    (actions,) = [block for block in sent["blocks"] if block["type"] == "actions"]
    assert [(button["text"]["text"], button["url"]) for button in actions["elements"]] == [
        ("Watch video", "https://cdn/v.mp4"),
        ("Timeline", PAGE),
    ]
    assert "a cat surfing" in sent["text"]
    whole = json.dumps(sent, ensure_ascii=False)
    details = ("kling-v3", "cloudsway", "5.041 s · 1080p", "2 min 14 s (push)", "https://cdn/v.jpg")
    assert all(text in whole for text in details)
    assert "<!date^1795219200^{date_short_pretty} {time}|2026-11-21 00:00 UTC>" in whole


def test_no_button_leads_to_a_page_that_needs_a_key() -> None:
    text = json.dumps(slack(page=None))
    assert "Timeline" not in text
    assert JOB["links"]["timeline"] not in text


def test_a_failure_shows_its_error() -> None:
    assert "*vendor_failed*: &lt;!here&gt; no" in json.dumps(slack("job.failed", FAILED))


@pytest.mark.parametrize(
    ("kind", "data", "text"),
    [
        (
            "account.unauthorized",
            {"name": "main", "reason": "unauthorized", "message": "kling answered 401"},
            "⛔ The vendor refuses the key of account main; its jobs wait — kling answered 401",
        ),
        (
            "account.recovered",
            {"name": "a{b}<", "reason": "paused", "message": "all is well"},
            "✅ The vendor accepts jobs of account a{b}&lt; again — all is well",
        ),
        (
            "subscriber.failing",
            {"id": "sub_1", "url": "https://app.example/hook", "disabled_reason": None},
            "⚠️ Deliveries to https://app.example/hook fail; they are retried — sub_1",
        ),
    ],
)
def test_a_notice_reads_as_a_sentence(kind: str, data: dict[str, Any], text: str) -> None:
    assert slack(kind, data)["text"] == text


def test_a_url_that_slack_refuses_gets_no_button() -> None:
    video = {"url": "https://cdn/" + "v" * 3000, "duration": None, "expires_at": None}
    job = JOB | {"output": {"videos": [video], "images": [{"url": "javascript:alert(1)"}]}}
    assert "Watch video" not in json.dumps(slack(data=job))
    assert "javascript" not in json.dumps(slack(data=job))


HOSTILE = st.one_of(
    st.text(max_size=4000),
    st.lists(
        st.sampled_from(
            ["<!channel>", "<@U1>", "<", "&", ">", "\n", "a", "*", "_", "~", "`", " ", "_b_"]
        )
    ).map("".join),
)


@given(HOSTILE, HOSTILE)
def test_no_prompt_mentions_anyone_or_breaks_the_layout(prompt: str, why: str) -> None:
    job = FAILED | {
        "input": {"prompt": prompt},
        "error": {"code": "vendor_failed", "message": why},
        "model": why,
    }
    sent = slack("job.failed", job)
    texts = [sent["text"], *_texts(sent["blocks"])]
    assert not any(re.search(r"<(?!!date\^)", text) for text in texts)
    # What is bold is ours; the rest has no emphasis and no code.
    plain = [re.sub(r"(?m)^\*([^*\n]*)\*", r"\1", text) for text in texts]
    assert not any(re.search(r"[*~`]|(?<!\w)_(?=\w)", text) for text in plain)


def _texts(value: Any) -> list[str]:
    """Return every text that Slack reads as mrkdwn, each of which must be verbatim."""
    if isinstance(value, list):
        return [text for item in value for text in _texts(item)]
    if not isinstance(value, dict):
        return []
    if value.get("type") == "mrkdwn":
        assert value["verbatim"] is True
        return [value["text"]]
    return [text for item in value.values() for text in _texts(item)]


@pytest.mark.parametrize("status", [403, 404, 410])
def test_a_deleted_slack_webhook_is_gone(status: int) -> None:
    response = httpx.Response(status, text="no_service")
    assert http("slack").classify_response(response) is ResponseClass.GONE
