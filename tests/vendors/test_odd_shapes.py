"""Every sample of every dialect, in the odd shapes of gateways, is read as the documented one."""

from __future__ import annotations

import json
import random
from typing import Any

import httpx

from orchestrator.simulator.odd_shapes import odd_answer, odd_body
from orchestrator.vendors.report import Report
from tests.harness.vendor_samples import Case, cases, report_fields, vendor

#: Shapes of each sample.
SHAPES = 40


def fields(report: Report | None) -> dict[str, Any] | None:
    """Return a report without its status word: that is what the vendor wrote."""
    return {**report_fields(report), "word": ""} if report else None


@cases("receipts")
def test_an_acceptance_in_an_odd_shape_is_an_acceptance(case: Case) -> None:
    bound, rng = vendor(case.folder), random.Random(case.file)
    if "cut_off" in case.expected:
        return
    documented = bound.receipt(case.response())
    for _ in range(SHAPES):
        content, headers = odd_answer(case.sample, rng)
        found = bound.receipt(httpx.Response(200, content=content, headers=headers))
        assert found.vendor_task_id == documented.vendor_task_id, content
        assert fields(found.report) == fields(documented.report), content


@cases("reports", "query_")
def test_a_report_in_an_odd_shape_is_the_same_report(case: Case) -> None:
    bound, rng = vendor(case.folder), random.Random(case.file)
    documented = [fields(report) for report in bound.read_answer(case.response())]
    for _ in range(SHAPES):
        content, headers = odd_answer(case.sample, rng)
        answer = httpx.Response(200, content=content, headers=headers)
        assert [fields(report) for report in bound.read_answer(answer)] == documented, content


@cases("reports", "callback_")
def test_a_push_in_an_odd_shape_is_the_same_push(case: Case) -> None:
    bound, rng = vendor(case.folder), random.Random(case.file)
    documented = [fields(report) for report in bound.read_push(json.dumps(case.sample).encode())]
    for _ in range(SHAPES):
        odd = odd_body(case.sample, rng)
        found = bound.read_push(json.dumps(odd).encode())
        assert [fields(report) for report in found] == documented, odd
