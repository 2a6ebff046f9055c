"""Helpers for tests of the stages and the ledger, over the `h` fixture.

* Set up: `subscribe`, `at_vendor`.
* Apply a report: `report_state` returns the job, `report_result` the `ApplyResult`,
  `apply_report` takes a whole `ReportEvent`.
* Run a stage once: `drive`.
* Read what was published: `event_types`, `event_bodies`.
* `BrokenOff`: the body of a response that is not whole.
* Kling's responses for `h.network.answer`: `legacy_task`, `new_task`, `kling_response`,
  `kling_refusal`, `task_not_found`.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import Any, Protocol, TypeVar, cast

import httpx

from orchestrator.database.tables import event
from orchestrator.database.tables.rows import JobRow
from orchestrator.engine.deliver_scheduler import LEASE_MARGIN
from orchestrator.engine.worker import Claimed
from orchestrator.events import subscribers
from orchestrator.foundation.clock import after
from orchestrator.foundation.errors import CutOff
from orchestrator.foundation.settings.delivery import Delivery
from orchestrator.foundation.states import JobState, Source
from orchestrator.jobs.ledger import ApplyResult
from orchestrator.jobs.transition import ReportEvent
from orchestrator.vendors.report import Output, Report
from tests.harness.runtime import Harness, parsed

WorkT = TypeVar("WorkT")
#: The retry policy of the service, and the seconds of a claim with it.
POLICY = Delivery().policy
LEASE = POLICY.deadline + LEASE_MARGIN
VIDEO = "https://cdn.example.com/video.mp4"


class Stage(Protocol[WorkT]):
    """The methods of a stage that `drive` calls."""

    async def take(self, room: int) -> Claimed[WorkT]: ...

    async def work(self, item: WorkT) -> None: ...


async def drive(stage: Stage[WorkT], room: int = 64) -> int:
    """Claim once, do all claimed work, and return the number of items."""
    items = await stage.take(room)
    for item in items:
        await stage.work(item)
    return len(items)


async def subscribe(
    h: Harness,
    *types: str,
    url: str = "https://app.example.com/hook",
    kind: str = "webhook",
    **values: Any,
) -> dict[str, Any]:
    """Add a subscriber; return its row, with its signing secret as `secret`."""
    given: dict[str, Any] = {
        "destination": h.runtime.destinations[kind], "url": url, "types": list(types) or ["*"],
        "description": "", "headers": {}, "options": {}, "rate_limit": None, "max_in_flight": 8,
        "now": h.clock.now(),
    }  # fmt: skip
    row, secret = subscribers.new(h.runtime.ids, h.runtime.keys, **given | values)
    await h.runtime.store.write(subscribers.add, row)
    return row | {"secret": secret}


async def at_vendor(h: Harness, account: str = "main", task: str = "t-1", **values: Any) -> JobRow:
    """Create a job that the vendor accepted as `task`; return its row."""
    opened = await h.open(account, **values)
    return await report_state(
        h, opened["id"], JobState.SUBMITTED, Source.SUBMIT, vendor_task_id=task
    )


async def report_state(
    h: Harness, job_id: str, state: JobState | None, source: Source = Source.PUSH, **values: Any
) -> JobRow:
    """Apply a report of `state`; return the job's row. A success has a video."""
    result = await report_result(h, job_id, state, source, **values)
    assert result.job is not None
    return cast(JobRow, {name: parsed(value) for name, value in result.job.items()})


async def report_result(
    h: Harness, job_id: str, state: JobState | None, source: Source = Source.PUSH, **values: Any
) -> ApplyResult:
    """Apply a report of `state`; return the result. A success has a video."""
    made = {"videos": (Output(VIDEO),)} if state is JobState.SUCCEEDED else {}
    report = ReportEvent(job_id, Report(state, **made | values), source)
    return await apply_report(h, report)


async def apply_report(h: Harness, report: ReportEvent) -> ApplyResult:
    """Apply a report, batched with concurrent reports; announce and return the result."""
    result = await h.apply(report)
    h.runtime.notifier.announce([result])
    return result


async def event_types(h: Harness, job_id: str | None = None) -> list[str]:
    """Return the types of the events of a job, or of all jobs, in order."""
    where = [event.c.job_id == job_id] if job_id else []
    return [row["type"] for row in await h.rows(event, *where)]


async def event_bodies(h: Harness) -> list[dict[str, Any]]:
    """Return the bodies of all events, in order."""
    return [json.loads(row["body"]) for row in await h.rows(event)]


class BrokenOff(httpx.AsyncByteStream):
    """The body of a response that breaks off after `body`."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._body
        raise CutOff("vendor: disconnected", kind="disconnected")


def legacy_task(task: str | None, status: str, **values: Any) -> dict[str, Any]:
    """Return a task in Kling's legacy format."""
    made = (
        {"task_result": {"videos": [{"id": "v", "url": VIDEO, "duration": "5"}]}}
        if status == "succeed"
        else {}
    )
    return {"task_id": task, "task_status": status} | made | values


def new_task(task: str | None, status: str, **values: Any) -> dict[str, Any]:
    """Return a task in Kling's new format."""
    made = (
        [{"type": "video", "id": "v", "url": VIDEO, "duration": "5.041"}]
        if status == "succeeded"
        else []
    )
    return {"id": task, "status": status, "outputs": made, "create_time": 1783065388949} | values


def kling_response(data: Any, status: int = 200) -> httpx.Response:
    """Return a response in Kling's envelope."""
    return httpx.Response(status, json={"code": 0, "message": "SUCCEED", "data": data})


def kling_refusal(
    code: int, status: int = 400, message: str = "no", **headers: str
) -> httpx.Response:
    """Return an error response in Kling's envelope."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(status, json={"code": code, "message": message}, headers=named)


NOT_FOUND = {"code": 1201, "message": "Task not found by id/external id"}


def task_not_found() -> httpx.Response:
    """Return Kling's response about a task that it does not know."""
    return httpx.Response(400, json=NOT_FOUND)


def job_error(row: JobRow) -> dict[str, Any]:
    """Return the error of a failed job."""
    assert row["error"] is not None
    return row["error"]


def seconds_until_due(h: Harness, row: Mapping[str, object]) -> float:
    """Return the seconds until a row is due."""
    due = row["due_at"]
    assert isinstance(due, datetime)
    return (due - after(h.clock.now(), 0)).total_seconds()
