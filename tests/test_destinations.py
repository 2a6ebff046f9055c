"""The Destination contract, held by every kind; then each kind's own promises."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from slack_sdk.models.blocks import Block
from standardwebhooks.webhooks import Webhook as Oracle

from orchestrator import __version__, destinations, signing
from orchestrator.destinations import Destination, Message, Verdict
from orchestrator.errors import ConfigError
from orchestrator.states import EventType

KINDS = destinations.load()
ALL = pytest.mark.parametrize("kind", sorted(KINDS))
SECRET = "whsec_" + base64.b64encode(b"s" * 32).decode()
OLDER = "whsec_" + base64.b64encode(b"o" * 32).decode()
ADDRESS = "https://hooks.example.com/T0/B0/secret"
JOB: dict[str, Any] = {
    "id": "job_01kb7x3m5tf6a8r2w9n4c1d0eh",
    "object": "job",
    "status": "succeeded",
    "vendor": "cloudsway",
    "model": "kling-v3",
    "input": {"prompt": "a cat surfing", "resolution": "1080p"},
    "output": {
        "videos": [{"url": "https://cdn/v.mp4", "duration": 5.041, "expires_at": "2026-11-21T00:00:00.000Z"}],
        "images": [{"url": "https://cdn/v.jpg"}],
    },
    "error": None,
    "resolved_by": "push",
    "created_at": "2026-11-20T10:00:00.000Z",
    "finished_at": "2026-11-20T10:02:14.000Z",
    "links": {"timeline": "https://orchestrator.example.com/v1/jobs/job_1/timeline"},
}
FAILED = JOB | {"output": None, "error": {"code": "vendor_failed", "message": "<!here> no"}}
SUBSCRIBER = {"id": "sub_1", "kind": "webhook", "url": "https://a/b", "disabled_reason": "410"}
FLAWS: list[dict[str, Any]] = [{}, {"id": None, "input": None, "output": {}, "links": None}, {"name": "main"}]


def message(kind: str = "job.succeeded", data: Mapping[str, Any] = JOB, **values: Any) -> Message:
    event = {"type": kind, "timestamp": "2026-11-20T10:02:14.000Z", "id": "evt_1", "sequence": 3, "data": dict(data)}
    at = datetime(2026, 11, 20, 10, 2, 15, 900_000, tzinfo=UTC)
    return Message("evt_1", kind, json.dumps(event, separators=(",", ":")).encode(), event, at, **values)


def test_the_folder_is_the_registry() -> None:
    assert {"webhook", "slack"} <= KINDS.keys()
    assert all(isinstance(one, Destination) and one.kind == kind for kind, one in KINDS.items())


@ALL
@pytest.mark.parametrize("event", list(EventType))
@pytest.mark.parametrize("data", [JOB, FAILED, SUBSCRIBER, *FLAWS])
def test_every_event_becomes_one_post_of_json_to_the_address(kind: str, event: str, data: dict[str, Any]) -> None:
    request = KINDS[kind].request(ADDRESS, message(event, data), [SECRET])
    assert (request.method, str(request.url)) == ("POST", ADDRESS)
    assert "json" in request.headers["content-type"]
    assert request.headers["user-agent"] == f"orchestrator/{__version__}"
    json.loads(request.content)


@ALL
def test_signed_kinds_sign_and_others_do_not(kind: str) -> None:
    request = KINDS[kind].request(ADDRESS, message(), [SECRET])
    assert ("webhook-signature" in request.headers) == KINDS[kind].signed


@ALL
@pytest.mark.parametrize(
    ("status", "verdict"),
    [(200, "delivered"), (204, "delivered"), (301, "shortly"), (400, "shortly"), (408, "later"), (410, "gone"),
     (425, "later"), (429, "later"), (500, "later"), (503, "later")],
)  # fmt: skip
def test_what_statuses_mean_to_every_kind(kind: str, status: int, verdict: str) -> None:
    assert KINDS[kind].judge(httpx.Response(status)) == verdict


@ALL
def test_an_option_nobody_knows_is_refused(kind: str) -> None:
    with pytest.raises(ConfigError, match="colour"):
        KINDS[kind].check_options({"colour": "red"})
    for name, words in KINDS[kind].options.items():
        KINDS[kind].check_options({name: words[0]})


@ALL
@given(st.text(max_size=6000), st.text(max_size=6000))
def test_no_text_breaks_a_request(kind: str, prompt: str, why: str) -> None:
    job = JOB | {"input": {"prompt": prompt}, "error": {"code": why, "message": why}, "model": why}
    json.loads(KINDS[kind].request(ADDRESS, message("job.failed", job), [SECRET]).content)


# -- webhook


@pytest.mark.parametrize("options", [{}, {"format": "standard"}, {"format": "cloudevents"}])
@pytest.mark.parametrize("verifier", [SECRET, OLDER])
def test_the_public_library_verifies_with_the_new_and_the_old_secret(options: dict[str, str], verifier: str) -> None:
    sent = message(options=options)
    request = KINDS["webhook"].request(ADDRESS, sent, [SECRET, OLDER])
    headers = dict(request.headers)
    assert signing.verify([verifier], headers, request.content, now=sent.at)
    assert headers["webhook-id"] == "evt_1"
    assert headers["webhook-timestamp"] == str(int(sent.at.timestamp()))
    assert len(headers["webhook-signature"].split(" ")) == 2
    assert Oracle(verifier).sign("evt_1", sent.at, request.content.decode()) in headers["webhook-signature"]


def test_the_body_is_the_event_byte_for_byte() -> None:
    request = KINDS["webhook"].request(ADDRESS, message(), [SECRET])
    assert request.content == message().body
    assert request.headers["content-type"] == "application/json"


def test_a_subscribers_headers_travel_but_replace_nothing_of_ours() -> None:
    mine = {"Authorization": "Bearer x", "X-Team": "video"}
    theirs = {"Webhook-Id": "evil", "HOST": "evil", "Content-Type": "evil", "content-length": "1", "User-Agent": "evil"}
    request = KINDS["webhook"].request(ADDRESS, message(headers=mine | theirs), [SECRET])
    assert request.headers["authorization"] == "Bearer x"
    assert request.headers["x-team"] == "video"
    assert "evil" not in str(request.headers.multi_items())
    assert request.headers["host"] == "hooks.example.com"
    assert int(request.headers["content-length"]) == len(request.content)


def test_a_cloudevent_says_the_same_in_its_own_envelope() -> None:
    request = KINDS["webhook"].request(ADDRESS, message(options={"format": "cloudevents"}), [SECRET])
    said = json.loads(request.content)
    assert request.headers["content-type"] == "application/cloudevents+json"
    assert said == {
        "specversion": "1.0",
        "id": "evt_1",
        "source": "orchestrator",
        "type": "job.succeeded",
        "time": "2026-11-20T10:02:14.000Z",
        "subject": JOB["id"],
        "datacontenttype": "application/json",
        "data": JOB,
    }


# -- slack


def slack(kind: str = "job.succeeded", data: Mapping[str, Any] = JOB) -> dict[str, Any]:
    """Return a message as Slack gets it, after Slack's own models found nothing wrong with it."""
    said: dict[str, Any] = json.loads(KINDS["slack"].request(ADDRESS, message(kind, data), []).content)
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
    for words in ("kling-v3", "cloudsway", "5.041 s · 1080p", "2 min 14 s (push)", "https://cdn/v.jpg"):
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
    st.text(max_size=4000), st.lists(st.sampled_from(["<!channel>", "<@U1>", "<", "&", ">", "\n", "a"])).map("".join)
)


@given(HOSTILE, HOSTILE)
def test_no_prompt_mentions_anybody_or_breaks_the_layout(prompt: str, why: str) -> None:
    job = FAILED | {"input": {"prompt": prompt}, "error": {"code": "vendor_failed", "message": why}, "model": why}
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


@pytest.mark.parametrize(("status", "verdict"), [(403, Verdict.GONE), (404, Verdict.GONE), (410, Verdict.GONE)])
def test_a_webhook_that_slack_knows_no_more_is_gone(status: int, verdict: Verdict) -> None:
    assert KINDS["slack"].judge(httpx.Response(status, text="no_service")) is verdict
