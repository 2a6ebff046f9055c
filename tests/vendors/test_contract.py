"""The contract of every vendor, checked with every sample: requests, reports, receipts, errors."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.foundation.errors import CutOff, Refused, Unreadable
from orchestrator.vendors.contract import Vendor
from orchestrator.vendors.field_mapping import put
from orchestrator.vendors.order import Order
from tests.harness.vendor_samples import (
    FOLDERS,
    VENDORS,
    Case,
    cases,
    expectations,
    indexed,
    order,
    report_fields,
    vendor,
)


def without_placeholders(sample: dict[str, Any]) -> dict[str, Any]:
    """Remove "", which documents write for absent fields.

    We leave these out, since an empty external id may collide with another.
    """
    return {key: value for key, value in sample.items() if value != ""}


def bound_and_order(case: Case) -> tuple[Vendor, Order]:
    fields = {k: v for k, v in case.expected.items() if k not in ("why", "instead", "options")}
    options = {key: case.expected[key] for key in ("options",) if key in case.expected}
    bound = vendor(case.folder, **options)
    return bound, order(fields.pop("capability"), fields.pop("input"), **fields)


@cases("orders")
def test_an_order_becomes_the_documented_request(case: Case) -> None:
    bound, wanted = bound_and_order(case)
    bound.check(wanted)
    request = bound.submit_request(wanted)
    expected = without_placeholders(case.sample) | case.expected.get("instead", {})
    if "external_task_id" not in case.expected and bound.external_id_path:
        put(expected, bound.external_id_path, "job-1")
    assert json.loads(request.content) == expected
    assert (request.method, request.url.path) == (case.http["method"], case.http["path"])
    assert request.headers["authorization"] == "Bearer key-1"
    assert request.headers["content-type"] == "application/json"


@cases("orders")
def test_the_capability_is_inferred_from_the_input(case: Case) -> None:
    bound, wanted = bound_and_order(case)
    assert bound.infer_capability(wanted.given) is wanted.capability


@cases("receipts")
def test_the_answer_to_a_submission_gives_the_task_id(case: Case) -> None:
    bound = vendor(case.folder)
    if "cut_off" in case.expected:
        with pytest.raises(CutOff) as caught:
            bound.receipt(case.response())
        assert caught.value.kind == case.expected["cut_off"]
        return
    receipt = bound.receipt(case.response())
    assert receipt.vendor_task_id == case.expected["vendor_task_id"]
    assert (
        report_fields(receipt.report)
        if receipt.report
        else {"vendor_task_id": receipt.vendor_task_id}
    ) == case.expected


@cases("reports", "query_")
def test_the_answer_to_a_status_query_is_read(case: Case) -> None:
    assert [
        report_fields(report) for report in vendor(case.folder).read_answer(case.response())
    ] == case.expected


@cases("reports", "callback_")
def test_a_push_is_read(case: Case) -> None:
    pushed = json.dumps(case.sample).encode()
    assert [
        report_fields(report) for report in vendor(case.folder).read_push(pushed)
    ] == case.expected


@cases("errors")
def test_an_error_answer_to_a_submission_is_classified(case: Case) -> None:
    with pytest.raises((Refused, CutOff)) as caught:
        vendor(case.folder).receipt(case.response())
    error = caught.value
    wanted = {key: value for key, value in case.expected.items() if key != "unknown_task"}
    if not isinstance(error, Refused):
        assert {"cut_off": error.kind} == wanted
        return
    defaults = {"vendor_code": None, "retryable": False, "rate_limited": False, "duplicate": False}
    assert {name: getattr(error, name) for name in ("code", *defaults)} == {**defaults, **wanted}


ACCEPTANCES = [
    {"code": 0, "message": "ok", "data": {"task_id": "T1"}},
    {"code": "OK", "message": "", "data": {"task_id": "T1"}},
    {"code": 202, "data": {"id": "T1", "status": "queued"}},
    {"code": 1301, "message": "odd", "data": {"task_id": "T1"}},
    {"success": True, "data": {"id": "T1", "status": "queued"}},
    {"success": True, "data": [{"id": "T1"}]},
    {"code": "success", "message": "", "data": None, "task_id": "T1"},
    {"code": "success", "message": "", "data": "T1"},
    {"status": "success", "msg": "ok", "result": {"task_id": "T1"}},
    {"id": "T1", "status": "weird"},
    [{"task_id": "T1", "task_status": "submitted"}],
    {"Response": {"TaskId": "T1", "RequestId": "r"}},
    {"request_id": "T1", "status": "IN_QUEUE", "status_url": "https://v.example/r/T1/status"},
    {"uuid": "T1", "status": "pending"},
]
REFUSALS = [
    (200, {"success": False, "msg": "the prompt is blocked"}),
    (200, {"code": 400, "message": "the prompt is blocked", "data": None}),
    (200, {"code": 1301, "message": "the prompt is blocked"}),
    (200, {"error": {"message": "the prompt is blocked"}}),
    (200, {"success": False, "message": "the prompt is blocked", "uuid": "a-request"}),
    (400, {"code": 400, "msg": "the prompt is blocked"}),
    (422, {"errors": [{"message": "the prompt is blocked"}]}),
    (500, {"code": "prompt_blocked", "message": "the prompt is blocked"}),
    (200, {"Response": {"Error": {"Code": "BadInput", "Message": "the prompt is blocked"}}}),
    (500, {"success": False, "message": "the prompt is blocked"}),
    (503, {"success": False, "message": "the prompt is blocked"}),
]
DOUBTS = [
    (200, {}),
    (200, {"code": 0, "message": "success", "data": {}}),
    (200, {"code": "success", "data": "queued"}),
    (200, {"code": 5000, "message": "internal"}),
    (200, {"task_id": 1.5}),
    (200, {"request_id": "r"}),
    (500, {"success": False, "message": "the request timed out"}),
    (502, {"success": False, "message": "bad gateway"}),
    (502, None),
    (502, {"code": 502, "message": "bad gateway"}),
    (503, {"message": "busy"}),
    (504, {"error": {"message": "rate limit service timed out"}}),
]


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_body_decides_what_became_of_a_submission(folder: str) -> None:
    bound = vendor(folder)
    for body in ACCEPTANCES:
        assert bound.receipt(httpx.Response(200, json=body)).vendor_task_id == "T1", body
    for status, body in REFUSALS:
        with pytest.raises(Refused, match="the prompt is blocked"):
            bound.receipt(httpx.Response(status, json=body))
    for status, body in DOUBTS:
        with pytest.raises(CutOff):
            bound.receipt(httpx.Response(status, json=body))


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_page_that_is_not_about_the_task_says_nothing_about_it(folder: str) -> None:
    bound, page = vendor(folder), "<html><title>404 task not found</title></html>"
    answers = [
        httpx.Response(404, html=page),
        httpx.Response(200, html=page),
        httpx.Response(404, json={"detail": "Not Found"}),
        httpx.Response(404, json={"message": "no Route matched with those values"}),
        httpx.Response(404, json={"error": {"message": "Invalid URL (GET /v1/video/x)"}}),
        httpx.Response(403, json={"message": "task not found"}),
        httpx.Response(503, json={"message": "task not found"}),
        httpx.Response(200, json={"status": "error", "message": "unauthorized"}),
        httpx.Response(404, json={"message": "Cannot GET /v1/jobs/T1"}),
        httpx.Response(404, json={"message": "No static resource v1/videos/T1."}),
        httpx.Response(404, json={"error": "video-service not found"}),
        httpx.Response(200, json={"code": 1002, "message": "access key not found, no task"}),
        httpx.Response(200, json={"code": 500, "message": "the task database does not exist"}),
        httpx.Response(200, json={"code": 5000, "message": "internal", "data": []}),
        httpx.Response(200, json={"code": 1303, "message": "busy", "data": []}),
        httpx.Response(200, json={"success": False, "message": "no", "data": []}),
    ]
    for answer in answers:
        with pytest.raises((Refused, CutOff)):
            bound.read_answer(answer)
    for body in ({"code": 404, "message": "Task not found"}, {"error": "no such job"}):
        assert bound.read_answer(httpx.Response(404, json=body)) == []
    for message in ("SUCCEED", "no tasks", ""):
        empty: dict[str, Any] = {"code": 0, "message": message, "data": []}
        assert bound.read_answer(httpx.Response(200, json=empty)) == []


@cases("errors")
def test_only_the_vendors_own_error_means_an_unknown_task(case: Case) -> None:
    bound = vendor(case.folder)
    if case.expected.get("unknown_task"):
        assert bound.read_answer(case.response()) == []
        return
    with pytest.raises((Refused, CutOff)):
        bound.read_answer(case.response())


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_sample_is_used(folder: str) -> None:
    sections = expectations(folder)
    used = {
        file
        for section in ("orders", "receipts", "reports", "errors")
        for file in sections[section]
    }
    unused = set(indexed(folder)) - used
    allowed = ("upload_", "callback_signed_")
    assert all(name.startswith(allowed) or "cursor" in name for name in unused), unused


def test_every_vendor_has_samples_and_its_file_has_its_name() -> None:
    assert {expectations(folder)["account"]["vendor"] for folder in FOLDERS} == set(VENDORS)
    assert all(
        kind.__module__ == f"orchestrator.vendors.dialects.{name}" for name, kind in VENDORS.items()
    )


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_credential_that_the_vendor_repeats_is_masked(folder: str) -> None:
    bound = vendor(folder, api_key="sk-0123456789abcdef")
    message = "Incorrect API key provided: sk-0123456789abcdef"
    answer = httpx.Response(401, json={"code": 401, "message": message, "error": message})
    for read in (bound.receipt, bound.read_answer):
        with pytest.raises(Refused) as refused:
            read(answer)
        assert "Incorrect API key" in str(refused.value)
        assert "sk-0123456789abcdef" not in f"{refused.value} {vars(refused.value)}"
    push = {"task_id": "1", "id": "1", "status": "failed", "task_status": "failed"}
    push |= {"task_status_msg": message, "message": message, "object": "video", "error": message}
    reports = bound.read_push(json.dumps(push).encode())
    assert "sk-0123456789abcdef" not in str(reports)


@pytest.mark.parametrize("folder", FOLDERS)
def test_an_unknown_status_word_is_reported_without_a_state(folder: str) -> None:
    bodies: list[dict[str, Any]] = [
        {"task_id": "1", "task_status": "Dreaming"},
        {"id": "1", "status": "Dreaming", "outputs": []},
        {"id": "1", "object": "job", "status": "Dreaming"},
        {"id": "1", "task_id": "1", "object": "video", "status": "Dreaming"},
    ]
    for body in bodies:
        (report,) = vendor(folder).read_push(json.dumps(body).encode())
        assert (report.state, report.word) == (None, "Dreaming")


#: Keys that lead the readers deeper than random text.
KEYS = [
    "code",
    "data",
    "id",
    "task_id",
    "status",
    "task_status",
    "task_result",
    "videos",
    "url",
    "outputs",
    "output",
    "error",
    "message",
    "result",
    "metadata",
    "video_url",
    "fail_reason",
    "progress",
    "updated_at",
    "task_info",
]
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=9)
    | st.just("https://x.example/v.mp4"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=3), inner, max_size=5)
    ),
    max_leaves=12,
)
BOUND = [vendor(folder) for folder in FOLDERS]
BYTES = st.binary() | JSON.map(lambda value: json.dumps(value).encode())


@settings(max_examples=100, deadline=None)
@given(body=BYTES, status=st.sampled_from((200, 201, 302, 400, 404, 408, 429, 500, 503)))
def test_any_bytes_from_a_vendor_are_read_or_raise_our_errors(body: bytes, status: int) -> None:
    """By every dialect: drawing a body takes much longer than reading it."""
    answer = httpx.Response(status, content=body)
    for bound in BOUND:
        with suppress(Unreadable, Refused, CutOff):
            bound.read_push(body)
        with suppress(Unreadable, Refused, CutOff):
            bound.read_answer(answer)
        with suppress(Unreadable, Refused, CutOff):
            bound.receipt(answer)
