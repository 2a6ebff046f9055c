"""Jobs: the columns they are shown from, the model, its writer and an example; timeline entries."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal, TypedDict

from pydantic import AwareDatetime, ConfigDict, Field, JsonValue

from orchestrator.foundation.json_codec import Raw, encode
from orchestrator.foundation.states import FINAL, Capability, JobState, Source
from orchestrator.schemas.accounts import Hold
from orchestrator.schemas.base import Json, OpenEnum, Shape, rfc3339_or_none
from orchestrator.schemas.example_values import BASE, CREATED, IDS, NEXT_DAY


class JobHead(TypedDict):
    """The columns of `job` that show whether it has changed: cheap to read, however wide it is."""

    state: str
    version: int
    account: str


class JobColumns(JobHead):
    """The columns of `job` that `job_json` reads. A whole row has them too."""

    id: str
    vendor: str
    model: str
    capability: str
    external_task_id: str
    vendor_task_id: str | None
    vendor_status: str | None
    progress: int | None
    input: Raw
    output: dict[str, Any] | None
    error: dict[str, Any] | None
    billing: Any | None
    metadata: dict[str, Any]
    resolved_by: str | None
    retry_of: str | None
    retry_root: str | None
    api_key: str
    fairness_key: str
    queue_rank: int
    start_after: datetime | None
    created_at: datetime
    submitted_at: datetime | None
    finished_at: datetime | None
    deadline_at: datetime
    due_at: datetime | None


class StoredFile(TypedDict):
    """A file of `job.output` as stored. Jobs of older versions lack the last three fields.

    `url` is always the vendor's. `needs_key`: it is served only with the account's key.
    `is_stated`: the vendor's answer held it.
    """

    id: str | None
    url: str
    duration: float | None
    expires_at: str | None
    watermark_url: str | None
    needs_key: bool
    is_stated: bool


class OutputFile(Shape):
    """A file that the vendor made. `duration` is in seconds; `expires_at` is when its URL ends."""

    id: str | None
    url: Annotated[
        str, Field(description="The vendor's. Where it gave none: the same as `content_url`.")
    ]
    duration: float | None
    expires_at: AwareDatetime | None
    watermark_url: Annotated[
        str | None, Field(description="The copy with a watermark, where the vendor made one.")
    ] = None
    content_url: Annotated[
        str | None,
        Field(
            description="Where this service streams the file, for a key of ours. Set where the "
            "vendor serves it only with the account's own key; null: `url` needs no key."
        ),
    ] = None

    @property
    def location(self) -> str:
        """The URL to fetch: `content_url` where there is one."""
        return self.content_url or self.url


class Output(Shape):
    """The results of a succeeded job."""

    videos: list[OutputFile]
    images: list[OutputFile]
    audios: list[OutputFile] = Field(default_factory=list)

    @property
    def files(self) -> list[OutputFile]:
        """All files, in the order of `GET /v1/jobs/{id}/outputs/{n}`."""
        return [*self.videos, *self.images, *self.audios]


class JobError(Shape):
    """Why a job did not succeed: our code and message, and the vendor's where it sent any."""

    code: Annotated[
        str,
        Field(
            description="`vendor_failed` (the render failed), `vendor_refused`, `vendor_auth`, "
            "`account_exhausted`, `vendor_unavailable`, `submit_unknown`, `output_missing`, "
            "`input_missing`, `input_unsupported`, ..."
        ),
    ]
    message: str
    vendor_code: str | int | None
    vendor_message: str | None


class JobLinks(Shape):
    """URLs of a job, its timeline and its events."""

    self: str
    timeline: str
    events: str


class Job(Shape):
    """One piece of work that a vendor is asked to do."""

    id: str
    object: Literal["job"]
    status: Annotated[JobState, OpenEnum]
    account: str
    vendor: str
    model: str
    capability: Annotated[Capability, OpenEnum]
    external_task_id: Annotated[
        str, Field(description="The caller's id, or the job's own; the vendor gets it too.")
    ]
    vendor_task_id: str | None
    vendor_status: Annotated[str | None, Field(description="The vendor's own status word.")]
    progress: Annotated[int | None, Field(description="Percent, where the vendor reports it.")]
    input: dict[str, JsonValue]
    output: Output | None
    error: JobError | None
    billing: Annotated[
        JsonValue, Field(description="What the vendor says that it charged: its JSON, unchanged.")
    ] = None
    metadata: dict[str, JsonValue]
    resolved_by: Annotated[
        Annotated[Source, OpenEnum] | None, Field(description="Where the final status came from.")
    ]
    retry_of: str | None
    retry_root: Annotated[
        str | None, Field(description="The first job of a chain of retries; null: no retry.")
    ] = None
    priority: Annotated[
        int, Field(description="Among the queued jobs of its fairness key: higher goes first.")
    ] = 0
    fairness_key: Annotated[
        str | None, Field(description="Slots of the account go round the keys; null: its API key.")
    ] = None
    start_after: Annotated[
        AwareDatetime | None, Field(description="It is not submitted before; null: at once.")
    ] = None
    version: Annotated[int, Field(description="Grows with every visible change.")]
    created_at: AwareDatetime
    submitted_at: AwareDatetime | None
    finished_at: AwareDatetime | None
    deadline_at: AwareDatetime
    next_poll_at: Annotated[
        AwareDatetime | None,
        Field(description="When the vendor is queried, if no push arrives before."),
    ]
    held: Annotated[
        Hold | None, Field(description="Why it stays queued, if its account is held.")
    ] = None
    links: JobLinks

    @property
    def is_final(self) -> bool:
        """True if the job changes no further."""
        return self.status in FINAL

    @property
    def urls(self) -> list[str]:
        """The URLs to fetch its results from; empty unless it succeeded.

        One of this service (`content_url`) needs an API key.
        """
        return [file.location for file in self.output.files] if self.output else []


class ShareLink(Shape):
    """An expiring link to a page that shows one job, read only, without a key."""

    object: Literal["share_link"]
    job: str
    url: str
    expires_at: AwareDatetime


class TimelineEntry(Shape):
    """One step in the history of a job. Further fields depend on `kind`.

    `push`: push, outcome, verified, copies, attempt, bytes. `move`: to, by, sequence.
    `event`: event, type. `delivery`: delivery, event, subscriber, status.
    `attempt`: delivery, subscriber, n, status, ms, error, response.
    `submit`, `poll`, `operator`: what was asked and what came of it.
    """

    model_config = ConfigDict(json_schema_extra=None)

    id: Annotated[str, Field(description="The cursor of this entry.")]
    at: AwareDatetime
    kind: Annotated[
        Literal["submit", "push", "poll", "move", "event", "delivery", "attempt", "operator"],
        OpenEnum,
    ]


# Written by hand: pydantic would cost several times as much on every completion.
def job_json(row: JobColumns, base: str, held: Json | None = None) -> Json:
    """Return a job as JSON; `base` is the service's public URL, `held` its account's hold."""
    link = f"{base}/v1/jobs/{row['id']}"
    polled = row["state"] in (JobState.SUBMITTED, JobState.PROCESSING)
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
        "output": row["output"] and output_json(row["output"], link),
        "error": row["error"],
        "billing": row["billing"],
        "metadata": row["metadata"],
        "resolved_by": row["resolved_by"],
        "retry_of": row["retry_of"],
        "retry_root": row["retry_root"],
        "priority": -row["queue_rank"],
        "fairness_key": _given_key(row),
        "start_after": rfc3339_or_none(row["start_after"]),
        "version": row["version"],
        "created_at": rfc3339_or_none(row["created_at"]),
        "submitted_at": rfc3339_or_none(row["submitted_at"]),
        "finished_at": rfc3339_or_none(row["finished_at"]),
        "deadline_at": rfc3339_or_none(row["deadline_at"]),
        "next_poll_at": rfc3339_or_none(row["due_at"]) if polled else None,
        "held": held,
        "links": {
            "self": link,
            "timeline": f"{link}/timeline",
            "events": f"{base}/v1/events?job={row['id']}",
        },
    }


def _given_key(row: JobColumns) -> str | None:
    """Return a fairness key that is not that of the job's API key."""
    return None if row["fairness_key"] in ("", row["api_key"]) else row["fairness_key"]


def stored_files(output: Mapping[str, Any]) -> list[StoredFile]:
    """Return the files of a stored output, numbered as `GET /v1/jobs/{id}/outputs/{n}` has them."""
    return [file for kind in Output.model_fields for file in output.get(kind, ())]


def output_json(stored: Mapping[str, Any], link: str) -> Json:
    """Return a stored output as JSON; `link` is the URL of the job."""
    shown: Json = {}
    number = 0
    for kind in Output.model_fields:
        files: Iterable[StoredFile] = stored.get(kind, ())
        shown[kind] = [
            _file_json(file, f"{link}/outputs/{n}") for n, file in enumerate(files, number)
        ]
        number += len(shown[kind])
    return shown


def _file_json(file: StoredFile, content: str) -> Json:
    is_stated = file.get("is_stated", True)
    return {
        "id": file["id"],
        "url": file["url"] if is_stated else content,
        "duration": file["duration"],
        "expires_at": file["expires_at"],
        "watermark_url": file.get("watermark_url"),
        "content_url": content if file.get("needs_key") or not is_stated else None,
    }


def is_final(row: JobHead) -> bool:
    """True if the job changes no further."""
    return row["state"] in FINAL


_SUBMITTED = CREATED + timedelta(milliseconds=620)
EXAMPLE_INPUT: Json = {
    "prompt": "a cat surfing at sunset", "image_url": "https://shop.example/cat.png", "duration": 5
}  # fmt: skip
_ROW: JobColumns = {
    "id": IDS["job"], "state": "processing", "account": "main", "vendor": "cloudsway",
    "model": "kling-v3", "capability": "image2video", "external_task_id": "order-991",
    "vendor_task_id": "90193357", "vendor_status": "processing", "progress": None,
    "input": Raw(encode(EXAMPLE_INPUT)), "output": None, "error": None, "billing": None,
    "metadata": {"order": "991"}, "resolved_by": None, "retry_of": None, "retry_root": None,
    "api_key": "", "fairness_key": "shop-7", "queue_rank": 0, "start_after": None,
    "version": 3, "created_at": CREATED, "submitted_at": _SUBMITTED, "finished_at": None,
    "deadline_at": NEXT_DAY, "due_at": _SUBMITTED + timedelta(minutes=1),
}  # fmt: skip
JOB_EXAMPLE = job_json(_ROW, BASE) | {"input": EXAMPLE_INPUT}
