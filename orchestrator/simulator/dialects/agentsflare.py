"""Gateway document 4: AgentsFlare, Kling's legacy standard behind a prefix.

The document defers to Kling's pages for details, so Kling's fields are accepted, but Kling's own
rules are not checked here. Responses carry the gateway's id; pushes come from Kling and carry
Kling's, some of them wrapped once in an envelope.
"""

from __future__ import annotations

import random
from typing import Final

from orchestrator.simulator import body_fields as fields
from orchestrator.simulator import kling_api, kling_legacy, schema
from orchestrator.simulator.contract import Dialect, QueryEndpoint, StatusQuery, SubmitEndpoint
from orchestrator.simulator.errors import ErrorKind, ErrorReply
from orchestrator.simulator.json_body import JSON, JsonObject
from orchestrator.simulator.records import Snapshot
from orchestrator.simulator.task_ids import TaskIds, digits, gateway_ids

ENVELOPE_BIT: Final = 0
REQUIRED: Final[schema.Fields] = {
    "model_name": fields.TEXT,
    "prompt": fields.TEXT,
    "duration": fields.SECONDS_TEXT,
}
CHECKS: Final[schema.Fields] = {
    "text2video": schema.object_of(REQUIRED, kling_legacy.TEXT_OPTIONS),
    "image2video": schema.object_of(
        {**REQUIRED, "image": fields.MEDIA}, kling_legacy.IMAGE_OPTIONS
    ),
    "motion-control": kling_legacy.MOTION_CONTROL,
    "omni-video": kling_legacy.omni(schema.integer(1, 15)),
    "multi-image2video": kling_legacy.MULTI_IMAGE,
}


def error_reply(kind: ErrorKind, message: str) -> ErrorReply:
    status, body = kling_api.error_reply(kind, message)
    if status == 401:
        return 401, {"code": 1002, "message": "Authorization is invalid", "data": None}
    return status, body


def new_ids(rng: random.Random) -> TaskIds:
    """Return a 30-character gateway id that begins with a time, and Kling's id for the pushes."""
    return gateway_ids(digits(rng, 17, "202604090") + f"{rng.getrandbits(52):013x}", rng)


def envelope(data: JSON) -> JsonObject:
    return {"code": 0, "message": "success", "data": data}


def task(shown: Snapshot) -> JsonObject:
    """Return `data` of a query response: no times, no video id."""
    render = shown.render
    body: JsonObject = {
        "task_id": render.ids.task,
        "task_status": kling_legacy.STATUSES[shown.state],
    }
    if shown.state == "failed":
        body["task_status_msg"] = shown.message
    if shown.state == "succeeded":
        video: JsonObject = {"duration": render.seconds}
        body["task_result"] = {"videos": [{"url": shown.url, **video} if shown.url else video]}
    return body


def submit_response(shown: Snapshot) -> JsonObject:
    return envelope({"task_id": shown.render.ids.task})


def query_response(query: StatusQuery) -> JsonObject:
    return envelope(task(kling_legacy.find(query)))


def push_body(shown: Snapshot) -> JsonObject:
    body = kling_legacy.push_body(shown)
    return envelope(body) if shown.render.bit(ENVELOPE_BIT) else body


def submit_endpoint(name: str, check: schema.Check) -> SubmitEndpoint:
    return SubmitEndpoint(
        f"/klingai/v1/videos/{name}",
        name,
        check,
        lambda _: kling_legacy.CAPABILITIES[name],
        submit_response,
        push_body,
        rules=kling_legacy.prompt_rules,
    )


AGENTSFLARE: Final = Dialect(
    mount="agentsflare",
    submit_endpoints=tuple(submit_endpoint(name, check) for name, check in CHECKS.items()),
    query_endpoints=(QueryEndpoint("/klingai/v1/videos/{endpoint}/{id}", query_response),),
    new_ids=new_ids,
    error_reply=error_reply,
    unique_external_ids=True,
)
