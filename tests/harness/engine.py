"""What the tests of the stages share: subscribers, the vendors' answers, and a hand that drives a stage."""

from __future__ import annotations

import json
from typing import Any, Protocol, TypeVar

import httpx

from orchestrator.database.tables import event
from orchestrator.engine.worker import Claimed
from orchestrator.events import subscribers
from orchestrator.foundation.clock import after
from orchestrator.foundation.states import JobState, Source
from orchestrator.jobs.ledger import ApplyResult
from orchestrator.jobs.transition import ReportEvent
from orchestrator.vendors.report import Output, Report
from tests.harness.runtime import Harness

Work = TypeVar("Work")
VIDEO = "https://cdn.example.com/video.mp4"


class Stage(Protocol[Work]):
    """What a stage's worker calls."""

    async def take(self, room: int) -> Claimed[Work]: ...

    async def work(self, piece: Work) -> None: ...


async def drive(stage: Stage[Work], room: int = 64) -> int:
    """Let a stage do everything it finds due in one look; return how much that was."""
    pieces = await stage.take(room)
    for piece in pieces:
        await stage.work(piece)
    return len(pieces)


async def subscribe(
    h: Harness,
    *types: str,
    url: str = "https://app.example.com/hook",
    kind: str = "webhook",
    **values: Any,
) -> dict[str, Any]:
    """Take a subscriber on; return its row with its signing secret under `secret`."""
    given: dict[str, Any] = {
        "destination": h.runtime.destinations[kind], "url": url, "types": list(types) or ["*"], "description": "",
        "headers": {}, "options": {}, "rate_limit": None, "max_in_flight": 8, "now": h.clock.now(),
    }  # fmt: skip
    row, secret = subscribers.new(h.runtime.ids, h.runtime.keys, **given | values)
    await h.runtime.store.write(subscribers.add, row)
    return row | {"secret": secret}


async def at_vendor(
    h: Harness, account: str = "main", task: str = "t-1", **values: Any
) -> dict[str, Any]:
    """Take on a job that the vendor has under `task`, and return its row."""
    opened = await h.open(account, **values)
    return await tell(h, opened["id"], JobState.SUBMITTED, Source.SUBMIT, vendor_task_id=task)


async def tell(
    h: Harness, job_id: str, state: JobState | None, source: Source = Source.PUSH, **values: Any
) -> dict[str, Any]:
    """Tell the ledger one thing, and return the job as it then is. A success has its video."""
    return dict((await hear(h, job_id, state, source, **values)).job or {})


async def hear(
    h: Harness, job_id: str, state: JobState | None, source: Source = Source.PUSH, **values: Any
) -> ApplyResult:
    """Tell the ledger one thing, and return what came of it."""
    made = {"videos": (Output(VIDEO),)} if state is JobState.SUCCEEDED else {}
    report = ReportEvent(job_id, Report(state, **made | values), source)
    return await apply_report(h, report)


async def apply_report(h: Harness, report: ReportEvent) -> ApplyResult:
    """Apply one report, in one commit with those that come at the same time; announce the result."""
    result = await h.apply(report)
    h.runtime.notifier.announce([result])
    return result


async def happened(h: Harness, job_id: str | None = None) -> list[str]:
    """Return the types of the events so far, of one job or of all, in order."""
    where = [event.c.job_id == job_id] if job_id else []
    return [row["type"] for row in await h.rows(event, *where)]


async def bodies(h: Harness) -> list[dict[str, Any]]:
    """Return the events so far as subscribers read them."""
    return [json.loads(row["body"]) for row in await h.rows(event)]


def legacy(task: str | None, status: str, **values: Any) -> dict[str, Any]:
    """Return a task as Kling's legacy standard tells of it."""
    made = (
        {"task_result": {"videos": [{"id": "v", "url": VIDEO, "duration": "5"}]}}
        if status == "succeed"
        else {}
    )
    return {"task_id": task, "task_status": status} | made | values


def new(task: str, status: str, **values: Any) -> dict[str, Any]:
    """Return a task as Kling's new standard tells of it."""
    made = (
        [{"type": "video", "id": "v", "url": VIDEO, "duration": "5.041"}]
        if status == "succeeded"
        else []
    )
    return {"id": task, "status": status, "outputs": made, "create_time": 1783065388949} | values


def said(data: Any, status: int = 200) -> httpx.Response:
    """Return an answer in Kling's envelope."""
    return httpx.Response(status, json={"code": 0, "message": "SUCCEED", "data": data})


def refused(code: int, status: int = 400, message: str = "no", **headers: str) -> httpx.Response:
    """Return a refusal in Kling's envelope."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(status, json={"code": code, "message": message}, headers=named)


NOT_FOUND = {"code": 1201, "message": "Task not found by id/external id"}


def unknown() -> httpx.Response:
    """Return Kling's way of not knowing a task."""
    return httpx.Response(400, json=NOT_FOUND)


def seconds_until_due(h: Harness, row: dict[str, Any]) -> float:
    """Return how long until a row is due."""
    return float((row["due_at"] - after(h.clock.now(), 0)).total_seconds())
