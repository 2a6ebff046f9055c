"""Jobs: listed, shown, waited for, canceled, refreshed; and their timeline."""

from __future__ import annotations

from contextlib import nullcontext
from datetime import datetime
from typing import Annotated, cast

import sqlalchemy as sa
from pydantic import Field
from starlette.responses import Response

from orchestrator import schemas
from orchestrator.api import long_poll
from orchestrator.api.endpoint import RequestContext, or_not_found
from orchestrator.api.fields import Time
from orchestrator.api.job_filters import Entry, ErrorCode, Filter, States
from orchestrator.api.operation import operation, returns
from orchestrator.api.pagination import PageRequest, list_response, page_of
from orchestrator.api.requests import Empty
from orchestrator.database import listing
from orchestrator.database.store import Tx
from orchestrator.database.tables import trace
from orchestrator.foundation.errors import Conflict
from orchestrator.foundation.states import JobState, Source
from orchestrator.jobs import holds, job_filter, timeline
from orchestrator.jobs.job_filter import JobFilter
from orchestrator.jobs.ledger import ApplyResult, Ledger, Note
from orchestrator.jobs.transition import ReportEvent
from orchestrator.schemas.base import Json
from orchestrator.schemas.jobs import JobColumns, JobHead, is_final
from orchestrator.vendors.report import Report

#: Seconds that `/refresh` waits for the vendor's response.
_REFRESH_WAIT = 10.0
_LIST = listing.jobs.showing(JobColumns)


class JobQuery(PageRequest):
    """`GET /v1/jobs`."""

    prefix = "job"

    status: States | None = None
    account: Filter | None = None
    model: Filter | None = None
    external_task_id: Filter | None = None
    vendor_task_id: Filter | None = None
    resolved_by: Source | None = None
    fairness_key: Filter | None = None
    error: ErrorCode | None = None
    metadata: Entry | None = None
    created_after: Annotated[Time, Field(description="Exclusive.")] | None = None


class TimelineQuery(PageRequest):
    """`GET /v1/jobs/{id}/timeline`."""

    prefix = ""

    @classmethod
    def is_cursor(cls, value: str) -> bool:
        """True for cursors of a timeline."""
        return timeline.is_cursor(value)


@operation("List jobs", responses={200: returns(schemas.Page[schemas.Job], "Link")})
async def ls(context: RequestContext, query: JobQuery) -> Response:
    """Newest first. A page may hold fewer than `limit`, or none, while `has_more` is true."""
    runtime = context.runtime
    page, held = await runtime.store.read(_select, query, runtime.settings.page_bytes)
    shown = [holds.shown(row, runtime.base, held) for row in page.rows]
    return list_response(context, shown, page.next)


def _select(
    tx: Tx, query: JobQuery, max_bytes: int
) -> tuple[listing.ListPage[JobColumns], dict[str, Json]]:
    given = cast(JobFilter, query.model_dump(exclude={"limit", "after", "created_after"}))
    wanted = job_filter.wanted(given)
    after, limit, since = query.after, query.limit, query.created_after
    page = _LIST(tx, wanted, after, limit, since, max_bytes=max_bytes)
    return page, holds.of_jobs(tx, page.rows)


@operation(
    "Get a job",
    responses={
        200: returns(schemas.Job, "ETag", "Retry-After", "Preference-Applied"),
        304: returns(
            None, "ETag", "Preference-Applied", description="The caller's copy is current"
        ),
    },
    request_headers=("Prefer", "If-None-Match"),
)
async def show(context: RequestContext) -> Response:
    """At once; with `Prefer: wait` when it is final, or its tag is not in `If-None-Match`."""
    tags, job_id = _if_none_match(context), context.id("job")
    wait = long_poll.preferred_wait(context.request)

    def is_known(job: long_poll.JobVersion) -> bool:
        return "*" in tags or job.tag in tags

    def is_news(job: long_poll.JobVersion) -> bool:
        return job.is_final or (bool(tags) and not is_known(job))

    with context.runtime.waiting_slots.admit(context.caller.id) if wait else nullcontext():
        job = await long_poll.wait_for_job(context.runtime, job_id, wait or 0, is_news)
    if is_known(job):
        headers = {"etag": job.tag, **long_poll.preference_applied(wait)}
        return Response(status_code=304, headers=headers)
    return await long_poll.stored_job(context.runtime, job_id, wait=wait)


def _if_none_match(context: RequestContext) -> frozenset[str]:
    """Return the tags of `If-None-Match`, weak ones as strong: a job has one representation."""
    values = context.request.headers.getlist("if-none-match")
    return frozenset(tag.strip().removeprefix("W/") for value in values for tag in value.split(","))


@operation(
    "Get a job's timeline", responses={200: returns(schemas.Page[schemas.TimelineEntry], "Link")}
)
async def history(context: RequestContext, query: TimelineQuery) -> Response:
    """Everything known of it, oldest first, rejected pushes included."""
    job_id, store = context.id("job"), context.runtime.store
    or_not_found(await store.read(long_poll.find_head, job_id), "job")
    entries = await store.read(timeline.entries, job_id, query.after, query.limit + 1)
    shown = [{"id": entry.cursor, **entry.document} for entry in entries]
    return page_of(context, shown, query, dict)


@operation("Cancel a job", responses={200: returns(schemas.Job, "ETag")}, problems=("conflict",))
async def cancel(context: RequestContext, body: Empty) -> Response:
    """Stop following it. The vendor may still render it."""
    runtime, job_id = context.runtime, context.id("job")
    result = await runtime.store.write(_cancel, runtime.ledger, job_id, context.caller.id)
    row = or_not_found(result.job, "job")
    if not result.moved:
        raise Conflict(f"{job_id} is {row['state']} already", job_id=job_id)
    runtime.notifier.announce([result])
    return long_poll.job_response(runtime, row)


def _cancel(tx: Tx, ledger: Ledger, job_id: str, by: str) -> ApplyResult:
    report = ReportEvent(job_id, Report(JobState.CANCELED), Source.OPERATOR)
    result = ledger.apply(tx, [report])[0]
    if result.moved and result.job is not None:
        note = Note(job_id, "operator", {"action": "cancel", "by": by})
        ledger.note(tx, [note], result.job["finished_at"] or result.job["created_at"])
    return result


@operation("Refresh a job", responses={200: returns(schemas.Job, "ETag", "Retry-After")})
async def refresh(context: RequestContext, body: Empty) -> Response:
    """Query the vendor now, and return the job after that, ten seconds later at most."""
    runtime, job_id = context.runtime, context.id("job")
    found, last_query = await runtime.store.write(
        _poll_now, runtime.ledger, job_id, runtime.clock.now()
    )
    before = or_not_found(found, "job")
    if is_final(before):
        return await long_poll.stored_job(runtime, job_id)
    runtime.notifier.wake("poll")
    runtime.notifier.wake("submit")
    ends = runtime.clock.monotonic() + _REFRESH_WAIT
    # A job that was never submitted cannot be queried.
    while before["state"] != JobState.QUEUED and runtime.clock.monotonic() < ends:
        row, query = await runtime.store.read(_job_and_last_query, job_id)
        if query > last_query or or_not_found(row, "job")["version"] != before["version"]:
            break
        await runtime.notifier.job_waiters.wait(job_id, 0.25)
    return await long_poll.stored_job(runtime, job_id)


def _poll_now(tx: Tx, ledger: Ledger, job_id: str, now: datetime) -> tuple[JobHead | None, int]:
    before = _job_and_last_query(tx, job_id)
    ledger.poll_now(tx, [job_id], now)
    return before


def _job_and_last_query(tx: Tx, job_id: str) -> tuple[JobHead | None, int]:
    """Return the head of the job, and the id of the last status query about it (0: none)."""
    queries = sa.select(trace.c.id).where(trace.c.job_id == job_id, trace.c.kind == "poll")
    last = queries.order_by(trace.c.at.desc(), trace.c.id.desc()).limit(1)
    return long_poll.find_head(tx, job_id), tx.scalar(last) or 0
