"""An example of every request and response, for the document. They show one job, end to end."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel

from orchestrator import schemas
from orchestrator.api import replay_requests, requests, subscriber_explanations
from orchestrator.api.problems import CODES
from orchestrator.foundation.clock import rfc3339
from orchestrator.foundation.json_codec import encode
from orchestrator.schemas.accounts import API_KEY_EXAMPLE
from orchestrator.schemas.base import Json
from orchestrator.schemas.deliveries import DELIVERY_EXAMPLE, TRIED_EXAMPLE
from orchestrator.schemas.destinations import DESTINATION_EXAMPLE
from orchestrator.schemas.events import event_body, event_json
from orchestrator.schemas.example_values import BASE, CREATED, FINISHED, HOOK, IDS, NEXT_DAY
from orchestrator.schemas.jobs import EXAMPLE_INPUT, JOB_EXAMPLE
from orchestrator.schemas.pushes import PUSH_EXAMPLE
from orchestrator.schemas.replays import REPLAY_COUNT_EXAMPLE, REPLAY_EXAMPLE
from orchestrator.schemas.stats import ACCOUNT_HISTORY_EXAMPLE, STATS_EXAMPLE
from orchestrator.schemas.subscribers import (
    EXPLANATION_EXAMPLE,
    SUBSCRIBER_EVENT_EXAMPLE,
    SUBSCRIBER_EXAMPLE,
)

_CREATED, _FINISHED, _NEXT_DAY = rfc3339(CREATED), rfc3339(FINISHED), rfc3339(NEXT_DAY)
_REQUEST_ID = "req_5f0c9a1b7d3e8f2a6c4b0d91"
_SECRET = "whsec_" + "C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
_VIDEO = {
    "id": None,
    "url": "https://cdn.example.com/v/90193357.mp4",
    "duration": 5.041,
    "expires_at": _NEXT_DAY,
    "watermark_url": None,
    "content_url": None,
}
_FINAL = {
    **JOB_EXAMPLE,
    "finished_at": _FINISHED,
    "next_poll_at": None,
    "resolved_by": "push",
    "version": 4,
}
_ERROR = {
    "code": "vendor_failed",
    "message": "the render failed",
    "vendor_code": 1301,
    "vendor_message": "risk control",
}
_INGRESS: Json = {
    "object": "ingress", "url": "https://hooks.example.com", "since": _CREATED, "reason": "timeout"
}  # fmt: skip
_ACCOUNT_FACT = {"object": "account", "name": "main", "completions_without_push": 3}
_TROUBLE = {
    "object": "account", "name": "main", "reason": "paused", "since": _CREATED,
    "message": "kling answered 429, code 1303: parallel task over resource pack limit",
    "paused_until": None,
}  # fmt: skip
#: The data of an event of each type.
DATA: dict[str, Json] = {
    "job.submitted": {**JOB_EXAMPLE, "status": "submitted", "vendor_status": None, "version": 2},
    "job.processing": JOB_EXAMPLE,
    "job.succeeded": {
        **_FINAL,
        "status": "succeeded",
        "vendor_status": "succeed",
        "output": {"videos": [_VIDEO], "images": [], "audios": []},
    },
    "job.failed": {**_FINAL, "status": "failed", "vendor_status": "failed", "error": _ERROR},
    "job.canceled": {**_FINAL, "status": "canceled", "resolved_by": "operator"},
    "job.expired": {**_FINAL, "status": "expired", "resolved_by": "clock"},
    "job.stuck": JOB_EXAMPLE,
    "subscriber.disabled": {
        **SUBSCRIBER_EVENT_EXAMPLE, "status": "disabled", "disabled_reason": "failing"
    },
    "subscriber.failing": {**SUBSCRIBER_EVENT_EXAMPLE, "failing_since": _CREATED},
    "subscriber.recovered": SUBSCRIBER_EVENT_EXAMPLE,
    "account.paused": {**_TROUBLE, "paused_until": _FINISHED},
    "account.unauthorized": {
        **_TROUBLE, "reason": "unauthorized", "message": "kling answered 401, code 1002: no"
    },
    "account.exhausted": {
        **_TROUBLE, "reason": "exhausted", "message": "kling answered 429, code 1102: balance"
    },
    "account.recovered": {
        **_TROUBLE, "reason": "unauthorized", "message": "kling accepted the credentials"
    },
    "account.push_degraded": _ACCOUNT_FACT,
    "account.push_recovered": {**_ACCOUNT_FACT, "completions_without_push": 0},
    "ingress.unreachable": _INGRESS,
    "ingress.recovered": _INGRESS,
    "subscriber.test": SUBSCRIBER_EVENT_EXAMPLE,
}  # fmt: skip


def _event_body(kind: str) -> bytes:
    first = {"job.submitted": 1, "job.processing": 2}
    sequence = first.get(kind, 3 if kind.startswith("job.") else 1)
    return event_body(kind, FINISHED, IDS["evt"], sequence, DATA[kind])


def event(kind: str) -> Json:
    """Return an event of a type, in the form that is signed and sent."""
    body: Json = json.loads(_event_body(kind))
    return body


_LOGGED: Json = json.loads(
    encode(
        event_json(
            {
                "id": IDS["evt"],
                "job_id": IDS["job"],
                "source": "push",
                "body": _event_body("job.succeeded"),
            }
        )
    )
)
_EXAMPLES: dict[type[BaseModel], Any] = {
    schemas.Job: JOB_EXAMPLE,
    schemas.TimelineEntry: {
        "id": "001795168872480-21", "at": _FINISHED, "kind": "move", "to": "succeeded", "by": "push"
    },
    schemas.ShareLink: {
        "object": "share_link", "job": IDS["job"],
        "url": f"{BASE}/dashboard/shared/WyJqb2JfMDEuLi4iXQ.c2lnbmF0dXJl", "expires_at": _NEXT_DAY,
    },
    schemas.VendorRequest: {
        "object": "vendor_request", "account": "main", "vendor": "kling", "model": "kling-v3",
        "capability": "text2video", "is_known_model": True, "method": "POST",
        "url": "https://api-singapore.klingai.com/v1/videos/text2video",
        "headers": {"authorization": "***", "content-type": "application/json"},
        "body": {
            "model_name": "kling-v3", "prompt": "a cat",
            "callback_url": f"{BASE}/callbacks/main/***", "external_task_id": IDS["job"],
        },
    },
    schemas.Push: PUSH_EXAMPLE,
    schemas.LoggedEvent: _LOGGED,
    schemas.StreamTicket: {
        "object": "stream_ticket", "ticket": "WyJrZXlfMDEuLi4iXQ.c2lnbmF0dXJl",
        "expires_at": _NEXT_DAY,
    },
    schemas.Subscriber: SUBSCRIBER_EXAMPLE,
    schemas.ChangedSubscriber: {**SUBSCRIBER_EXAMPLE, "dropped": ["headers"]},
    schemas.NewSubscriber: {**SUBSCRIBER_EXAMPLE, "secret": _SECRET},
    schemas.RotatedSubscriber: {
        **SUBSCRIBER_EXAMPLE, "secret": _SECRET, "previous_expires_at": _NEXT_DAY
    },
    schemas.DestinationKind: DESTINATION_EXAMPLE,
    schemas.Explanation: EXPLANATION_EXAMPLE,
    schemas.TestEvent: {
        "object": "event", "id": IDS["evt"], "type": "subscriber.test",
        "links": {"deliveries": f"{BASE}/v1/deliveries?event={IDS['evt']}"},
    },
    schemas.Delivery: DELIVERY_EXAMPLE,
    schemas.TriedDelivery: TRIED_EXAMPLE,
    schemas.Replay: REPLAY_EXAMPLE,
    schemas.ReplayCount: REPLAY_COUNT_EXAMPLE,
    schemas.EventReplay: {
        "object": "replay", "event": IDS["evt"], "subscriber": None, "count": 2
    },
    schemas.Account: {
        "object": "account", "name": "main", "vendor": "cloudsway",
        "capabilities": ["image2video", "text2video"], "lookup": "none",
        "models": {"image2video": ["kling-v3"], "text2video": ["kling-v3"]},
        "inputs": {
            "text2video": {
                "fields": ["prompt", "shots", "duration"], "required": ["prompt|shots"],
                "exclusive": [["prompt", "shots"]],
            }
        },
        "in_flight": 3,
        "max_in_flight": 10, "rate_limit": None, "pushes": 1204, "pushes_missed": 17,
        "pushes_refused": {"unsigned": 0, "stale": 0, "mismatched": 0, "last_at": None},
        "signing_secrets": 1, "expects_pushes": True,
        "pushes_degraded": False, "polls": 88,
        "latency": {
            "kling-v3": {
                "p50": 61.4, "p95": 164.2, "p99": 241.8, "samples": 1190,
                "counts": [{"le": 59.6, "count": 580}, {"le": 71.4, "count": 610}],
            }
        },
        "push_loss": 0.0142, "polls_per_job": 0.12, "polls_saved": 1088,
        "last_push_at": _FINISHED, "paused_until": None,
        "held": None,
    },
    schemas.AccountCheck: {
        "object": "account_check", "account": "main", "reachable": True, "authorized": True,
        "detail": "the vendor takes our credentials", "status": 404, "vendor_code": 1203,
        "vendor_message": "task not found", "latency_ms": 184, "clock_skew_seconds": 0.0,
        "checked_at": _FINISHED,
    },
    schemas.AccountHistory: ACCOUNT_HISTORY_EXAMPLE,
    schemas.Stats: STATS_EXAMPLE,
    schemas.ApiKey: API_KEY_EXAMPLE,
    schemas.NewApiKey: {
        **API_KEY_EXAMPLE, "last_used_at": None, "key": "orc_Rk3vTq" + "x" * 37
    },
    schemas.SigningKey: {"object": "signing_key", "secret": _SECRET},
    schemas.VendorAnswer: {"id": "file_118"},
    schemas.OpenApi: {
        "openapi": "3.1.0", "info": {"title": "orchestrator", "version": "1"}, "paths": {}
    },
    schemas.Alive: {"status": "ok"},
    schemas.Readiness: {
        "status": "ok",
        "checks": [{"name": "database", "status": "ok"}],
        "settings_read_at": rfc3339(CREATED),
    },
    schemas.Taken: {"ok": True},
    requests.Submission: {
        "account": "main", "model": "kling-v3", "capability": "image2video", "input": EXAMPLE_INPUT,
        "external_task_id": "order-991", "callback_url": HOOK, "metadata": {"order": "991"},
        "deadline": 3600,
    },
    requests.Retry: {"again": False},
    requests.Share: {"days": 7},
    requests.Upload: {"file": "...", "kind": "video", "purpose": "reference", "account": "main"},
    requests.NewSubscriber: {"url": HOOK, "types": ["job.*"], "description": "the shop"},
    requests.SubscriberChange: {"types": ["job.succeeded", "job.failed"], "rate_limit": 20},
    subscriber_explanations.Question: {"event": IDS["evt"]},
    requests.Rotation: {"grace_seconds": 3600},
    replay_requests.Replay: {"since": _CREATED, "status": "dead"},
    replay_requests.NewReplay: {
        "since": _CREATED, "subscriber": IDS["sub"], "rate": 20, "dry_run": True
    },
    replay_requests.EventReplay: {"subscriber": IDS["sub"]},
    requests.NewTicket: {"types": ["job.*"], "seconds": 60},
    requests.NewKey: {"name": "the shop", "scope": "write"},
    requests.Empty: {},
}  # fmt: skip


def of(model: type[BaseModel]) -> Any:
    """Return an example of a model, or of a page with one entry. Raises `KeyError` for others."""
    generic = model.__pydantic_generic_metadata__
    if generic["origin"] is schemas.Page:
        data = [of(generic["args"][0])]
        return {"object": "list", "data": data, "has_more": False, "next_cursor": None}
    return _EXAMPLES[model]


#: Members that some problems have in addition.
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
    """Return an example of a problem."""
    status, advice, _ = CODES[code]
    example = {
        "type": f"{BASE}/errors/{code}",
        "title": code.replace("_", " ").capitalize(),
        "status": status,
        "code": code,
        "detail": advice,
        "request_id": _REQUEST_ID,
        **_MEMBERS.get(code, {}),
    }
    return {**example, "errors": [_FAULT]} if status == 422 else example
