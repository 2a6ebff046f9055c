"""The form of answers: whatever form a gateway gives them, they mean the same."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import httpx
import pytest

from orchestrator.foundation.errors import CutOff, Refused
from orchestrator.vendors.contract import Vendor
from tests.harness.vendor_samples import FOLDERS, NOW, vendor

ACCEPTED = '{"code": 0, "id": "T1", "data": {"task_id": "T1", "task_status": "submitted"}%s}'


def answered(bound: Vendor, body: bytes, partial: str = "", **headers: str) -> str:
    response = httpx.Response(200, content=body, headers=headers)
    if partial:
        response.extensions["partial"] = partial
    return bound.receipt(response).vendor_task_id


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize(
    "body",
    [
        (ACCEPTED % ', "cost": NaN').encode(),
        (ACCEPTED % ', "cost": -Infinity,').encode(),
        (ACCEPTED % "").encode("utf-8-sig"),
        (ACCEPTED % "").encode("utf-16"),
        (ACCEPTED % ', "message": "a\nb"').encode(),
        (ACCEPTED % ', "message": "好"').encode("gb18030"),
        (ACCEPTED % "").encode() + b"\n<b>Notice</b>: Undefined index",
        json.dumps(ACCEPTED % "").encode(),
    ],
    ids=["NaN", "a comma", "a mark", "UTF-16", "a line", "not UTF-8", "more behind", "twice"],
)
def test_an_acceptance_counts_in_any_form(folder: str, body: bytes) -> None:
    bound = vendor(folder)
    assert answered(bound, body) == "T1"
    assert answered(bound, body, partial="disconnected") == "T1"
    report = bound.read_push(body)[0]
    assert "T1" in (report.vendor_task_id, bound.read_push(body)[-1].vendor_task_id)


def test_half_an_acceptance_is_in_doubt() -> None:
    with pytest.raises(CutOff):
        answered(vendor("kling"), (ACCEPTED % "").encode()[:-1], partial="disconnected")


def test_a_credential_is_masked_in_every_encoding() -> None:
    bound = vendor("dreamto", api_key="key-of-the-account")
    body = '{"error": {"message": "bad key-of-the-account"}}'
    for charset in ("utf-8", "utf-16", "utf-8-sig"):
        response = httpx.Response(401, content=body.encode(charset))
        with pytest.raises(Refused) as refusal:
            bound.receipt(response)
        assert "bad ***" in str(refusal.value)


# -- redirects


@pytest.mark.parametrize(
    ("location", "shown"),
    [
        ("https://api.example.com/v1/jobs", "https://api.example.com/v1/jobs,"),
        ("/login?next=%2Fv1&session=secret", "https://acme.example/login?***,"),
        ("//me:secret@api.example.com/v1", "https://api.example.com/v1,"),
        ("https://api.example.com/key-secret", "https://api.example.com/***,"),
        ("https://example.com:secret/", "an address that is not valid,"),
        ("https://api.example.com/" + "a" * 5000 + "secret", "https://api.example.com/aaa"),
    ],
)
@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_shows_where_it_led_without_secrets(
    status: int, location: str, shown: str
) -> None:
    bound = vendor("dreamto", base_url="https://acme.example", api_key="key-secret")
    for read in (bound.receipt, bound.read_answer):
        with pytest.raises(Refused) as refusal:
            read(httpx.Response(status, headers={"location": location}))
        message = str(refusal.value)
        assert f"dreamto answered {status}, a redirect to {shown}" in message
        assert "secret" not in message
        assert "base_url" in message
        assert len(message) < 500
        assert (refusal.value.code, refusal.value.retryable) == ("vendor_refused", False)


def test_a_redirect_to_the_result_of_a_submission_is_in_doubt() -> None:
    bound = vendor("dreamto", base_url="https://acme.example")
    with pytest.raises(CutOff, match="answered 303, a redirect to https://acme"):
        bound.receipt(httpx.Response(303, headers={"location": "/v1/jobs/1"}))


def test_a_redirect_to_nowhere_is_a_refusal_by_its_status() -> None:
    with pytest.raises(Refused, match="answered 301"):
        vendor("dreamto").receipt(httpx.Response(301))


# -- when to try again


@pytest.mark.parametrize(
    ("status", "headers", "wait"),
    [
        (429, {"retry-after": "7.5"}, 7.5),
        (429, {"retry-after-ms": "7500", "x-ratelimit-reset": "9"}, 7.5),
        (429, {"x-ratelimit-reset": str(int((NOW + timedelta(seconds=8)).timestamp()))}, 8),
        (429, {"x-ratelimit-reset-requests": "6m0s"}, 360),
        (429, {"x-ratelimit-reset-after": "7.2"}, 7.2),
        (429, {"x-ratelimit-reset": "9", "x-ratelimit-remaining": "5"}, None),
        (403, {"x-ratelimit-reset": "9"}, None),
    ],
)
def test_a_refusal_says_when_to_try_again(
    status: int, headers: dict[str, Any], wait: float | None
) -> None:
    with pytest.raises(Refused) as refusal:
        vendor("dreamto").receipt(httpx.Response(status, headers=headers, json={}))
    assert refusal.value.retry_after == wait
