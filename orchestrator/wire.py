"""What outsiders see: the JSON of jobs, events, subscribers, deliveries and accounts. No secret has a place here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any

from orchestrator.foundation.clock import rfc3339
from orchestrator.foundation.json_codec import encode
from orchestrator.foundation.states import FINAL, JobState
from orchestrator.report import Output, Report

Row = Mapping[Any, Any]
Json = dict[str, Any]


def instant(at: datetime | None) -> str | None:
    """Return RFC 3339, or None."""
    return None if at is None else rfc3339(at)


def output(report: Report) -> Json:
    """Return a job's `output`: what the vendor made."""
    return {"videos": [_file(one) for one in report.videos], "images": [_file(one) for one in report.images]}


def _file(made: Output) -> Json:
    return {"id": made.id, "url": made.url, "duration": made.duration, "expires_at": instant(made.expires_at)}


def error(code: str, message: str, report: Report | None = None) -> Json:
    """Return a job's `error`: our code and words, and the vendor's if it had any."""
    return {
        "code": code,
        "message": message,
        "vendor_code": report.vendor_code if report else None,
        "vendor_message": report.message if report else None,
    }


def job(row: Row, base: str) -> Json:
    """Return a job; `base` is our public URL."""
    link = f"{base}/v1/jobs/{row['id']}"
    waiting = row["state"] in (JobState.SUBMITTED, JobState.PROCESSING)
    return {
        "id": row["id"],
        "object": "job",
        "status": row["state"],
        "account": row["account"],
        "vendor": row["vendor"],
        "model": row["model"],
        "capability": row["capability"],
        "external_task_id": row["external_task_id"],
        "vendor_task_id": row["vendor_task_id"],
        "vendor_status": row["vendor_status"],
        "progress": row["progress"],
        "input": row["input"],
        "output": row["output"],
        "error": row["error"],
        "metadata": row["metadata"],
        "resolved_by": row["resolved_by"],
        "retry_of": row["retry_of"],
        "version": row["version"],
        "created_at": instant(row["created_at"]),
        "submitted_at": instant(row["submitted_at"]),
        "finished_at": instant(row["finished_at"]),
        "deadline_at": instant(row["deadline_at"]),
        "next_poll_at": instant(row["due_at"]) if waiting else None,
        "links": {"self": link, "timeline": f"{link}/timeline", "events": f"{base}/v1/events?job={row['id']}"},
    }


def is_final(row: Row) -> bool:
    """True if nothing more is expected of a job."""
    return row["state"] in FINAL


def event(kind: str, at: datetime, event_id: str, sequence: int, data: Json, *, late: bool = False) -> bytes:
    """Return the exact bytes of an event, as they are signed and sent."""
    body = {"type": kind, "timestamp": _stamp(at), "id": event_id, "sequence": sequence, "data": data}
    return encode(body | {"late": True} if late else body)


#: All events of a transaction are of the same instant.
_stamp = lru_cache(maxsize=4)(rfc3339)


def subscriber(row: Row) -> Json:
    """Return a subscriber. Its address is shown as far as it is no secret; header values never are."""
    return {
        "id": row["id"],
        "object": "subscriber",
        "kind": row["kind"],
        "url": row["shown"],
        "types": row["types"],
        "description": row["description"],
        "rate_limit": row["rate_limit"],
        "max_in_flight": row["max_in_flight"],
        "options": row["options"],
        "status": row["state"],
        "disabled_reason": row["reason"],
        "failing_since": instant(row["failing_since"]),
        "created_at": instant(row["created_at"]),
    }


def delivery(row: Row, attempts: Iterable[Row] | None = None) -> Json:
    """Return a delivery, with its attempts where they were asked for."""
    said = {
        "id": row["id"],
        "object": "delivery",
        "event": row["event_id"],
        "event_type": row["type"],
        "job": row["job_id"],
        "subscriber": row["subscriber_id"],
        "status": row["state"],
        "tries": row["tries"],
        "last_status": row["last_status"],
        "last_error": row["last_error"],
        "next_attempt_at": instant(row["due_at"]),
        "created_at": instant(row["created_at"]),
        "done_at": instant(row["done_at"]),
    }
    return said if attempts is None else said | {"attempts": [attempt(one) for one in attempts]}


def replay(row: Row) -> Json:
    """Return a replay, or what one would be: without an id it was only counted."""
    wanted = {"status": None if row["missed"] else row["status"], "types": row["types"], "missed": row["missed"]}
    span = {"since": instant(row["since"]), "until": instant(row["until"])}
    about = {"subscriber": row["subscriber_id"], "event": row["event_id"], "filter": wanted | span}
    if row["id"] is None:
        return {"object": "replay", "dry_run": True, **about, "count": row["counted"]}
    return {
        "id": row["id"],
        "object": "replay",
        "status": row["state"],
        **about,
        "rate": row["rate"],
        "count": row["counted"],
        "replayed": row["replayed"],
        "created_at": instant(row["created_at"]),
        "finished_at": instant(row["finished_at"]),
    }


def attempt(row: Row) -> Json:
    """Return one try at a delivery."""
    return {
        "n": row["n"],
        "at": instant(row["at"]),
        "status": row["status"],
        "ms": row["ms"],
        "error": row["error"],
        "response": row["response"],
    }
