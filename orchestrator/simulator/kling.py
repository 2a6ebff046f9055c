"""What Kling itself says, directly or through a gateway: its error codes, its two push bodies, its ids.

Pages: klingai.com/document-api get-started/callbacks (push bodies) and common information (error codes).
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Final

from orchestrator.simulator.dialect import Answer, Trouble, digits
from orchestrator.simulator.render import Names, Sight, State
from orchestrator.simulator.shapes import JsonObject

REQUEST_ID: Final = "9984d27b-a408-4073-ae28-17ca6a13622d"
LEGACY_WORDS: Final[Mapping[State, str]] = {
    "submitted": "submitted",
    "processing": "processing",
    "unknown": "queueing",
    "succeeded": "succeed",
    "failed": "failed",
}
NEW_WORDS: Final[Mapping[State, str]] = {
    **LEGACY_WORDS,
    "unknown": "reviewing",
    "succeeded": "succeeded",
}
CODES: Final[Mapping[Trouble, tuple[int, int, str]]] = {
    Trouble.NO_KEY: (401, 1001, "Authorization is empty"),
    Trouble.WRONG_KEY: (401, 1002, "Authorization is invalid"),
    Trouble.EARLY_KEY: (401, 1003, "Authorization is not yet valid (nbf)"),
    Trouble.EXPIRED_KEY: (401, 1004, "Authorization has expired"),
    Trouble.KEY_KIND: (401, 1002, "The current API does not support AK/SK"),
    Trouble.INVALID: (400, 1201, "Invalid parameter value"),
    Trouble.NO_ROUTE: (404, 1203, "Requested resource does not exist"),
    Trouble.NO_METHOD: (404, 1202, "Invalid request method"),
    Trouble.NO_MODEL: (404, 1203, "Requested resource does not exist (e.g. model)"),
    Trouble.NOT_FOUND: (400, 1201, "Task not found by id/external id"),
    Trouble.DUPLICATE: (400, 1201, "external_task_id already exists"),
    Trouble.FULL: (429, 1303, "parallel task over resource pack limit"),
    Trouble.BROKEN: (500, 5000, "Internal server error"),
    Trouble.TIMEOUT: (504, 5002, "Internal timeout"),
}
THIRTY_DAYS: Final = 30 * 86_400


def kling_trouble(trouble: Trouble, message: str) -> Answer:
    """The official error envelope."""
    status, code, words = CODES[trouble]
    return Answer(status, {"code": code, "message": message or words, "request_id": REQUEST_ID})


def kling_names(rng: random.Random) -> Names:
    """18 digits, the same in answers and pushes."""
    task = digits(rng, 18, "90")
    return Names(task, task, digits(rng, 18, "90"))


def legacy_videos(sight: Sight) -> list[JsonObject]:
    """The list under `task_result.videos` of a Kling body; empty while the URL is withheld."""
    render = sight.render
    return (
        [{"id": render.names.video, "url": sight.url, "duration": render.seconds}]
        if sight.url
        else []
    )


def legacy_push(sight: Sight) -> JsonObject:
    """The flat push body of the legacy standard, with Kling's own task id."""
    render = sight.render
    external = render.external_task_id
    body: JsonObject = {
        "task_id": render.names.push,
        "task_status": LEGACY_WORDS[sight.state],
        "task_status_msg": sight.message,
        "created_at": sight.created,
        "updated_at": sight.updated,
        "task_info": {"external_task_id": external} if external else {},
        "task_result": {"videos": [*legacy_videos(sight)]} if sight.state == "succeeded" else {},
    }
    if sight.is_final:
        body["final_unit_deduction"] = "1" if sight.state == "succeeded" else "0"
    return body


def new_item(sight: Sight) -> JsonObject:
    """The flat object of the new standard: a push body, and one item of a status answer."""
    render = sight.render
    body: JsonObject = {
        "id": render.names.task,
        "status": NEW_WORDS[sight.state],
        "message": sight.message,
        "outputs": [],
        "create_time": sight.created,
        "update_time": sight.updated,
    }
    if render.external_task_id:
        body["external_id"] = render.external_task_id
    if sight.url:
        expires = f"ksTime={sight.updated // 1000 + THIRTY_DAYS:x}"
        output: JsonObject = {
            "type": "video",
            "id": render.names.video,
            "url": f"{sight.url}?{expires}",
        }
        body["outputs"] = [{**output, "duration": f"{render.seconds}.041"}]
    if sight.is_final:
        billing: JsonObject = {
            "amount": render.seconds,
            "charge_type": "unit",
            "package_type": "video",
        }
        body["billing"] = [billing] if sight.state == "succeeded" else []
    return body


def new_receipt(sight: Sight) -> JsonObject:
    """The answer to a submission of the new standard."""
    shown = new_item(sight)
    data = {name: shown[name] for name in shown if name not in {"outputs", "billing"}}
    return {"code": 0, "message": "SUCCEED", "data": data, "request_id": REQUEST_ID}
