"""`client.jobs`: what has become of jobs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from orchestrator.client.pages import Listing, listed
from orchestrator.client.requests import Request, keyed, path
from orchestrator.client.responses import read
from orchestrator.client.sync_async import FaceT, Resource, offered
from orchestrator.schemas import Job, Page, TimelineEntry


class Jobs(Resource[FaceT]):
    """Jobs: read, listed, asked about, let go and done again. Submitting and waiting is the client's own."""

    @offered
    async def get(self, job_id: str) -> Job:
        """Return a job as it is now.

        >>> client.jobs.get("job_01...").status
        <JobState.PROCESSING: 'processing'>
        """
        return read(Job, await self._wire.call(Request("GET", path("jobs", job_id))))

    @listed
    def list(
        self,
        *,
        status: str | Sequence[str] | None = None,
        account: str | None = None,
        model: str | None = None,
        external_task_id: str | None = None,
        resolved_by: str | None = None,
        created_after: datetime | str | None = None,
        page_size: int = 100,
    ) -> Listing[Job]:
        """Return jobs, newest first, all that match. `page_size` is how many are asked for at once, up to 200.

        >>> for job in client.jobs.list(status=["failed", "expired"], account="main"):
        ...     print(job.id, job.error)
        """
        query = {
            "status": status,
            "account": account,
            "model": model,
            "external_task_id": external_task_id,
            "resolved_by": resolved_by,
            "created_after": created_after,
            "limit": page_size,
        }
        return Listing(self._wire, Page[Job], Request("GET", path("jobs"), query=query))

    @listed
    def timeline(self, job_id: str, *, page_size: int = 200) -> Listing[TimelineEntry]:
        """Return everything known of a job, oldest first: submissions, pushes, polls, moves, events, deliveries.

        >>> [entry.kind for entry in client.jobs.timeline("job_01...")]
        ['move', 'submit', 'move', 'push', 'move', 'event']
        """
        request = Request("GET", path("jobs", job_id, "timeline"), query={"limit": page_size})
        return Listing(self._wire, Page[TimelineEntry], request)

    @offered
    async def cancel(self, job_id: str) -> Job:
        """Stop following a job. The vendor may still render it. Raises `Conflict` if it is final already."""
        return read(Job, await self._wire.call(Request("POST", path("jobs", job_id, "cancel"))))

    @offered
    async def refresh(self, job_id: str) -> Job:
        """Have the vendor asked now, and return the job as it then is."""
        return read(Job, await self._wire.call(Request("POST", path("jobs", job_id, "refresh"))))

    @offered
    async def retry(self, job_id: str, *, idempotency_key: str | None = None) -> Job:
        """Return a new job that does the work of a final one again. Raises `Conflict` while the old one is live.

        As with `submit`, the same `idempotency_key` makes no second job.
        """
        request = Request("POST", path("jobs", job_id, "retry"), headers=keyed(idempotency_key))
        return read(Job, await self._wire.call(request))
