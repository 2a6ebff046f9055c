"""Reports: the state of a job as a vendor describes it, in our terms, and the readers of its JSON.

Five shapes cover the known gateways: Kling's legacy object, Kling's new object, a job object, an
OpenAI-video object and new-api's task record. The keys of an object show its shape; `read_item`
picks the reader.
All input is hostile: values of a wrong type are left out, texts are capped, and no reader recurses.
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
    """One file of a result. `duration` is in seconds; None where the vendor omits it.

    `needs_key`: the vendor serves the URL only with the account's key.
    """

    url: str
    id: str | None = None
    duration: float | None = None
    expires_at: datetime | None = None
    watermark_url: str | None = None
    needs_key: bool = False


@dataclass(frozen=True, slots=True)
class Report:
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

    @property
    def has_output(self) -> bool:
        """True if there is a URL to fetch."""
        return bool(self.videos or self.images or self.audios)


def read(body: Any, words: Words) -> list[Report]:
    """Return the reports in a parsed body: an object or a list, bare or in one envelope.

    Raises `Unreadable` if an item is not a task object.
    """
    data = body["data"] if isinstance(body, dict) and "code" in body and "data" in body else body
    items = data if isinstance(data, list) else [data]
    if not all(isinstance(item, dict) for item in items):
        raise Unreadable("the body holds no task object")
    return [read_item(item, words) for item in items[:_ITEM_CAP]]


def read_item(item: Item, words: Words) -> Report:
    """Return the report in one task object. Raises `Unreadable` for an unknown shape."""
    for matches, reader in SHAPES:
        if matches(item):
            return reader(item, words)
    raise Unreadable("the object has none of the known task shapes")


def read_legacy(item: Item, words: Words) -> Report:
    """Read Kling's legacy object (`task_status`, `task_result`).

    Pushes are documented without an envelope.
    """
    info, result = _object(item, "task_info"), _object(item, "task_result")
    word = text(item.get("task_status")) or ""
    return Report(
        state=words.get(word.lower()),
        word=word,
        vendor_task_id=name(item.get("task_id")),
        external_task_id=name(info.get("external_task_id")) or name(item.get("external_task_id")),
        videos=_outputs(result.get("videos")),
        images=_outputs(result.get("images")),
        message=text(item.get("task_status_msg")),
        updated_at=instant(item.get("updated_at")),
    )


def read_new(item: Item, words: Words) -> Report:
    """Read Kling's new object (`outputs`, `create_time`, `external_id`)."""
    word = text(item.get("status")) or ""
    files = item.get("outputs")
    files = [file for file in files if isinstance(file, dict)] if isinstance(files, list) else []
    return Report(
        state=words.get(word.lower()),
        word=word,
        vendor_task_id=name(item.get("id")),
        external_task_id=name(item.get("external_id")) or name(item.get("external_task_id")),
        videos=_outputs([file for file in files if file.get("type", "video") == "video"]),
        images=_outputs([file for file in files if file.get("type") == "image"]),
        message=text(item.get("message")),
        updated_at=instant(item.get("update_time")),
    )


def read_job_object(item: Item, words: Words) -> Report:
    """Read a gateway's job object (`object: "job"`, `output.videos[]`)."""
    output, error = _object(item, "output"), _object(item, "error")
    word = text(item.get("status")) or ""
    return Report(
        state=words.get(word.lower()),
        word=word,
        vendor_task_id=name(item.get("id")),
        external_task_id=name(item.get("external_task_id")),
        videos=_outputs(output.get("videos")),
        images=_outputs(output.get("images")),
        message=text(error.get("message")) or text(item.get("error")),
        vendor_code=code(error.get("code")),
    )


def read_openai_video(item: Item, words: Words) -> Report:
    """Read an OpenAI-video object.

    `seconds` is the clip's length; a `duration` next to it is how long the task took.
    """
    result, error = _object(item, "result"), _object(item, "error")
    word = text(item.get("status")) or ""
    urls = [item.get("video_url"), _object(item, "metadata").get("url"), result.get("video_url")]
    if isinstance(more := result.get("outputs"), list):
        urls += more[:_OUTPUT_CAP]
    length = seconds(item.get("seconds"))
    addresses = dict.fromkeys(filter(None, map(url, urls)))
    return Report(
        state=words.get(word.lower()),
        word=word,
        vendor_task_id=name(item.get("task_id")) or name(item.get("id")),
        progress=percent(item.get("progress")),
        videos=tuple(Output(address, duration=length) for address in addresses),
        message=text(error.get("message")) or text(item.get("error")),
        vendor_code=code(error.get("code")),
    )


def read_relay_task(item: Item, words: Words) -> Report:
    """Read new-api's task record. Old versions put the URL of a success into `fail_reason`."""
    word = text(item.get("status")) or ""
    state = words.get(word.lower())
    kling = read_legacy(_object(_object(item, "data"), "data"), words)
    reason = item.get("fail_reason")
    address = url(item.get("result_url")) or (url(reason) if state is JobState.SUCCEEDED else None)
    return Report(
        state=state,
        word=word,
        vendor_task_id=name(item.get("task_id")),
        external_task_id=kling.external_task_id,
        progress=percent(item.get("progress")),
        videos=kling.videos or ((Output(address),) if address else ()),
        message=text(reason) if state is JobState.FAILED else None,
    )


def _has_status_and(*keys: str) -> Callable[[Item], bool]:
    return lambda item: "status" in item and any(key in item for key in keys)


def _is_job_object(item: Item) -> bool:
    return "status" in item and (item.get("object") == "job" or "output" in item)


#: The first match wins; the most specific keys come first.
SHAPES: tuple[tuple[Callable[[Item], bool], Callable[[Item, Words], Report]], ...] = (
    (lambda item: "task_status" in item, read_legacy),
    (_has_status_and("fail_reason", "result_url", "submit_time"), read_relay_task),
    (_is_job_object, read_job_object),
    (_has_status_and("outputs", "create_time", "update_time"), read_new),
    (_has_status_and("id", "task_id"), read_openai_video),
)


def _outputs(value: Any) -> tuple[Output, ...]:
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
