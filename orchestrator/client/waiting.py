"""Waits for a job to become final: a long poll (`Prefer: wait`), repeated.

A server that restarts or is down for a while only delays the result: the last known version of the
job is kept, and the next response continues from there.
"""

from __future__ import annotations

import math

from orchestrator.client import errors
from orchestrator.client.callbacks import OnChange, finish
from orchestrator.client.connection import Connection
from orchestrator.client.requests import Request, get, path
from orchestrator.client.responses import read
from orchestrator.client.retries import is_transient
from orchestrator.schemas import Job

#: Seconds that a long poll is held: less than the minute that most proxies allow.
HOLD = 30
#: Seconds between two polls, at least, if nothing changed: a server that stops answers at once.
MIN_INTERVAL = 0.25
#: Seconds that the last response may be late: it may have the final state.
GRACE = 5.0
#: Seconds that a server may be down, once it has answered.
LONGEST_OUTAGE = 600.0


async def until_final(
    connection: Connection, job: Job | str, timeout: float | None, on_change: OnChange | None
) -> Job:
    """Return a job once it is final. Raises `WaitTimeout` after `timeout` s, and `ClientError`."""
    transport = connection.transport
    ends = math.inf if timeout is None else transport.monotonic() + timeout
    if isinstance(job, str):
        job = read(Job, await connection.call(get("jobs", job)))
        await finish(on_change and on_change(job))
    last_seen, failures = transport.monotonic(), 0
    while not job.is_final:
        started = transport.monotonic()
        left = ends - started
        if left <= 0:
            raise errors.WaitTimeout(job, timeout or 0.0)
        pause = 0.0
        try:
            answer = await connection.call_once(_long_poll(job, left), left + GRACE)
        except errors.ClientError as error:
            outage = transport.monotonic() - last_seen
            if not is_transient(error) or outage > LONGEST_OUTAGE:
                raise
            failures += 1
            pause = connection.retries.backoff(failures, error)
        else:
            last_seen, failures = transport.monotonic(), 0
            update = read(Job, answer) if answer.status == 200 else job
            # A replica of the server may be behind.
            if update.version > job.version:
                job = update
                await finish(on_change and on_change(job))
                continue
        pause = max(pause, MIN_INTERVAL - (transport.monotonic() - started))
        await transport.sleep(max(0.0, min(pause, ends - transport.monotonic())))
    return job


def _long_poll(job: Job, left: float) -> Request:
    headers = {}
    if hold := int(min(HOLD, left)):
        headers = {"prefer": f"wait={hold}", "if-none-match": f'"v{job.version}"'}
    return Request("GET", path("jobs", job.id), headers=headers)


def require_success(job: Job) -> Job:
    """Return a job that has succeeded. Raises `JobFailed` for any other."""
    if job.status != "succeeded":
        raise errors.JobFailed(job)
    return job
