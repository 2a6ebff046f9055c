"""Headers that mean something here, as the document describes them."""

from __future__ import annotations

from typing import Any

from orchestrator.api.openapi.examples import BASE, IDS

Json = dict[str, Any]


def _text(about: str, example: str, **more: Any) -> Json:
    return {"description": about, "schema": {"type": "string", **more}, "example": example}


def _number(about: str, example: int) -> Json:
    return {"description": about, "schema": {"type": "integer", "minimum": 0}, "example": example}


#: What callers may send.
SENT: dict[str, Json] = {
    "X-Request-Id": _text("Comes back and stands in the log, if it is 1 to 64 of `A-Za-z0-9_-`; else one of ours.",
                          "order-991"),
    "Idempotency-Key": _text("Sent again with the same body: the same job, not another one. Bare or in quotes.",
                             "order-991", minLength=1, maxLength=255),
    "Prefer": _text("`wait=N`: answer when the job is final, at most so many seconds later, 60 at most.", "wait=30"),
    "If-None-Match": _text("The `ETag` of what the caller has. 304 if it is still that.", '"v3"'),
    "Last-Event-ID": _text("Go on after this event.", IDS["evt"]),
}  # fmt: skip
#: What answers carry.
ANSWERED: dict[str, Json] = {
    "X-Request-Id": _text("Finds the request in the log.", "req_5f0c9a1b7d3e8f2a6c4b0d91"),
    "RateLimit-Policy": _text("The key's quota, and the seconds in which it comes back. Absent if there is none.",
                              '"default";q=600;w=60'),
    "RateLimit": _text("What the key has left, and the seconds until it has all of it.", '"default";r=599;t=1'),
    "ETag": _text("Names this state of it, for `If-None-Match`.", '"v3"'),
    "Location": _text("Where it is.", f"{BASE}/v1/jobs/{IDS['job']}"),
    "Link": _text('The next part of the list, `rel="next"`. Absent at its end.',
                  f'<{BASE}/v1/jobs?after={IDS["job"]}>; rel="next"'),
    "Retry-After": _number("Seconds after which it makes sense to ask again. Absent where nothing will change.", 5),
    "Preference-Applied": _text("The preference that was honoured.", "wait=30", pattern="^wait=[0-9]{1,2}$"),
    "Idempotent-Replayed": _text("The job was there already, made with the same key.", "true", const="true"),
    "WWW-Authenticate": _text("How to send a key.", "Bearer"),
}  # fmt: skip


def parameter(name: str) -> Json:
    """Return a header of a request as a component."""
    return {"name": name, "in": "header", "required": False, **SENT[name]}


def named(*names: str) -> Json:
    """Return references to headers of an answer."""
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}
