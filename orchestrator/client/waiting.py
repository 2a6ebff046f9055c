"""Following one job to its end: a held question (`Prefer: wait`), asked again until the job is final.

A server that restarts, or is away for a while, only makes it take longer: what is known of the job is kept, and the
next answer goes on from there.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from orchestrator.client import errors
from orchestrator.client.callbacks import done
from orchestrator.client.connection import Wire
from orchestrator.client.requests import Request, path
from orchestrator.client.responses import read
from orchestrator.client.retries import is_passing
from orchestrator.schemas import Job

#: Seconds for which a question is held: shorter than the minute that most proxies allow.
HOLD = 30
#: Seconds between questions at least, if the answer was no news: a server that is about to end answers at once.
PACE = 0.25
#: Seconds beyond its time that an answer may take: it may be the last word.
GRACE = 5.0
#: Seconds for which a server may be away without a word, once it had answered.
PATIENCE = 600.0


@dataclass(slots=True)
class Wait:
    """A job that is waited for, and what is known of it."""

    wire: Wire
    job: Job
    on_change: Callable[[Job], object] | None
    #: When a server that has been silent since then was last heard, and how often it was asked in vain.
    heard: float
    failures: int = 0

    async def until(self, ends: float) -> Job:
        """Return the job once it is final, or as it is at an instant. Raises `ClientError`."""
        port = self.wire.port
        while not self.job.is_final and (left := ends - port.monotonic()) > 0:
            asked = port.monotonic()
            pause = await self._ask(int(min(HOLD, left)), left + GRACE)
            if pause is not None:
                pause = max(pause, PACE - (port.monotonic() - asked))
                await port.sleep(max(0.0, min(pause, ends - port.monotonic())))
        return self.job

    async def _ask(self, hold: int, patience: float) -> float | None:
        """Ask once; return the seconds to wait before asking again, None if there was news."""
        held = {"prefer": f"wait={hold}", "if-none-match": f'"v{self.job.version}"'} if hold else {}
        try:
            answer = await self.wire.once(
                Request("GET", path("jobs", self.job.id), headers=held), patience
            )
        except errors.ClientError as error:
            if not is_passing(error) or self.wire.port.monotonic() - self.heard > PATIENCE:
                raise
            self.failures += 1
            asked = error.retry_after if isinstance(error, errors.ApiError) else None
            return self.wire.retries.pause(self.failures, asked)
        self.heard, self.failures = self.wire.port.monotonic(), 0
        if answer.status == 200:
            job = read(Job, answer)
            # One of several servers may be a step behind.
            if job.version > self.job.version:
                self.job = job
                await done(self.on_change and self.on_change(job))
                return None
        return 0.0


async def until_final(
    wire: Wire, job: Job | str, timeout: float | None, on_change: Callable[[Job], object] | None
) -> Job:
    """Return a job once it is final. Raises `WaitTimeout` after `timeout` seconds, and `ClientError`."""
    ends = math.inf if timeout is None else wire.port.monotonic() + timeout
    if isinstance(job, str):
        job = read(Job, await wire.call(Request("GET", path("jobs", job))))
        await done(on_change and on_change(job))
    job = await Wait(wire, job, on_change, heard=wire.port.monotonic()).until(ends)
    if not job.is_final:
        raise errors.WaitTimeout(job, timeout or 0.0)
    return job


def succeeded(job: Job) -> Job:
    """Return a job that has succeeded. Raises `JobFailed` for any other."""
    if job.status != "succeeded":
        raise errors.JobFailed(job)
    return job
