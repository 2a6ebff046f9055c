"""`Webhook` accepts deliveries as the service signs them, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from starlette.datastructures import Headers

from orchestrator.client import BadSignature, NotOurs, OrchestratorError, Webhook
from orchestrator.foundation.errors import ConfigError
from orchestrator.foundation.signing.standard_webhooks import new_secret, sign
from tests.harness.scripted_client import job_document

NOW = datetime(2026, 11, 20, 10, tzinfo=UTC)
SECRET, OTHER = new_secret(), new_secret()
EVENT: dict[str, Any] = {
    "type": "job.failed", "timestamp": "2026-11-20T10:00:00.000Z", "id": "evt_1", "sequence": 2,
    "data": job_document(status="failed"),
}  # fmt: skip
BODY = json.dumps(EVENT).encode()
SIGNED = sign([SECRET], "evt_1", NOW, BODY)


@pytest.mark.parametrize(
    "headers",
    [
        SIGNED,
        {name.title(): value for name, value in SIGNED.items()}
        | {"Content-Type": "application/json"},
        Headers(SIGNED),
        httpx.Headers(SIGNED),
        list(SIGNED.items()),
    ],
)
def test_a_signed_delivery_is_returned_as_an_event(headers: Mapping[str, str]) -> None:
    event = Webhook(SECRET).verify(BODY, headers, now=NOW)
    assert (event.id, event.type, event.late) == ("evt_1", "job.failed", False)
    assert event.job is not None
    assert event.job.status == "failed"


def test_during_a_rotation_either_secret_verifies() -> None:
    assert Webhook([OTHER, SECRET]).verify(BODY, SIGNED, now=NOW).id == "evt_1"
    assert (
        Webhook(OTHER).verify(BODY, sign([OTHER, SECRET], "evt_1", NOW, BODY), now=NOW).id
        == "evt_1"
    )


@pytest.mark.parametrize(
    ("body", "headers", "reason"),
    [
        (BODY, {}, "not signed"),
        (BODY, {**SIGNED, "webhook-id": ""}, "must come together"),
        (BODY, {**SIGNED, "webhook-id": "evt_2"}, "no signature matches"),
        (BODY, {**SIGNED, "webhook-timestamp": "1.5"}, "malformed"),
        (BODY, {**SIGNED, "webhook-signature": "nonsense"}, "no signature matches"),
        (BODY + b" ", SIGNED, "no signature matches"),
        (BODY, sign([OTHER], "evt_1", NOW, BODY), "no signature matches"),
        (
            BODY,
            sign([SECRET], "evt_1", NOW - timedelta(seconds=301), BODY),
            "more than five minutes",
        ),
        (
            BODY,
            sign([SECRET], "evt_1", NOW + timedelta(seconds=301), BODY),
            "more than five minutes",
        ),
    ],
)
def test_the_error_has_the_reason(body: bytes, headers: Mapping[str, str], reason: str) -> None:
    with pytest.raises(BadSignature, match=reason) as refused:
        Webhook(SECRET).verify(body, headers, now=NOW)
    assert isinstance(refused.value, OrchestratorError)


def test_the_default_time_is_this_machines_clock() -> None:
    with pytest.raises(BadSignature, match="five minutes"):
        Webhook(SECRET).verify(
            BODY, sign([SECRET], "evt_1", datetime(2020, 1, 1, tzinfo=UTC), BODY)
        )


def test_a_body_that_is_not_bytes_is_refused() -> None:
    with pytest.raises(TypeError, match="raw body"):
        Webhook(SECRET).verify(BODY.decode(), SIGNED, now=NOW)  # type: ignore[arg-type]  # on purpose


@pytest.mark.parametrize(
    "body", [b"{}", b"no json", json.dumps({**EVENT, "sequence": "x"}).encode()]
)
def test_a_signed_body_that_is_not_an_event_is_refused(body: bytes) -> None:
    with pytest.raises(NotOurs, match="signed, but"):
        Webhook(SECRET).verify(body, sign([SECRET], "evt_1", NOW, body), now=NOW)


@pytest.mark.parametrize("secrets", [[], "", "whsec_", "whsec_!", [SECRET, "no base64!"]])
def test_an_invalid_secret_is_refused_at_construction(secrets: str | list[str]) -> None:
    with pytest.raises(ConfigError):
        Webhook(secrets)


def test_a_secret_is_not_shown() -> None:
    assert SECRET[10:20] not in repr(Webhook(SECRET)) + str(Webhook(SECRET))
