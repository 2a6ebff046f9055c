"""Gateway document 0: dreamto. Jobs under /v1/jobs with everything in `input`, and a file upload.

The document names a callback field and no callback body, so a render's pushes come in one of two
shapes: the job object, or Kling's own body where the gateway forwards the URL.
"""

from __future__ import annotations

import random
from typing import Final

from orchestrator.simulator import body_fields as fields
from orchestrator.simulator import kling_legacy, schema
from orchestrator.simulator.contract import Dialect, QueryEndpoint, StatusQuery, SubmitEndpoint
from orchestrator.simulator.errors import ErrorKind, ErrorReply, Refusal
from orchestrator.simulator.json_body import JsonObject, object_at
from orchestrator.simulator.records import Snapshot
from orchestrator.simulator.task_ids import TaskIds, alphanumeric, gateway_ids

JOB_PUSH_BIT: Final = 0
COMPLETED_BIT: Final = 1
INPUT: Final = schema.object_of(
    {"prompt": fields.TEXT},
    {
        "image_url": fields.MEDIA,
        "video_url": fields.MEDIA,
        "audio_url": fields.MEDIA,
        "duration": schema.number(1, 60),
        "resolution": schema.pattern(r"\d+p"),
        "generate_audio": schema.boolean,
        "fixed_lens": schema.boolean,
        "mode": fields.MODE,
        **fields.KLING_OPTIONS,
    },
)
BODY: Final = schema.object_of({"model": fields.TEXT, "input": INPUT})
ERRORS: Final = {
    ErrorKind.NO_KEY: (401, "authentication_error", "invalid_api_key", "Invalid API key"),
    ErrorKind.WRONG_KEY: (401, "authentication_error", "invalid_api_key", "Invalid API key"),
    ErrorKind.NOT_FOUND: (404, "invalid_request_error", "job_not_found", "job not found"),
    ErrorKind.NO_ROUTE: (404, "invalid_request_error", "not_found", "not found"),
    ErrorKind.NO_METHOD: (405, "invalid_request_error", "method_not_allowed", "method not allowed"),
    ErrorKind.FULL: (429, "rate_limit_error", "rate_limit_exceeded", "too many jobs in progress"),
    ErrorKind.BROKEN: (500, "server_error", "internal_error", "upstream error"),
    ErrorKind.TIMEOUT: (504, "server_error", "upstream_timeout", "upstream timeout"),
}


def error_reply(kind: ErrorKind, message: str) -> ErrorReply:
    """Return an error object; for a bad body, FastAPI's form."""
    if kind not in ERRORS:
        field, _, text = message.partition(": ")
        location = ["body", *field.split(".")]
        return 422, {"detail": [{"loc": [*location], "msg": text, "type": "value_error"}]}
    status, family, code, text = ERRORS[kind]
    error: JsonObject = {"message": message or text, "type": family, "code": code}
    return status, {"error": error, "request_id": "req_simulated"}


def new_ids(rng: random.Random) -> TaskIds:
    return gateway_ids("job_" + alphanumeric(rng, 20), rng)


def capability(body: JsonObject) -> str:
    return "image2video" if "image_url" in object_at(body, "input") else "text2video"


def job(shown: Snapshot) -> JsonObject:
    """Return the job object, whose first status is `processing`.

    The document does not disclose the status of success: it is `succeeded` or `completed`.
    """
    render = shown.render
    success = "completed" if render.bit(COMPLETED_BIT) else "succeeded"
    statuses = {"unknown": "moderating", "succeeded": success, "failed": "failed"}
    body: JsonObject = {
        "id": render.ids.task,
        "object": "job",
        "status": statuses.get(shown.state, "processing"),
        "model": render.model,
        "created": shown.created // 1000,
        "request_id": "req_simulated",
    }
    if shown.state == "succeeded":
        video: JsonObject = {"duration": int(render.seconds)}
        body["output"] = {"videos": [{"url": shown.url, **video} if shown.url else video]}
    if shown.state == "failed":
        body["error"] = {"code": "task_failed", "message": shown.message}
    return body


def push_body(shown: Snapshot) -> JsonObject | None:
    """Return Kling's body or the job object.

    The job object's first status is no change after the submit response, so it is not pushed.
    """
    if not shown.render.bit(JOB_PUSH_BIT):
        return kling_legacy.push_body(shown)
    return None if shown.state == "submitted" else job(shown)


def query_response(query: StatusQuery) -> JsonObject:
    shown = query.by_task_id(query.path["id"])
    if shown is None:
        raise Refusal(ErrorKind.NOT_FOUND)
    return job(shown)


DREAMTO: Final = Dialect(
    mount="dreamto",
    submit_endpoints=(
        SubmitEndpoint(
            "/v1/jobs", "jobs", BODY, capability, job, push_body, callback_field="input"
        ),
    ),
    query_endpoints=(QueryEndpoint("/v1/jobs/{id}", query_response),),
    new_ids=new_ids,
    error_reply=error_reply,
    upload_path="/v1/files/upload",
)
