"""What UniAll and cubicspaces share: an OpenAI-like video object, and new-api's errors.

Both hand a callback URL to Kling, so their pushes are Kling's legacy body with Kling's own id.
"""

from __future__ import annotations

import random
from typing import Final

from orchestrator.simulator import kling_legacy
from orchestrator.simulator.contract import Rules, StatusQuery, SubmitEndpoint, no_rules
from orchestrator.simulator.errors import ErrorKind, ErrorReply, Refusal
from orchestrator.simulator.json_body import JsonObject
from orchestrator.simulator.records import STATES, Snapshot
from orchestrator.simulator.schema import Check
from orchestrator.simulator.task_ids import TaskIds, alphanumeric, gateway_ids

STATUSES: Final = dict(
    zip(STATES, ("queued", "in_progress", "unknown", "completed", "failed"), strict=True)
)
#: Where a clip is served with the key, whose CDN is not shown to callers.
CONTENT_PATH: Final = "/v1/videos/{id}/content"
PROGRESS: Final = dict(zip(STATES, (0, 30, 0, 100, 100), strict=True))
ERRORS: Final = {
    ErrorKind.NOT_FOUND: (400, "task_not_exist", "task_not_exist"),
    ErrorKind.NO_ROUTE: (404, "invalid_url", "invalid url"),
    ErrorKind.NO_METHOD: (405, "invalid_method", "invalid method"),
    ErrorKind.FULL: (429, "fail_to_fetch_task", "当前分组上游负载已饱和，请稍后再试"),
    ErrorKind.BROKEN: (500, "do_request_failed", "请求上游地址失败"),
    ErrorKind.TIMEOUT: (504, "do_request_failed", "请求上游地址失败"),
}
BAD_TOKEN: Final[JsonObject] = {
    "error": {"message": "无效的令牌", "type": "new_api_error", "param": "", "code": ""}
}


def error_reply(kind: ErrorKind, message: str) -> ErrorReply:
    """Return new-api's TaskError.

    A bad token gets OpenAI's form; a number in place of a string duration gets a 500.
    """
    if kind in {ErrorKind.NO_KEY, ErrorKind.WRONG_KEY}:
        return 401, BAD_TOKEN
    status, code, text = ERRORS.get(kind, (400, "invalid_request", "invalid request"))
    if kind is ErrorKind.INVALID and message.startswith("duration: must be a string"):
        status, code = 500, "build_request_failed"
    return status, {"code": code, "message": message or text, "data": None}


def new_ids(rng: random.Random, prefix: str) -> TaskIds:
    return gateway_ids(prefix + alphanumeric(rng, 32), rng)


def capability(body: JsonObject) -> str:
    return "image2video" if "image" in body else "text2video"


def video(shown: Snapshot, kind: str = "video") -> JsonObject:
    """Return the response to a submission, with which most query responses begin."""
    render = shown.render
    return {
        "id": render.ids.task,
        "task_id": render.ids.task,
        "object": kind,
        "model": render.model,
        "status": STATUSES[shown.state],
        "progress": PROGRESS[shown.state],
        "created_at": shown.created // 1000,
    }


def find(query: StatusQuery) -> Snapshot:
    """Return the render a query names. Raises `Refusal` if it is unknown.

    A compatible path finds renders of its own and of the unified endpoint.
    """
    shown = query.by_task_id(query.path["id"])
    if shown is None:
        raise Refusal(ErrorKind.NOT_FOUND)
    endpoint = shown.render.endpoint
    if endpoint not in {"generations", query.path.get("endpoint", endpoint)}:
        raise Refusal(ErrorKind.NOT_FOUND)
    return shown


def submit_endpoint(check: Check, callback_field: str, rules: Rules = no_rules) -> SubmitEndpoint:
    """Return the unified endpoint."""
    path, name, push_body = "/v1/video/generations", "generations", kling_legacy.push_body
    return SubmitEndpoint(path, name, check, capability, video, push_body, callback_field, rules)
