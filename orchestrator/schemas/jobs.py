"""Jobs and their history."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AwareDatetime, ConfigDict, Field, JsonValue

from orchestrator.foundation.states import FINAL, Capability, JobState, Source
from orchestrator.schemas.base import Growing, Json, Row, Shape, rfc3339_or_none


class OutputFile(Shape):
    """One file that a vendor made. `duration` is in seconds, `expires_at` when its URL ends, where that is known."""

    id: str | None
    url: str
    duration: float | None
    expires_at: AwareDatetime | None


class Output(Shape):
    """What a succeeded job has to show."""

    videos: list[OutputFile]
    images: list[OutputFile]


class JobError(Shape):
    """Why a job did not succeed: our code and words, and the vendor's where it had any."""

    code: Annotated[
        str,
        Field(
            description="`vendor_failed` (the render failed), `vendor_refused`, `vendor_auth`, `account_exhausted`, "
            "`vendor_unavailable`, `submit_unknown`, `output_missing`, ..."
        ),
    ]
    message: str
    vendor_code: str | int | None
    vendor_message: str | None


class JobLinks(Shape):
    """Where more of a job is."""

    self: str
    timeline: str
    events: str


class Job(Shape):
    """One piece of work that a vendor is asked to do."""

    id: str
    object: Literal["job"]
    status: Annotated[JobState, Growing]
    account: str
    vendor: str
    model: str
    capability: Annotated[Capability, Growing]
    external_task_id: Annotated[
        str, Field(description="The caller's id, or the job's own; the vendor gets it too.")
    ]
    vendor_task_id: str | None
    vendor_status: Annotated[str | None, Field(description="The vendor's own word.")]
    progress: Annotated[int | None, Field(description="Percent, where the vendor says it.")]
    input: dict[str, JsonValue]
    output: Output | None
    error: JobError | None
    metadata: dict[str, JsonValue]
    resolved_by: Annotated[
        Annotated[Source, Growing] | None, Field(description="Who told us how it ended.")
    ]
    retry_of: str | None
    version: Annotated[int, Field(description="Grows with every visible change.")]
    created_at: AwareDatetime
    submitted_at: AwareDatetime | None
    finished_at: AwareDatetime | None
    deadline_at: AwareDatetime
    next_poll_at: Annotated[
        AwareDatetime | None,
        Field(description="When the vendor is asked, if nothing is heard before."),
    ]
    links: JobLinks

    @property
    def is_final(self) -> bool:
        """True if nothing more is expected of it."""
        return self.status in FINAL

    @property
    def urls(self) -> list[str]:
        """Where its results are; empty unless it succeeded."""
        return (
            []
            if self.output is None
            else [one.url for one in (*self.output.videos, *self.output.images)]
        )


class TimelineEntry(Shape):
    """One thing that happened to a job; what is known of it stands in further fields.

    `push`: push, outcome, verified, copies, attempt, bytes. `move`: to, by, sequence. `event`: event, type.
    `delivery`: delivery, event, subscriber, status. `attempt`: delivery, subscriber, n, status, ms, error, response.
    `submit`, `poll`, `operator`: what was asked and what came of it.
    """

    model_config = ConfigDict(json_schema_extra=None)

    id: Annotated[str, Field(description="The cursor of this entry.")]
    at: AwareDatetime
    kind: Literal["submit", "push", "poll", "move", "event", "delivery", "attempt", "operator"]


def job_json(row: Row, base: str) -> Json:
    """Return a job; `base` is our public URL."""
    link = f"{base}/v1/jobs/{row['id']}"
    waiting = row["state"] in (JobState.SUBMITTED, JobState.PROCESSING)
    return {
        "id": row["id"],
        "object": "job",
        "status": row["state"],
        "account": row["account"],
        "vendor": row["vendor"],
        "model": row["model"],
        "capability": row["capability"],
        "external_task_id": row["external_task_id"],
        "vendor_task_id": row["vendor_task_id"],
        "vendor_status": row["vendor_status"],
        "progress": row["progress"],
        "input": row["input"],
        "output": row["output"],
        "error": row["error"],
        "metadata": row["metadata"],
        "resolved_by": row["resolved_by"],
        "retry_of": row["retry_of"],
        "version": row["version"],
        "created_at": rfc3339_or_none(row["created_at"]),
        "submitted_at": rfc3339_or_none(row["submitted_at"]),
        "finished_at": rfc3339_or_none(row["finished_at"]),
        "deadline_at": rfc3339_or_none(row["deadline_at"]),
        "next_poll_at": rfc3339_or_none(row["due_at"]) if waiting else None,
        "links": {
            "self": link,
            "timeline": f"{link}/timeline",
            "events": f"{base}/v1/events?job={row['id']}",
        },
    }


def is_final(row: Row) -> bool:
    """True if nothing more is expected of a job."""
    return row["state"] in FINAL
