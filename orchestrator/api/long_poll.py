"""Long polls on a job: `Prefer: wait=N` (RFC 7240), on a submission and on a read.

A waiting caller costs a look at the job's version a second, however large the job is. When it has
changed, the callers that wait for it share one document.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from zlib import crc32

import sqlalchemy as sa
from starlette.requests import Request
from starlette.responses import Response

from orchestrator.api.endpoint import or_not_found, reply
from orchestrator.database.store import Tx
from orchestrator.database.tables import job
from orchestrator.database.tables.rows import JobRow, fetch
from orchestrator.engine.runtime import Runtime
from orchestrator.foundation.json_codec import encode
from orchestrator.jobs import holds
from orchestrator.schemas.base import Json
from orchestrator.schemas.jobs import JobColumns, JobHead, is_final, job_json

#: Seconds: many proxies give up on a response after 60.
MAX_WAIT = 55
#: Seconds between reads: wake-ups from other processes may be lost.
_TICK = 1.0
#: `Retry-After` of a job that is not final, in seconds.
_RETRY_AFTER = "5"
_WAIT = re.compile(r"wait\s*=\s*\"?([0-9]{1,6})\"?", re.IGNORECASE)


class JobVersion(NamedTuple):
    """Which document of a job is the current one."""

    head: JobHead
    #: The entity tag: it changes with the job, and with the hold that is shown of one in the queue.
    tag: str

    @property
    def is_final(self) -> bool:
        """True if the job changes no further."""
        return is_final(self.head)


class JobDocument(NamedTuple):
    """A job as a response."""

    body: bytes
    version: JobVersion


def find_job(tx: Tx, job_id: str) -> JobRow | None:
    """Return a job, or None."""
    return next(iter(fetch(tx, JobRow, sa.select(job).where(job.c.id == job_id))), None)


def find_head(tx: Tx, job_id: str) -> JobHead | None:
    """Return the state and the version of a job, or None."""
    return next(iter(fetch(tx, JobHead, _HEAD.where(job.c.id == job_id))), None)


def _find_version(tx: Tx, job_id: str) -> JobVersion | None:
    head = find_head(tx, job_id)
    return head and _version(head, holds.of_jobs(tx, [head]))


def _find_document(tx: Tx, job_id: str, base: str) -> JobDocument | None:
    for row in fetch(tx, JobColumns, _SHOWN.where(job.c.id == job_id)):
        held = holds.of_jobs(tx, [row])
        return JobDocument(encode(holds.shown(row, base, held)), _version(row, held))
    return None


def _version(head: JobHead, held: Mapping[str, Json]) -> JobVersion:
    hold = held.get(head["account"])
    mark = f"-{crc32(encode(hold)):08x}" if hold else ""
    return JobVersion(head, f'"v{head["version"]}{mark}"')


def preferred_wait(request: Request) -> int | None:
    """Return the seconds of `Prefer: wait`, at most 55; None if there is no such preference."""
    for preference in ",".join(request.headers.getlist("prefer")).split(","):
        if match := _WAIT.fullmatch(preference.partition(";")[0].strip()):
            return min(int(match[1]), MAX_WAIT)
    return None


def preference_applied(seconds: int | None) -> dict[str, str]:
    """Return the `Preference-Applied` header."""
    return {} if seconds is None else {"preference-applied": f"wait={seconds}"}


async def wait_for_job(
    runtime: Runtime, job_id: str, seconds: float, done: Callable[[JobVersion], bool]
) -> JobVersion:
    """Return the version of a job when `done` is true of it, after `seconds`, or at shutdown.

    Raises `NotFound`.
    """
    ends = runtime.clock.monotonic() + seconds
    while True:
        version = or_not_found(await runtime.store.read_shared(_find_version, job_id), "job")
        left = ends - runtime.clock.monotonic()
        if left <= 0 or done(version) or runtime.feed.closed:
            return version
        await runtime.notifier.job_waiters.wait(job_id, min(left, _TICK))


def job_response(runtime: Runtime, row: JobRow, status: int = 200, **headers: str) -> Response:
    """Return the row of a job as a response, without the hold of its account."""
    return reply(job_json(row, runtime.base), status, headers | _headers(_version(row, {}), None))


async def stored_job(
    runtime: Runtime, job_id: str, status: int = 200, *, wait: int | None = None, **headers: str
) -> Response:
    """Return a job as a response, as it now is; `wait` is the preference that was applied.

    Raises `NotFound`.
    """
    found = await runtime.store.read_shared(_find_document, job_id, runtime.base)
    document = or_not_found(found, "job")
    headers |= _headers(document.version, wait)
    return Response(document.body, status, headers, media_type="application/json")


def _headers(version: JobVersion, wait: int | None) -> dict[str, str]:
    headers = {"etag": version.tag} | preference_applied(wait)
    return headers if version.is_final else headers | {"retry-after": _RETRY_AFTER}


def _columns(kind: type[Any]) -> sa.Select[Any]:
    return sa.select(*(job.c[name] for name in kind.__annotations__))


_HEAD = _columns(JobHead)
_SHOWN = _columns(JobColumns)
