"""Jobs: read, listed, waited for, asked about and let go."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Annotated, Any

import sqlalchemy as sa
from pydantic import BeforeValidator, Field
from starlette.responses import Response

from orchestrator import schemas
from orchestrator.api import long_poll
from orchestrator.api.endpoint import RequestContext, found
from orchestrator.api.fields import When
from orchestrator.api.operation import answer, operation
from orchestrator.api.pagination import PageRequest, listed, paged, words
from orchestrator.api.requests import Empty
from orchestrator.database import listing
from orchestrator.database.store import Tx
from orchestrator.database.tables import trace
from orchestrator.database.tables.rows import JobRow
from orchestrator.foundation.errors import Conflict
from orchestrator.foundation.states import JobState, Source
from orchestrator.jobs import timeline
from orchestrator.jobs.ledger import ApplyResult, Ledger, Note
from orchestrator.jobs.transition import ReportEvent
from orchestrator.schemas.jobs import is_final, job_json
from orchestrator.vendors.report import Report

Row = Mapping[Any, Any]

#: Seconds that `/refresh` waits for the vendor's answer.
_PATIENCE = 10.0

Filter = Annotated[str, Field(min_length=1, max_length=255)]


class JobQuery(PageRequest):
    """`GET /v1/jobs`."""

    prefix = "job"

    status: (
        Annotated[tuple[JobState, ...], BeforeValidator(words), Field(description="One or more.")]
        | None
    ) = None
    account: Filter | None = None
    model: Filter | None = None
    external_task_id: Filter | None = None
    resolved_by: Source | None = None
    created_after: Annotated[When, Field(description="Exclusive.")] | None = None


class TimelineQuery(PageRequest):
    """`GET /v1/jobs/{id}/timeline`."""

    prefix = ""

    @classmethod
    def is_cursor(cls, value: str) -> bool:
        """True for the cursors that `timeline` makes."""
        return timeline.is_cursor(value)


@operation("List jobs", answers={200: answer(schemas.Page[schemas.Job], "Link")})
async def ls(call: RequestContext, query: JobQuery) -> Response:
    """Newest first. A page may hold fewer than `limit`, or none, while `has_more` says that `next_cursor` leads on."""
    part = await call.runtime.store.read(_select, query)
    return paged(call, [job_json(row, call.runtime.base) for row in part.rows], part.next)


def _select(tx: Tx, query: JobQuery) -> listing.ListPage[JobRow]:
    named = {
        name: getattr(query, name)
        for name in ("account", "model", "external_task_id", "resolved_by")
    }
    wanted = {name: [value] for name, value in named.items() if value is not None}
    if query.status is not None:
        wanted["state"] = list(dict.fromkeys(query.status))
    return listing.jobs(tx, wanted, query.after, query.limit, query.created_after)


@operation(
    "Get a job",
    answers={
        200: answer(schemas.Job, "ETag", "Retry-After", "Preference-Applied"),
        304: answer(None, "ETag", "Preference-Applied", says="It still is what the caller has"),
    },
    takes=("Prefer", "If-None-Match"),
)
async def show(call: RequestContext) -> Response:
    """At once; with `Prefer: wait` when it is final, or no longer what `If-None-Match` names."""
    known = _known(call)
    wait = long_poll.preferred(call.request)

    def is_news(row: Row) -> bool:
        return is_final(row) or (known is not None and not _is_known(row, known))

    with call.runtime.waiting_slots.admit() if wait else nullcontext():
        row = await long_poll.until(call.runtime, call.id("job"), wait or 0, is_news)
    if known is not None and _is_known(row, known):
        return Response(
            status_code=304, headers={"etag": long_poll.etag(row), **long_poll.applied(wait)}
        )
    response = long_poll.shown(call.runtime, row)
    response.headers.update(long_poll.applied(wait))
    return response


def _known(call: RequestContext) -> frozenset[str] | None:
    """Return the entity tags a caller has, weak ones as strong: a job has no other representation."""
    said = call.request.headers.getlist("if-none-match")
    return (
        frozenset(tag.strip().removeprefix("W/") for one in said for tag in one.split(","))
        if said
        else None
    )


def _is_known(row: Row, known: frozenset[str]) -> bool:
    return "*" in known or long_poll.etag(row) in known


@operation(
    "Get a job's timeline", answers={200: answer(schemas.Page[schemas.TimelineEntry], "Link")}
)
async def history(call: RequestContext, query: TimelineQuery) -> Response:
    """Everything known of it, oldest first, what was refused included."""
    job_id = call.id("job")
    found(await call.runtime.store.read(long_poll.find, job_id), "job")
    entries = await call.runtime.store.read(timeline.entries, job_id, query.after, query.limit + 1)
    page = [{"id": entry.cursor, **entry.document} for entry in entries]
    return listed(call, page, query, lambda entry: entry)


@operation("Cancel a job", answers={200: answer(schemas.Job, "ETag")}, refuses=("conflict",))
async def cancel(call: RequestContext, body: Empty) -> Response:
    """Stop following it. The vendor may still render it."""
    runtime, job_id = call.runtime, call.id("job")
    verdict = await runtime.store.write(_cancel, runtime.ledger, job_id, call.caller.id)
    row = found(verdict.job, "job")
    if not verdict.moved:
        raise Conflict(f"{job_id} is {row['state']} already", job_id=job_id)
    runtime.notifier.announce([verdict])
    return long_poll.shown(runtime, row)


def _cancel(tx: Tx, ledger: Ledger, job_id: str, by: str) -> ApplyResult:
    verdict = ledger.apply(tx, [ReportEvent(job_id, Report(JobState.CANCELED), Source.OPERATOR)])[0]
    if verdict.moved and verdict.job is not None:
        note = Note(job_id, "operator", {"action": "cancel", "by": by})
        ledger.note(tx, [note], verdict.job["finished_at"] or verdict.job["created_at"])
    return verdict


@operation("Refresh a job", answers={200: answer(schemas.Job, "ETag", "Retry-After")})
async def refresh(call: RequestContext, body: Empty) -> Response:
    """Ask the vendor now, and answer with the job as it then is, ten seconds later at most."""
    runtime, job_id = call.runtime, call.id("job")
    row, questions = await runtime.store.write(_hurry, runtime.ledger, job_id, runtime.clock.now())
    before = found(row, "job")
    if is_final(before):
        return long_poll.shown(runtime, before)
    runtime.notifier.wake("poll")
    runtime.notifier.wake("submit")
    ends = runtime.clock.monotonic() + _PATIENCE
    # A vendor that never had the job cannot be asked about it.
    while before["state"] != JobState.QUEUED and runtime.clock.monotonic() < ends:
        now, asked = await runtime.store.read(_look, job_id)
        if asked > questions or found(now, "job")["version"] != before["version"]:
            break
        await runtime.notifier.job_waiters.wait(job_id, 0.25)
    return long_poll.shown(runtime, found(await runtime.store.read(long_poll.find, job_id), "job"))


def _hurry(tx: Tx, ledger: Ledger, job_id: str, now: Any) -> tuple[Row | None, int]:
    before = _look(tx, job_id)
    ledger.poll_now(tx, [job_id], now)
    return before


def _look(tx: Tx, job_id: str) -> tuple[Row | None, int]:
    """Return the job, and the last question about it."""
    asked = sa.select(trace.c.id).where(trace.c.job_id == job_id, trace.c.kind == "poll")
    asked = asked.order_by(trace.c.at.desc(), trace.c.id.desc()).limit(1)
    return long_poll.find(tx, job_id), tx.scalar(asked) or 0
