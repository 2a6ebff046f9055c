"""One example of everything that is sent and answered, for the document. They are of one order, from end to end."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from orchestrator import schemas
from orchestrator.api import requests
from orchestrator.api.problems import CODES

Json = dict[str, Any]

BASE = "https://hooks.example.com"
_TAIL = "_01m3w5yt8hf6v9dk2r4qz7xneb"
IDS = {prefix: prefix + _TAIL for prefix in ("job", "evt", "sub", "dlv", "key", "rpl")}
_BEGUN, _ENDED, _LATER = (
    "2026-11-20T10:00:00.000Z",
    "2026-11-20T10:01:12.480Z",
    "2026-11-21T10:00:00.000Z",
)
_REQUEST_ID = "req_5f0c9a1b7d3e8f2a6c4b0d91"
_URL = "https://shop.example/hooks/video"

_WANTED: Json = {
    "prompt": "a cat surfing at sunset",
    "image_url": "https://shop.example/cat.png",
    "duration": 5,
}
_LINK = f"{BASE}/v1/jobs/{IDS['job']}"
JOB: Json = {
    "id": IDS["job"], "object": "job", "status": "processing", "account": "main", "vendor": "cloudsway",
    "model": "kling-v3", "capability": "image2video", "external_task_id": "order-991", "vendor_task_id": "90193357",
    "vendor_status": "processing", "progress": None, "input": _WANTED, "output": None, "error": None,
    "metadata": {"order": "991"}, "resolved_by": None, "retry_of": None, "version": 3, "created_at": _BEGUN,
    "submitted_at": "2026-11-20T10:00:00.620Z", "finished_at": None, "deadline_at": _LATER,
    "next_poll_at": "2026-11-20T10:01:00.620Z",
    "links": {"self": _LINK, "timeline": f"{_LINK}/timeline", "events": f"{BASE}/v1/events?job={IDS['job']}"},
}  # fmt: skip
_VIDEO = {
    "id": None,
    "url": "https://cdn.example.com/v/90193357.mp4",
    "duration": 5.041,
    "expires_at": _LATER,
}
_END = {"finished_at": _ENDED, "next_poll_at": None, "resolved_by": "push", "version": 4}
SUCCEEDED: Json = {
    **JOB, **_END, "status": "succeeded", "vendor_status": "succeed", "output": {"videos": [_VIDEO], "images": []}
}  # fmt: skip
_REASON = {
    "code": "vendor_failed",
    "message": "the render failed",
    "vendor_code": 1301,
    "vendor_message": "risk control",
}
SUBSCRIBER: Json = {
    "id": IDS["sub"], "object": "subscriber", "kind": "webhook", "url": _URL, "types": ["job.*"],
    "description": "the shop", "rate_limit": None, "max_in_flight": 8, "options": {}, "status": "active",
    "disabled_reason": None, "failing_since": None, "created_at": _BEGUN,
}  # fmt: skip
_ACCOUNT_FACT = {"object": "account", "name": "main", "completions_without_push": 3}
#: What an event of each type tells of.
DATA: dict[str, Json] = {
    "job.submitted": {**JOB, "status": "submitted", "vendor_status": None, "version": 2},
    "job.processing": JOB,
    "job.succeeded": SUCCEEDED,
    "job.failed": {**JOB, **_END, "status": "failed", "vendor_status": "failed", "error": _REASON},
    "job.canceled": {**JOB, **_END, "status": "canceled", "resolved_by": "operator"},
    "job.expired": {**JOB, **_END, "status": "expired", "resolved_by": "clock"},
    "subscriber.disabled": {**SUBSCRIBER, "status": "disabled", "disabled_reason": "failing"},
    "account.push_degraded": _ACCOUNT_FACT,
    "account.push_recovered": {**_ACCOUNT_FACT, "completions_without_push": 0},
    "subscriber.test": SUBSCRIBER,
}  # fmt: skip
_DELIVERY: Json = {
    "id": IDS["dlv"], "object": "delivery", "event": IDS["evt"], "event_type": "job.succeeded", "job": IDS["job"],
    "subscriber": IDS["sub"], "status": "delivered", "tries": 1, "last_status": 204, "last_error": None,
    "next_attempt_at": None, "created_at": _ENDED, "done_at": "2026-11-20T10:01:12.530Z",
}  # fmt: skip
_ATTEMPT = {"n": 1, "at": _ENDED, "status": 204, "ms": 41, "error": None, "response": ""}
_FILTER = {"status": "dead", "types": None, "missed": False, "since": _BEGUN, "until": None}
_REPLAY: Json = {
    "object": "replay",
    "subscriber": IDS["sub"],
    "event": None,
    "filter": _FILTER,
    "count": 120,
}
_KEY: Json = {
    "object": "api_key", "id": IDS["key"], "name": "the shop", "prefix": "orc_Rk3vTq", "scope": "write",
    "rate_limit": None, "created_at": _BEGUN, "expires_at": None, "revoked_at": None, "last_used_at": _ENDED,
}  # fmt: skip
_SECRET = "whsec_" + "C2FVsBQIhrscChlQIMV+b5sSYspob7oD"


def event(kind: str) -> Json:
    """Return an event of a type, as it is signed and sent."""
    sequence = {"job.submitted": 1, "job.processing": 2}.get(
        kind, 3 if kind.startswith("job.") else 1
    )
    return {
        "type": kind,
        "timestamp": _ENDED,
        "id": IDS["evt"],
        "sequence": sequence,
        "data": DATA[kind],
    }


_LOGGED = {"object": "event", **event("job.succeeded"), "job": IDS["job"], "source": "push"}
_MADE: dict[type[BaseModel], Any] = {
    schemas.Job: JOB,
    schemas.TimelineEntry: {"id": "001795168872480-21", "at": _ENDED, "kind": "move", "to": "succeeded", "by": "push"},
    schemas.LoggedEvent: _LOGGED,
    schemas.Subscriber: SUBSCRIBER,
    schemas.NewSubscriber: {**SUBSCRIBER, "secret": _SECRET},
    schemas.RotatedSubscriber: {**SUBSCRIBER, "secret": _SECRET, "previous_expires_at": _LATER},
    schemas.TestEvent: {"object": "event", "id": IDS["evt"], "type": "subscriber.test",
                       "links": {"deliveries": f"{BASE}/v1/deliveries?event={IDS['evt']}"}},
    schemas.Delivery: _DELIVERY,
    schemas.TriedDelivery: {**_DELIVERY, "attempts": [_ATTEMPT]},
    schemas.Replay: {**_REPLAY, "id": IDS["rpl"], "status": "running", "rate": 20, "replayed": 40, "created_at": _LATER,
                    "finished_at": None},
    schemas.ReplayCount: {**_REPLAY, "dry_run": True},
    schemas.EventReplay: {"object": "replay", "event": IDS["evt"], "subscriber": None, "count": 2},
    schemas.Account: {"object": "account", "name": "main", "vendor": "cloudsway",
                     "capabilities": ["image2video", "text2video"], "lookup": "none", "in_flight": 3,
                     "max_in_flight": 10, "rate_limit": None, "pushes": 1204, "pushes_missed": 17,
                     "pushes_degraded": False, "polls": 88, "last_push_at": _ENDED, "paused_until": None},
    schemas.AccountCheck: {"object": "account_check", "account": "main", "reachable": True, "authorized": True,
                          "detail": "the vendor takes our credentials", "status": 404, "vendor_code": 1203,
                          "vendor_message": "task not found", "latency_ms": 184, "clock_skew_seconds": 0.0,
                          "checked_at": _ENDED},
    schemas.ApiKey: _KEY,
    schemas.NewApiKey: {**_KEY, "last_used_at": None, "key": "orc_Rk3vTq" + "x" * 37},
    schemas.SigningKey: {"object": "signing_key", "secret": _SECRET},
    schemas.VendorAnswer: {"id": "file_118"},
    schemas.OpenApi: {"openapi": "3.1.0", "info": {"title": "orchestrator", "version": "1"}, "paths": {}},
    schemas.Alive: {"status": "ok"},
    schemas.Readiness: {"status": "ok", "checks": [{"name": "database", "status": "ok"}]},
    schemas.Taken: {"ok": True},
    requests.Submission: {"account": "main", "model": "kling-v3", "capability": "image2video", "input": _WANTED,
                        "external_task_id": "order-991", "callback_url": _URL, "metadata": {"order": "991"},
                        "deadline": 3600},
    requests.Upload: {"file": "...", "kind": "video", "purpose": "reference", "account": "main"},
    requests.NewSubscriber: {"url": _URL, "types": ["job.*"], "description": "the shop"},
    requests.SubscriberChange: {"types": ["job.succeeded", "job.failed"], "rate_limit": 20},
    requests.Rotation: {"grace_seconds": 3600},
    requests.Replay: {"since": _BEGUN, "status": "dead"},
    requests.NewReplay: {"since": _BEGUN, "subscriber": IDS["sub"], "rate": 20, "dry_run": True},
    requests.EventReplay: {"subscriber": IDS["sub"]},
    requests.NewKey: {"name": "the shop", "scope": "write"},
    requests.Empty: {},
}  # fmt: skip


def of(model: type[BaseModel]) -> Any:
    """Return an example of a model; of a page one with one entry. Raises `KeyError` if there is none."""
    about = model.__pydantic_generic_metadata__
    if about["origin"] is schemas.Page:
        return {
            "object": "list",
            "data": [of(about["args"][0])],
            "has_more": False,
            "next_cursor": None,
        }
    return _MADE[model]


#: What problems say besides.
_MEMBERS: dict[str, Json] = {
    "external_task_id_taken": {"job_id": IDS["job"]},
    "idempotency_key_reused": {"job_id": IDS["job"]},
    "cursor_gone": {"next_cursor": IDS["evt"]},
    "vendor_error": {"vendor_status": "500"},
}
_FAULT = {
    "pointer": "/input/prompt",
    "code": "string_too_short",
    "message": "String should have at least 1 character",
}


def problem(code: str) -> Json:
    """Return a refusal."""
    status = CODES[code].status
    said = {
        "type": f"{BASE}/errors/{code}",
        "title": code.replace("_", " ").capitalize(),
        "status": status,
    }
    words = {
        "code": code,
        "detail": CODES[code].advice,
        "request_id": _REQUEST_ID,
        **_MEMBERS.get(code, {}),
    }
    return {**said, **words, **({"errors": [_FAULT]} if status == 422 else {})}
