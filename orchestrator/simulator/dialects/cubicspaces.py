"""Gateway document 2: cubicspaces, a new-api deployment: a unified and a Kling-compatible route.

A status query is answered as the document shows (`video`), as stock new-api does (`task`), or as
older new-api did, with the URL in `fail_reason` (`old_task`).
"""

from __future__ import annotations

from functools import partial
from typing import Final, Literal, TypeAlias

from orchestrator.simulator import body_fields as fields
from orchestrator.simulator import kling_legacy, new_api, schema
from orchestrator.simulator.contract import Dialect, QueryEndpoint, StatusQuery, SubmitEndpoint
from orchestrator.simulator.json_body import JsonObject
from orchestrator.simulator.records import STATES, Snapshot

Shape: TypeAlias = Literal["video", "task", "old_task", "mixed"]
#: The shapes of `mixed`, chosen by two bits of a render.
MIXED: Final[tuple[Shape, ...]] = ("video", "task", "old_task", "video")
SILENT_FAILURE_BIT: Final = 2
TASK_STATUSES: Final = dict(
    zip(STATES, ("QUEUED", "IN_PROGRESS", "UNKNOWN", "SUCCESS", "FAILURE"), strict=True)
)
OPTIONS: Final = {**fields.KLING_OPTIONS, "image_tail": fields.MEDIA}
UNIFIED_BODY: Final = schema.object_of(
    {"model": fields.TEXT, "prompt": fields.TEXT},
    {
        "image": fields.MEDIA,
        "mode": fields.MODE,
        "duration": schema.number(1, 60),
        "size": schema.pattern(r"\d+x\d+"),
        "metadata": schema.object_of({}, OPTIONS),
    },
)
# The relay decodes the body into Kling's struct, whose duration is a string: a number is a 500.
COMPATIBLE_OPTIONS: Final = {**OPTIONS, "mode": fields.MODE, "duration": fields.SECONDS_TEXT}
COMPATIBLE_REQUIRED: Final = {"model_name": fields.TEXT, "prompt": fields.TEXT}
COMPATIBLE: Final[schema.Fields] = {
    "text2video": schema.object_of(COMPATIBLE_REQUIRED, COMPATIBLE_OPTIONS),
    "image2video": schema.object_of(
        {**COMPATIBLE_REQUIRED, "image": fields.MEDIA}, COMPATIBLE_OPTIONS
    ),
}


def documented_video(shown: Snapshot) -> JsonObject:
    """Return the video object of document 2.

    A failure may carry no text, as new-api's does when Kling's code is 0.
    """
    body = new_api.video(shown)
    if shown.is_final:
        body["completed_at"] = shown.updated // 1000
    if shown.state == "succeeded":
        body["seconds"] = shown.render.seconds
    if shown.url:
        body["metadata"] = {"url": shown.url}
    if shown.state == "failed" and not shown.render.bit(SILENT_FAILURE_BIT):
        body["error"] = {"message": shown.message, "code": "1301"}
    return body


def task(shown: Snapshot, old: bool) -> JsonObject:
    """Return new-api's TaskDto with the raw Kling body inside."""
    render = shown.render
    raw: JsonObject = {
        "task_id": render.ids.push,
        "task_status": kling_legacy.STATUSES[shown.state],
        "task_status_msg": shown.message,
        "task_result": {"videos": kling_legacy.videos(shown)} if shown.url else {},
        "created_at": shown.created,
        "updated_at": shown.updated,
    }
    data: JsonObject = {
        "task_id": render.ids.task,
        "platform": "50",
        "action": "textGenerate" if render.capability == "text2video" else "generate",
        "status": TASK_STATUSES[shown.state],
        "fail_reason": (shown.url or "") if old and not shown.message else shown.message,
        "submit_time": shown.created // 1000,
        "start_time": shown.created // 1000,
        "finish_time": shown.updated // 1000 if shown.is_final else 0,
        "progress": f"{new_api.PROGRESS[shown.state]}%",
        "properties": {"input": ""},
        "data": {"code": 0, "message": "SUCCEED", "data": raw},
    }
    if shown.url and not old:
        data["result_url"] = shown.url
    return {"code": "success", "message": "", "data": data}


def query_response(query: StatusQuery, shape: Shape) -> JsonObject:
    shown = new_api.find(query)
    chosen = MIXED[shown.render.bits >> 3 & 3] if shape == "mixed" else shape
    return documented_video(shown) if chosen == "video" else task(shown, chosen == "old_task")


def compatible_endpoint(name: str, check: schema.Check) -> SubmitEndpoint:
    """Return a Kling-compatible route; every field stands at the top level."""
    path = f"/kling/v1/videos/{name}"
    push_body = kling_legacy.push_body
    return SubmitEndpoint(path, name, check, lambda _: name, new_api.video, push_body)


def cubicspaces(shape: Shape = "mixed") -> Dialect:
    """Return the dialect, with query responses in one shape, or one chosen per render (`mixed`)."""
    respond = partial(query_response, shape=shape)
    return Dialect(
        mount="cubicspaces",
        submit_endpoints=(
            new_api.submit_endpoint(UNIFIED_BODY, "metadata"),
            *(compatible_endpoint(name, check) for name, check in COMPATIBLE.items()),
        ),
        query_endpoints=(
            QueryEndpoint("/v1/video/generations/{id}", respond),
            QueryEndpoint("/kling/v1/videos/{endpoint}/{id}", respond),
        ),
        new_ids=partial(new_api.new_ids, prefix="video_"),
        error_reply=new_api.error_reply,
        content_path=new_api.CONTENT_PATH,
        states_content=True,
    )
