"""Long polls on a job: `Prefer: wait=N` (RFC 7240), on a submission and on a read."""

from __future__ import annotations

import re
from collections.abc import Callable

import sqlalchemy as sa
from starlette.requests import Request
from starlette.responses import Response

from orchestrator.api.endpoint import or_not_found, reply
from orchestrator.database.store import Tx
from orchestrator.database.tables import job
from orchestrator.database.tables.rows import JobRow, fetch
from orchestrator.engine.runtime import Runtime
from orchestrator.schemas.jobs import is_final, job_json

_MAX_WAIT = 60
#: Seconds between reads: wake-ups from other processes may be lost.
_TICK = 1.0
#: `Retry-After` of a job that is not final, in seconds.
_RETRY_AFTER = "5"
_WAIT = re.compile(r"wait\s*=\s*\"?([0-9]{1,6})\"?", re.IGNORECASE)


def find_job(tx: Tx, job_id: str) -> JobRow | None:
    """Return a job, or None."""
    return next(iter(fetch(tx, JobRow, sa.select(job).where(job.c.id == job_id))), None)


def preferred_wait(request: Request) -> int | None:
    """Return the seconds of `Prefer: wait`, at most 60; None if there is no such preference."""
    for preference in ",".join(request.headers.getlist("prefer")).split(","):
        if match := _WAIT.fullmatch(preference.partition(";")[0].strip()):
            return min(int(match[1]), _MAX_WAIT)
    return None


def preference_applied(seconds: int | None) -> dict[str, str]:
    """Return the `Preference-Applied` header."""
    return {} if seconds is None else {"preference-applied": f"wait={seconds}"}


async def wait_for_job(
    runtime: Runtime, job_id: str, seconds: float, done: Callable[[JobRow], bool]
) -> JobRow:
    """Return the job when `done` is true of it, after `seconds`, or at shutdown.

    Raises `NotFound`.
    """
    ends = runtime.clock.monotonic() + seconds
    while True:
        row = or_not_found(await runtime.store.read(find_job, job_id), "job")
        left = ends - runtime.clock.monotonic()
        if left <= 0 or done(row) or runtime.feed.closed:
            return row
        await runtime.notifier.job_waiters.wait(job_id, min(left, _TICK))


def etag(row: JobRow) -> str:
    """Return the entity tag of a job."""
    return f'"v{row["version"]}"'


def job_response(
    runtime: Runtime, row: JobRow, status: int = 200, *, wait: int | None = None, **headers: str
) -> Response:
    """Return a job as a response; `wait` is the preference that was applied."""
    headers |= {"etag": etag(row)} | preference_applied(wait)
    if not is_final(row):
        headers["retry-after"] = _RETRY_AFTER
    return reply(job_json(row, runtime.base), status, headers)
