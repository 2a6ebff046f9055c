"""Reports: the state of a job as a vendor describes it, in our terms. `reader` makes them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from orchestrator.foundation.states import JobState

Words = Mapping[str, JobState]

#: Every status word seen at a gateway: lower case, `_` for blanks. A vendor's own table adds to it.
WORDS: Words = {
    word: state
    for state, words in {
        JobState.SUBMITTED: (
            "submitted", "queued", "queuing", "not_start", "not_started", "pending",
            "created", "in_queue", "waiting", "wait", "accepted", "scheduled", "initialized",
            "starting", "preparing", "throttled",
        ),
        JobState.PROCESSING: (
            "processing", "process", "in_progress", "in_process", "running", "generating", "active",
            "rendering", "executing", "working", "uploading",
        ),
        JobState.SUCCEEDED: (
            "succeed", "succeeded", "success", "successful", "completed", "complete", "done",
            "finished", "finish", "成功", "已完成",
        ),
        JobState.FAILED: (
            "failed", "fail", "failure", "error", "errored", "cancelled", "canceled", "expired",
            "timeout", "timed_out", "time_out", "rejected", "aborted", "terminated", "失败",
        ),
    }.items()
    for word in words
}  # fmt: skip
#: Keys of the vendor's id of a task, and of ours.
IDS = (
    "task_id", "id", "taskId", "job_id", "jobId", "video_id", "generation_id", "taskID", "task_ids",
    "videoId", "generationId", "prediction_id",
)  # fmt: skip
EXTERNAL_IDS = ("external_task_id", "external_id", "externalTaskId")


class Output(NamedTuple):
    """One file of a result. `duration` is in seconds; None where the vendor omits it.

    `needs_key`: the vendor serves the URL only with the account's key. `is_stated`: the vendor's
    answer holds the URL; otherwise it follows from the dialect.
    """

    url: str
    id: str | None = None
    duration: float | None = None
    expires_at: datetime | None = None
    watermark_url: str | None = None
    needs_key: bool = False
    is_stated: bool = True


class Report(NamedTuple):
    """One job as a vendor describes it. `word` is its status word.

    `state` is None for an unknown word: the job stays live.
    """

    state: JobState | None
    word: str = ""
    vendor_task_id: str | None = None
    external_task_id: str | None = None
    progress: int | None = None
    videos: tuple[Output, ...] = ()
    images: tuple[Output, ...] = ()
    audios: tuple[Output, ...] = ()
    #: What the vendor says that it charged: its JSON, unchanged.
    billing: Any = None
    message: str | None = None
    vendor_code: str | int | None = None
    updated_at: datetime | None = None
    #: When the files of the result stop working, where the answer names none.
    expires_at: datetime | None = None

    @property
    def has_output(self) -> bool:
        """True if there is a URL to fetch."""
        return bool(self.videos or self.images or self.audios)
