"""`client.jobs`: read, list, cancel, refresh and retry jobs; download their outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import IO, Any

from orchestrator.client.pages import AsyncPages, dual_list
from orchestrator.client.requests import Request, get, idempotency_header, json_fields, path, post
from orchestrator.client.sync_async import ModeT, Resource, dual
from orchestrator.schemas import Job, Page, Push, ShareLink, TimelineEntry, VendorRequest


class Jobs(Resource[ModeT]):
    """Jobs. The client itself has `submit`, `wait`, `result` and `run`."""

    @dual
    async def get(self, job_id: str) -> Job:
        """Return a job.

        >>> client.jobs.get("job_01...").status
        <JobState.PROCESSING: 'processing'>
        """
        return await self._call(Job, get("jobs", job_id))

    @dual_list
    def list(
        self,
        *,
        status: str | Sequence[str] | None = None,
        account: str | None = None,
        model: str | None = None,
        external_task_id: str | None = None,
        vendor_task_id: str | None = None,
        resolved_by: str | None = None,
        fairness_key: str | None = None,
        error: str | None = None,
        metadata: str | None = None,
        created_after: datetime | str | None = None,
        page_size: int = 100,
    ) -> AsyncPages[Job]:
        """Return all matching jobs, newest first. `page_size` is the jobs per request, up to 200.

        `error` is the code of a failed job, `metadata` an entry as `name=text`.

        >>> for job in client.jobs.list(status=["failed", "expired"], account="main"):
        ...     print(job.id, job.error)
        """
        request = get(
            "jobs",
            status=status,
            account=account,
            model=model,
            external_task_id=external_task_id,
            vendor_task_id=vendor_task_id,
            resolved_by=resolved_by,
            fairness_key=fairness_key,
            error=error,
            metadata=metadata,
            created_after=created_after,
            limit=page_size,
        )
        return AsyncPages(self._connection, Page[Job], request)

    @dual_list
    def timeline(self, job_id: str, *, page_size: int = 200) -> AsyncPages[TimelineEntry]:
        """Return a job's submissions, pushes, polls, moves, events and deliveries, oldest first.

        >>> [entry.kind for entry in client.jobs.timeline("job_01...")]
        ['move', 'submit', 'move', 'push', 'move', 'event']
        """
        request = get("jobs", job_id, "timeline", limit=page_size)
        return AsyncPages(self._connection, Page[TimelineEntry], request)

    @dual_list
    def pushes(self, job_id: str, *, page_size: int = 50) -> AsyncPages[Push]:
        """Return the vendor's pushes about a job as they were received, newest first.

        Needs the scope `write`. Tokens and signatures are masked.
        """
        request = get("jobs", job_id, "pushes", limit=page_size)
        return AsyncPages(self._connection, Page[Push], request)

    @dual
    async def download(self, job_id: str, number: int, to: IO[bytes]) -> int:
        """Write an output of a job to a file open for writing, and return its size in bytes.

        Outputs are numbered from 0: videos, then images, then audios. The service streams the file,
        also one that the vendor serves only with the account's key (`content_url`). Raises
        `Conflict` if the job has not succeeded, `ApiError` 502 if the vendor does not give it out.

        >>> with open("video.mp4", "wb") as file:
        ...     client.jobs.download("job_01...", 0, file)
        1048576
        """
        where = path("jobs", job_id, "outputs", str(number))
        request = Request("GET", where, headers={"accept": "*/*"})
        return await self._connection.download(request, to)

    @dual
    async def cancel(self, job_id: str) -> Job:
        """Cancel a job. The vendor may still render it. Raises `Conflict` if it is final."""
        return await self._call(Job, post("jobs", job_id, "cancel"))

    @dual
    async def refresh(self, job_id: str) -> Job:
        """Query the vendor now, and return the updated job."""
        return await self._call(Job, post("jobs", job_id, "refresh"))

    @dual
    async def retry(
        self, job_id: str, *, again: bool = False, idempotency_key: str | None = None
    ) -> Job:
        """Return a new job that repeats a final job.

        Raises `Conflict` while that job is live, and, unless `again`, if another job of the same
        work is live or has succeeded. As with `submit`, the same `idempotency_key` makes no second
        job.
        """
        headers = idempotency_header(idempotency_key)
        body = {"again": True} if again else None
        return await self._call(Job, post("jobs", job_id, "retry", json=body, headers=headers))

    @dual
    async def preview(
        self,
        *,
        model: str,
        input: Mapping[str, Any],
        account: str | None = None,
        capability: str | None = None,
    ) -> VendorRequest:
        """Return the request that the vendor would get for a job. Nothing is stored or sent.

        Raises `Invalid` as `submit` does.

        >>> client.jobs.preview(account="main", model="kling-v3", input={"prompt": "a cat"}).body
        {'model_name': 'kling-v3', 'prompt': 'a cat', ...}
        """
        body = json_fields(account=account, model=model, capability=capability, input=input)
        return await self._call(VendorRequest, post("jobs", "preview", json=body))

    @dual
    async def share(self, job_id: str, *, days: int | None = None) -> ShareLink:
        """Return a link that shows a job, read only, to readers without a key.

        It is valid for `days`, by default for as long as the server's settings say. Raises
        `Conflict` if they turn links off.

        >>> client.jobs.share("job_01...", days=3).url
        'https://hooks.example.com/dashboard/shared/WyJqb2JfMDEuLi4iXQ...'
        """
        body = json_fields(days=days)
        return await self._call(ShareLink, post("jobs", job_id, "share", json=body))
