"""What a vendor says about a job, in our words, and the shapes it is said in.

Five shapes cover the gateways we speak to: Kling's legacy object, Kling's new object, a job object, an OpenAI-video
object and new-api's task record. Which of them a body is shows in its keys, so each reader is one small function and
`read` picks.
Every byte is hostile: values of the wrong type are left out, texts are capped, and nothing recurses on what was sent.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from orchestrator.foundation.errors import Unreadable
from orchestrator.foundation.states import JobState
from orchestrator.foundation.untrusted import code, instant, name, percent, seconds, text, url

Item = Mapping[str, Any]
Words = Mapping[str, JobState]

_OUTPUT_CAP = 32
_ITEM_CAP = 512

#: Every status word seen at a Kling gateway, lower case. A vendor's own table adds to it.
WORDS: Words = {
    **dict.fromkeys(
        ("submitted", "queued", "not_start", "pending", "created", "in_queue"), JobState.SUBMITTED
    ),
    **dict.fromkeys(("processing", "in_progress", "running", "generating"), JobState.PROCESSING),
    **dict.fromkeys(
        ("succeed", "succeeded", "success", "completed", "complete", "done"), JobState.SUCCEEDED
    ),
    **dict.fromkeys(
        ("failed", "failure", "error", "cancelled", "canceled", "expired", "timeout"),
        JobState.FAILED,
    ),
}


class Output(NamedTuple):
    """One file a vendor made. `duration` in seconds; None where the vendor did not say."""

    url: str
    id: str | None = None
    duration: float | None = None
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """What a vendor says about one job. `state` is None where its word means nothing to us: the job stays live."""

    state: JobState | None
    word: str = ""
    vendor_task_id: str | None = None
    external_task_id: str | None = None
    progress: int | None = None
    videos: tuple[Output, ...] = ()
    images: tuple[Output, ...] = ()
    message: str | None = None
    vendor_code: str | int | None = None
    updated_at: datetime | None = None

    @property
    def has_output(self) -> bool:
        """True if there is a URL to fetch."""
        return bool(self.videos or self.images)


def read(body: Any, words: Words) -> list[Report]:
    """Return the reports in a parsed body, bare or enveloped once, one object or a list of them.

    Raises `Unreadable` when there is no object with a status in it.
    """
    inner = body["data"] if isinstance(body, dict) and "code" in body and "data" in body else body
    items = inner if isinstance(inner, list) else [inner]
    if not all(isinstance(item, dict) for item in items):
        raise Unreadable("the body holds no task object")
    return [read_item(item, words) for item in items[:_ITEM_CAP]]


def read_item(item: Item, words: Words) -> Report:
    """Return what one task object says. Raises `Unreadable` if it is none of the known shapes."""
    for fits, reader in SHAPES:
        if fits(item):
            return reader(item, words)
    raise Unreadable("the object has none of the known task shapes")


def legacy(item: Item, words: Words) -> Report:
    """Read Kling's legacy object (`task_status`, `task_result`); pushes are documented without an envelope."""
    info, result = _object(item, "task_info"), _object(item, "task_result")
    word = text(item.get("task_status")) or ""
    return Report(
        state=words.get(word.lower()),
        word=word,
        vendor_task_id=name(item.get("task_id")),
        external_task_id=name(info.get("external_task_id")) or name(item.get("external_task_id")),
        videos=outputs(result.get("videos")),
        images=outputs(result.get("images")),
        message=text(item.get("task_status_msg")),
        updated_at=instant(item.get("updated_at")),
    )


def new(item: Item, words: Words) -> Report:
    """Read Kling's new object (`outputs`, `create_time`, `external_id`)."""
    word = text(item.get("status")) or ""
    made = item.get("outputs")
    kinds = [one for one in made if isinstance(one, dict)] if isinstance(made, list) else []
    return Report(
        state=words.get(word.lower()),
        word=word,
        vendor_task_id=name(item.get("id")),
        external_task_id=name(item.get("external_id")) or name(item.get("external_task_id")),
        videos=outputs([one for one in kinds if one.get("type", "video") == "video"]),
        images=outputs([one for one in kinds if one.get("type") == "image"]),
        message=text(item.get("message")),
        updated_at=instant(item.get("update_time")),
    )


def job_object(item: Item, words: Words) -> Report:
    """Read a gateway's job object (`object: "job"`, `output.videos[]`)."""
    made, error = _object(item, "output"), _object(item, "error")
    word = text(item.get("status")) or ""
    return Report(
        state=words.get(word.lower()),
        word=word,
        vendor_task_id=name(item.get("id")),
        external_task_id=name(item.get("external_task_id")),
        videos=outputs(made.get("videos")),
        images=outputs(made.get("images")),
        message=text(error.get("message")) or text(item.get("error")),
        vendor_code=code(error.get("code")),
    )


def openai_video(item: Item, words: Words) -> Report:
    """Read an OpenAI-video object. `seconds` is the clip's length; a `duration` beside it is how long the task took."""
    result, error = _object(item, "result"), _object(item, "error")
    word = text(item.get("status")) or ""
    places = (item.get("video_url"), _object(item, "metadata").get("url"), result.get("video_url"))
    listed = result.get("outputs")
    urls = [*places, *(listed[:_OUTPUT_CAP] if isinstance(listed, list) else ())]
    length = seconds(item.get("seconds"))
    videos = tuple(
        Output(address, duration=length) for address in dict.fromkeys(filter(None, map(url, urls)))
    )
    return Report(
        state=words.get(word.lower()),
        word=word,
        vendor_task_id=name(item.get("task_id")) or name(item.get("id")),
        progress=percent(item.get("progress")),
        videos=videos,
        message=text(error.get("message")) or text(item.get("error")),
        vendor_code=code(error.get("code")),
    )


def relay_task(item: Item, words: Words) -> Report:
    """Read new-api's task record. Old versions put the URL of a success into `fail_reason`."""
    word = text(item.get("status")) or ""
    state = words.get(word.lower())
    inner = _object(_object(item, "data"), "data")
    kling = legacy(inner, words)
    address = url(item.get("result_url")) or (
        url(item.get("fail_reason")) if state is JobState.SUCCEEDED else None
    )
    videos = kling.videos or ((Output(address),) if address else ())
    return Report(
        state=state,
        word=word,
        vendor_task_id=name(item.get("task_id")),
        external_task_id=kling.external_task_id,
        progress=percent(item.get("progress")),
        videos=videos,
        message=text(item.get("fail_reason")) if state is JobState.FAILED else None,
    )


def _is_relay_task(item: Item) -> bool:
    return "status" in item and (
        "fail_reason" in item or "result_url" in item or "submit_time" in item
    )


def _is_new(item: Item) -> bool:
    return "status" in item and (
        "outputs" in item or "create_time" in item or "update_time" in item
    )


def _is_job_object(item: Item) -> bool:
    return "status" in item and (item.get("object") == "job" or "output" in item)


#: First fit wins, the most telling keys first.
SHAPES: tuple[tuple[Callable[[Item], bool], Callable[[Item, Words], Report]], ...] = (
    (lambda item: "task_status" in item, legacy),
    (_is_relay_task, relay_task),
    (_is_job_object, job_object),
    (_is_new, new),
    (lambda item: "status" in item and ("id" in item or "task_id" in item), openai_video),
)


def outputs(value: Any) -> tuple[Output, ...]:
    """Return the entries of a list of files that have a usable URL."""
    if not isinstance(value, list):
        return ()
    return tuple(
        Output(address, name(entry.get("id")), seconds(entry.get("duration")), _expiry(address))
        for entry in value[:_OUTPUT_CAP]
        if isinstance(entry, dict) and (address := url(entry.get("url")))
    )


_KS_TIME = re.compile(r"[?&]ksTime=([0-9a-f]{8})(?:&|$)")


def _expiry(address: str) -> datetime | None:
    """Return when Kling's CDN stops serving a URL: `ksTime` is hexadecimal Unix seconds."""
    found = _KS_TIME.search(address)
    return datetime.fromtimestamp(int(found[1], 16), UTC) if found else None


def _object(item: Item, key: str) -> Item:
    value = item.get(key)
    return value if isinstance(value, dict) else {}
