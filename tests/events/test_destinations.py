"""The contract of every destination, then the promises of each kind."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook as Oracle

from orchestrator import __version__
from orchestrator.events import destinations
from orchestrator.events.destinations import Destination, HttpDestination, Message, Target, post
from orchestrator.events.destinations.webhook import is_ours
from orchestrator.foundation.settings import Settings
from orchestrator.foundation.settings.email import Email
from orchestrator.foundation.signing import standard_webhooks
from orchestrator.foundation.states import EventType

SETTINGS = Settings(
    allow_apprise=True,
    email=Email.model_validate({"smtp_url": "smtps://mail.example.com", "from": "a@example.com"}),
)
KINDS = {kind: one.configured(SETTINGS) for kind, one in destinations.load().items()}
ALL = pytest.mark.parametrize("kind", sorted(KINDS))
HTTP = pytest.mark.parametrize(
    "kind", sorted(kind for kind, one in KINDS.items() if isinstance(one, HttpDestination))
)
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
        "videos": [
            {
                "url": "https://cdn/v.mp4",
                "duration": 5.041,
                "expires_at": "2026-11-21T00:00:00.000Z",
            }
        ],
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
FLAWS: list[dict[str, Any]] = [
    {},
    {"id": None, "input": None, "output": {}, "links": None},
    {"name": "main"},
]


def message(kind: str = "job.succeeded", data: Mapping[str, Any] = JOB, **values: Any) -> Message:
    event = {
        "type": kind,
        "timestamp": "2026-11-20T10:02:14.000Z",
        "id": "evt_1",
        "sequence": 3,
        "data": dict(data),
    }
    at = datetime(2026, 11, 20, 10, 2, 15, 900_000, tzinfo=UTC)
    return Message("evt_1", kind, json.dumps(event, separators=(",", ":")).encode(), at, **values)


#: What a subscriber of a kind has to state.
OPTIONS = {"telegram": {"chat_id": "-1001234567890"}}
CREDENTIALS = {
    "telegram": {"token": "123456:AAh-not-a-real-token"},
    "pagerduty": {"routing_key": "R0UT1NGKEYR0UT1NGKEYR0UT1NGKEY00"},
    "lark": {"secret": "lark-signing-secret"},
    "dingtalk": {"secret": "SEC0123456789abcdef"},
    "ntfy": {"token": "tk_0123456789abcdef"},
    "sqs": {"access_key_id": "AKIDEXAMPLE", "secret_access_key": "wJalrXUtnFEMI"},
}


def target(kind: str = "webhook", **values: Any) -> Target:
    """Return an address with what a kind needs."""
    needed = {"options": OPTIONS.get(kind, {}), "credentials": CREDENTIALS.get(kind, {})}
    return Target(**{"address": ADDRESS, "keys": [SECRET]} | needed | values)


def http(kind: str) -> HttpDestination:
    found = KINDS[kind]
    assert isinstance(found, HttpDestination)
    return found


def test_the_folder_is_the_registry() -> None:
    assert {"webhook", "slack", "discord", "telegram"} <= KINDS.keys()
    assert all(
        isinstance(found, Destination) and found.kind == kind for kind, found in KINDS.items()
    )


@pytest.mark.parametrize(
    "address",
    [
        ADDRESS,
        "http://127.0.0.1:8080/a%2Fb?q=1",
        "https://b\u00fccher.example/",
        "http://[::1]:81/",
    ],
)
def test_a_post_equals_the_request_that_httpx_makes(address: str) -> None:
    headers, body = {"content-type": "application/json", "x-name": "1"}, b"{}"
    ours = post(address, headers, body)
    theirs = httpx.Request("POST", address, headers=headers, content=body)
    assert (ours.method, ours.url, ours.content) == (theirs.method, theirs.url, theirs.content)
    assert sorted(ours.headers.raw) == sorted(theirs.headers.raw)


@HTTP
@pytest.mark.parametrize("data", [JOB, FAILED, SUBSCRIBER, *FLAWS])
def test_every_event_becomes_one_post_of_json_to_the_address(
    kind: str, data: dict[str, Any]
) -> None:
    for event in EventType:
        request = http(kind).request(target(kind), message(event, data))
        assert (request.method, request.url.host) == ("POST", "hooks.example.com"), event
        if kind not in CREDENTIALS:
            assert str(request.url).removesuffix("?wait=true") == ADDRESS
        assert "json" in request.headers["content-type"]
        assert request.headers["user-agent"] == f"orchestrator/{__version__}"
        json.loads(request.content)


@HTTP
def test_signed_kinds_sign_and_others_do_not(kind: str) -> None:
    request = http(kind).request(target(kind), message())
    assert ("webhook-signature" in request.headers) == KINDS[kind].signed


@HTTP
def test_every_kind_classifies_statuses(kind: str) -> None:
    results = {
        200: "delivered", 204: "delivered", 301: "shortly", 400: "shortly", 408: "later",
        410: "gone", 425: "later", 429: "later", 500: "later", 503: "later",
    }  # fmt: skip
    found = {one: http(kind).classify_response(httpx.Response(one)) for one in results}
    assert found == results


@ALL
def test_options_accept_their_words_alone(kind: str) -> None:
    for option in (*KINDS[kind].options.values(), *KINDS[kind].credentials.values()):
        assert option.description.endswith(".")
        assert option.fault("\0") is not None
        assert [option.fault(word) for word in option.choices] == [None] * len(option.choices)


@ALL
def test_a_kind_recognizes_its_example_and_no_other(kind: str) -> None:
    found = KINDS[kind]
    found.check_address(found.example)
    recognized = [name for name, one in KINDS.items() if one.recognizes(found.example)]
    assert recognized in ([kind], [])
    assert not found.recognizes("https://example.com/hook")
    assert found.example.partition(":")[0] in found.schemes


@HTTP
def test_no_credential_is_sent_where_it_is_not_needed(kind: str) -> None:
    sent = http(kind).request(target(kind), message())
    for name, secret in CREDENTIALS.get(kind, {}).items():
        assert KINDS[kind].credentials[name].fault(secret) is None
        if name == "secret":
            assert secret not in f"{sent.url}{sent.headers}{sent.content!r}"


@HTTP
@given(st.text(max_size=6000), st.text(max_size=6000))
def test_no_text_breaks_a_request(kind: str, prompt: str, why: str) -> None:
    job = JOB | {"input": {"prompt": prompt}, "error": {"code": why, "message": why}, "model": why}
    json.loads(http(kind).request(target(kind), message("job.failed", job)).content)


# -- webhook


@pytest.mark.parametrize("options", [{}, {"format": "standard"}, {"format": "cloudevents"}])
@pytest.mark.parametrize("verifier", [SECRET, OLDER])
def test_the_public_library_verifies_with_the_new_and_the_old_secret(
    options: dict[str, str], verifier: str
) -> None:
    sent = message()
    request = http("webhook").request(target(keys=[SECRET, OLDER], options=options), sent)
    headers = dict(request.headers)
    assert standard_webhooks.verify([verifier], headers, request.content, now=sent.at)
    assert headers["webhook-id"] == "evt_1"
    assert headers["webhook-timestamp"] == str(int(sent.at.timestamp()))
    assert len(headers["webhook-signature"].split(" ")) == 2
    assert (
        Oracle(verifier).sign("evt_1", sent.at, request.content.decode())
        in headers["webhook-signature"]
    )


def test_the_body_is_the_event_byte_for_byte() -> None:
    request = http("webhook").request(target(), message())
    assert request.content == message().body
    assert request.headers["content-type"] == "application/json"


def test_a_subscribers_headers_are_sent_but_replace_none_of_ours() -> None:
    mine = {"Authorization": "Bearer x", "X-Team": "video"}
    names = ("Webhook-Id", "HOST", "Content-Type", "User-Agent")
    theirs = {"content-length": "1"} | dict.fromkeys(names, "evil")
    request = http("webhook").request(target(headers=mine | theirs), message())
    assert request.headers["authorization"] == "Bearer x"
    assert request.headers["x-team"] == "video"
    assert "evil" not in str(request.headers.multi_items())
    assert request.headers["host"] == "hooks.example.com"
    assert int(request.headers["content-length"]) == len(request.content)


@pytest.mark.parametrize(
    "name",
    [
        "Webhook_Signature", "WEBHOOK-ID", "webhook.timestamp", "webhook_id", "Svix-Signature",
        "ce-id", "Ce_Type", "X_Forwarded-For", "X-Forwarded-Host", "Forwarded", "Via", "X-Real-IP",
        "Host", "Content_Length", "Content-Type", "Transfer_Encoding", "Connection", "Keep-Alive",
        "TE", "Trailer", "Upgrade", "HTTP2-Settings", "Proxy-Authorization", "Expect",
        "User_Agent", "Accept-Encoding", "traceparent",
    ],
)  # fmt: skip
def test_no_spelling_of_a_header_of_ours_is_a_subscribers(name: str) -> None:
    assert is_ours(name)
    request = http("webhook").request(target(headers={name: "evil"}), message())
    assert "evil" not in str(request.headers.multi_items())


@pytest.mark.parametrize("name", ["Authorization", "Cookie", "X-Team", "X-Webhook-Team", "Ceiling"])
def test_other_headers_are_a_subscribers(name: str) -> None:
    assert not is_ours(name)
