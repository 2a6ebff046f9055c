"""Answers that wait for a job: `Prefer: wait=N` (RFC 7240) on a submission and on a read."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import sqlalchemy as sa
from starlette.requests import Request
from starlette.responses import Response

from orchestrator.api.endpoint import found, reply
from orchestrator.database.store import Tx
from orchestrator.database.tables import job
from orchestrator.engine.runtime import Runtime
from orchestrator.schemas.jobs import is_final, job_json

Row = Mapping[Any, Any]

_LONGEST = 60
#: Seconds between looks for those whom nobody wakes.
_LOOK = 1.0
#: What a caller who asks again and again is asked to wait.
_AGAIN = "5"
_WAIT = re.compile(r"wait\s*=\s*\"?([0-9]{1,6})\"?", re.IGNORECASE)


def find(tx: Tx, job_id: str) -> Row | None:
    """Return a job, or None."""
    return tx.execute(sa.select(job).where(job.c.id == job_id)).mappings().first()


def preferred(request: Request) -> int | None:
    """Return the seconds a caller would wait, at most 60; None without a preference we understand."""
    for one in ",".join(request.headers.getlist("prefer")).split(","):
        if said := _WAIT.fullmatch(one.partition(";")[0].strip()):
            return min(int(said[1]), _LONGEST)
    return None


def applied(seconds: int | None) -> dict[str, str]:
    """Return the header that says which preference was honoured."""
    return {} if seconds is None else {"preference-applied": f"wait={seconds}"}


async def until(runtime: Runtime, job_id: str, seconds: float, done: Callable[[Row], bool]) -> Row:
    """Return the job once `done` says so, or as it is after `seconds`, or when we are to end. Raises `NotFound`."""
    ends = runtime.clock.monotonic() + seconds
    while True:
        row = found(await runtime.store.read(find, job_id), "job")
        left = ends - runtime.clock.monotonic()
        if left <= 0 or done(row) or runtime.feed.closed:
            return row
        await runtime.notifier.job_waiters.wait(job_id, min(left, _LOOK))


def etag(row: Row) -> str:
    """Return the entity tag of a job."""
    return f'"v{row["version"]}"'


def shown(runtime: Runtime, row: Row, status: int = 200, **headers: str) -> Response:
    """Answer with a job."""
    said = {name.replace("_", "-"): value for name, value in headers.items()} | {"etag": etag(row)}
    if not is_final(row):
        said["retry-after"] = _AGAIN
    return reply(job_json(row, runtime.base), status, said)
