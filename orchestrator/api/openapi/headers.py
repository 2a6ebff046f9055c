"""Headers of requests and responses, as the document describes them."""

from __future__ import annotations

from typing import Any

from orchestrator.schemas.base import Json
from orchestrator.schemas.example_values import BASE, IDS


def _text(description: str, example: str, **more: Any) -> Json:
    return {"description": description, "schema": {"type": "string", **more}, "example": example}


def _number(description: str, example: int) -> Json:
    schema = {"type": "integer", "minimum": 0}
    return {"description": description, "schema": schema, "example": example}


#: Request headers.
REQUEST: dict[str, Json] = {
    "X-Request-Id": _text("Returned and logged, if it is 1 to 64 of `A-Za-z0-9_-`; else an id is "
                          "generated.", "order-991"),
    "Idempotency-Key": _text("Repeated with the same body: the same job or replay, not a second "
                             "one. Bare or in quotes.", "order-991", minLength=1, maxLength=255),
    "Prefer": _text("`wait=N`: respond when the job is final, after N seconds at most, 60 at most.",
                    "wait=30"),
    "If-None-Match": _text("The `ETag` of the caller's copy. 304 if it is current.", '"v3"'),
    "If-Modified-Since": _text("The `Last-Modified` of the caller's copy. 304 if it is current.",
                               "Fri, 20 Nov 2026 10:00:00 GMT"),
    "Range": _text("The bytes of the file that are wanted.", "bytes=0-1023"),
    "If-Range": _text("The `ETag` of the copy that the range continues.", '"v3"'),
    "Last-Event-ID": _text("Resume after this event.", IDS["evt"]),
}  # fmt: skip
#: Response headers.
RESPONSE: dict[str, Json] = {
    "X-Request-Id": _text("Finds the request in the log.", "req_5f0c9a1b7d3e8f2a6c4b0d91"),
    "RateLimit-Policy": _text("The key's quota, and the seconds in which it returns. Absent "
                              "without a limit.", '"default";q=600;w=60'),
    "RateLimit": _text("What the key has left, and the seconds until its quota is full.",
                       '"default";r=599;t=1'),
    "ETag": _text("The entity tag, for `If-None-Match`.", '"v3"'),
    "Accept-Ranges": _text("`bytes` where a range may be asked for.", "bytes"),
    "Content-Range": _text("The bytes sent, and the length of the file.", "bytes 0-1023/2048"),
    "Last-Modified": _text("When the file was changed, for `If-Modified-Since`.",
                           "Fri, 20 Nov 2026 10:00:00 GMT"),
    "Content-Encoding": _text("The vendor's, which is asked for none.", "gzip"),
    "Location": _text("The URL of the resource.", f"{BASE}/v1/jobs/{IDS['job']}"),
    "Link": _text('The next page of the list, `rel="next"`. Absent on the last page.',
                  f'<{BASE}/v1/jobs?after={IDS["job"]}>; rel="next"'),
    "Retry-After": _number("Seconds after which to request again. Absent where nothing will "
                           "change.", 5),
    "Preference-Applied": _text("The preference that was applied.", "wait=30",
                                pattern="^wait=[0-9]{1,2}$"),
    "Idempotent-Replayed": _text("It existed already, created with the same key.", "true",
                                 const="true"),
    "WWW-Authenticate": _text("The authentication scheme.", "Bearer"),
}  # fmt: skip


def parameter(name: str) -> Json:
    """Return a request header as a component."""
    return {"name": name, "in": "header", "required": False, **REQUEST[name]}


def references(*names: str) -> Json:
    """Return references to response headers."""
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}
