"""The contract every vendor keeps, held against every sample: what is asked, what is understood, what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
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
    told,
    vendor,
)


def without_placeholders(sample: dict[str, Any]) -> dict[str, Any]:
    """Documents write "" for what is absent; we leave it out, since an empty external id may collide with another."""
    return {key: value for key, value in sample.items() if value != ""}


def asked(case: Case) -> tuple[Vendor, Order]:
    said = dict(case.expected)
    said.pop("why", None)
    said.pop("instead", None)
    who = vendor(case.folder, **({"options": said.pop("options")} if "options" in said else {}))
    return who, order(said.pop("capability"), said.pop("input"), **said)


@cases("orders")
def test_an_order_in_our_words_becomes_the_documented_request(case: Case) -> None:
    who, wanted = asked(case)
    who.check(wanted)
    request = who.submission(wanted)
    expected = without_placeholders(case.sample) | case.expected.get("instead", {})
    if "external_task_id" not in case.expected and who.external_id_path:
        put(expected, who.external_id_path, "job-1")
    assert json.loads(request.content) == expected
    assert (request.method, request.url.path) == (case.http["method"], case.http["path"])
    assert request.headers["authorization"] == "Bearer key-1"
    assert request.headers["content-type"] == "application/json"


@cases("orders")
def test_an_order_without_its_capability_is_inferred_where_the_input_decides(case: Case) -> None:
    who, wanted = asked(case)
    assert who.infer(wanted.given) is wanted.capability


@cases("receipts")
def test_the_answer_to_a_submission_gives_the_task_id(case: Case) -> None:
    who = vendor(case.folder)
    if "cut_off" in case.expected:
        with pytest.raises(CutOff) as caught:
            who.receipt(case.response())
        assert caught.value.kind == case.expected["cut_off"]
        return
    receipt = who.receipt(case.response())
    assert receipt.vendor_task_id == case.expected["vendor_task_id"]
    assert (
        told(receipt.report) if receipt.report else {"vendor_task_id": receipt.vendor_task_id}
    ) == case.expected


@cases("reports", "query_")
def test_the_answer_to_a_question_is_understood(case: Case) -> None:
    assert [
        told(report) for report in vendor(case.folder).read_answer(case.response())
    ] == case.expected


@cases("reports", "callback_")
def test_a_push_is_understood(case: Case) -> None:
    pushed = json.dumps(case.sample).encode()
    assert [told(report) for report in vendor(case.folder).read_push(pushed)] == case.expected


@cases("errors")
def test_an_error_answer_to_a_submission_says_what_to_do_next(case: Case) -> None:
    with pytest.raises((Refused, CutOff)) as caught:
        vendor(case.folder).receipt(case.response())
    error, wanted = (
        caught.value,
        {key: value for key, value in case.expected.items() if key != "unknown_task"},
    )
    if not isinstance(error, Refused):
        assert {"cut_off": error.kind} == wanted
        return
    said = {
        name: getattr(error, name)
        for name in ("code", "vendor_code", "retryable", "rate_limited", "duplicate")
    }
    assert said == {
        "vendor_code": None,
        "retryable": False,
        "rate_limited": False,
        "duplicate": False,
        **wanted,
    }


@cases("errors")
def test_only_a_vendors_own_word_for_it_means_that_a_task_is_unknown(case: Case) -> None:
    who = vendor(case.folder)
    if case.expected.get("unknown_task"):
        assert who.read_answer(case.response()) == []
        return
    with pytest.raises((Refused, CutOff)):
        who.read_answer(case.response())


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_sample_is_used(folder: str) -> None:
    sections = expectations(folder)
    used = {
        file
        for section in ("orders", "receipts", "reports", "errors")
        for file in sections[section]
    }
    left = set(indexed(folder)) - used
    assert all(
        name.startswith(("upload_", "callback_signed_")) or "cursor" in name for name in left
    ), left


def test_every_vendor_has_samples_and_its_file_has_its_name() -> None:
    assert {expectations(folder)["account"]["vendor"] for folder in FOLDERS} == set(VENDORS)
    assert all(
        kind.__module__ == f"orchestrator.vendors.dialects.{name}" for name, kind in VENDORS.items()
    )


@pytest.mark.parametrize("folder", FOLDERS)
def test_an_unknown_status_word_is_a_value_and_not_a_verdict(folder: str) -> None:
    bodies: list[dict[str, Any]] = [
        {"task_id": "1", "task_status": "Dreaming"},
        {"id": "1", "status": "Dreaming", "outputs": []},
        {"id": "1", "object": "job", "status": "Dreaming"},
        {"id": "1", "task_id": "1", "object": "video", "status": "Dreaming"},
    ]
    for body in bodies:
        (report,) = vendor(folder).read_push(json.dumps(body).encode())
        assert (report.state, report.word) == (None, "Dreaming")


#: Keys that lead the readers deeper than random text would.
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
]
KEYS += [
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
    | st.text()
    | st.just("https://x.example/v.mp4"),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(KEYS) | st.text(), inner),
)
BYTES = st.binary() | JSON.map(lambda value: json.dumps(value).encode())


@pytest.mark.parametrize("folder", FOLDERS)
@settings(max_examples=60, deadline=None)
@given(body=BYTES, status=st.sampled_from((200, 201, 302, 400, 404, 408, 429, 500, 503)))
def test_whatever_a_vendor_sends_is_read_or_refused_in_our_words(
    folder: str, body: bytes, status: int
) -> None:
    who = vendor(folder)
    answer = httpx.Response(status, content=body)
    reads: list[Callable[[], object]] = [
        lambda: who.read_push(body),
        lambda: who.read_answer(answer),
        lambda: who.receipt(answer),
    ]
    for read in reads:
        with suppress(Unreadable, Refused, CutOff):
            read()
