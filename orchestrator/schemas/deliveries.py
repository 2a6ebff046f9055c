"""Deliveries and their attempts: columns, models, writers and examples."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Annotated, Literal, TypedDict

from pydantic import AwareDatetime, Field

from orchestrator.foundation.states import DeliveryState, EventType
from orchestrator.schemas.base import Json, OpenEnum, Shape, rfc3339_or_none
from orchestrator.schemas.example_values import FINISHED, HOOK, IDS


class AttemptColumns(TypedDict):
    """The columns of `attempt` that `attempt_json` reads. A whole row has them too."""

    n: int
    at: datetime
    status: int | None
    ms: int
    error: str | None
    response: str | None


class DeliveryColumns(TypedDict):
    """The columns of `delivery` that are shown, and what is shown of its event and its receiver.

    `subscriber_state` and `shown`, its address as it may be shown, are None for a deleted
    subscriber. `resting_until` is that of the address.
    """

    id: str
    event_id: str
    type: str
    job_id: str | None
    subscriber_id: str
    state: str
    tries: int
    last_status: int | None
    last_error: str | None
    due_at: datetime | None
    forced_at: datetime | None
    created_at: datetime
    done_at: datetime | None
    subscriber_state: str | None
    shown: str | None
    resting_until: datetime | None


class Attempt(Shape):
    """One try at a delivery: `ms` is its duration, `response` the head of the response body."""

    n: int
    at: AwareDatetime
    status: int | None
    ms: int
    error: str | None
    response: str | None


class DeliveryWait(Shape):
    """What a delivery waits for, and until when, if that is known.

    `scheduled`: the next attempt of its schedule. `resting`: the address sent Retry-After; a retry
    on request does not wait for it. `queued`: a free slot. `paused`, `disabled`: the subscriber.
    """

    reason: str
    until: AwareDatetime | None


class Delivery(Shape):
    """One event owed to one subscriber."""

    id: str
    object: Literal["delivery"]
    event: str
    event_type: Annotated[EventType, OpenEnum]
    job: str | None
    subscriber: str
    host: Annotated[
        str | None,
        Field(description="Of the subscriber's address, with its port; null once it is deleted."),
    ] = None
    status: Annotated[DeliveryState, OpenEnum]
    tries: int
    last_status: int | None
    last_error: Annotated[
        str | None,
        Field(
            description="A word for what went wrong: `status_500`, `timeout`, ...; "
            "`final_status_404`: the retry policy ends the delivery at this status."
        ),
    ]
    next_attempt_at: AwareDatetime | None
    waiting: Annotated[
        DeliveryWait | None, Field(description="Null once it is delivered or dead.")
    ] = None
    created_at: AwareDatetime
    done_at: AwareDatetime | None


class DeliveryRequest(Shape):
    """The request of the last attempt, or of the first to come; for a broker, its message.

    The subscriber's own headers and signatures are masked; each attempt has a signature of its own.
    """

    method: Annotated[str, Field(description="Of HTTP, or `PUBLISH`.")]
    url: Annotated[str, Field(description="The address as it may be shown.")]
    to: Annotated[
        str | None, Field(description="The subject, topic, stream, queue or mailbox.")
    ] = None
    key: Annotated[str | None, Field(description="What keeps the order of messages: the job.")] = (
        None
    )
    headers: dict[str, str]
    body: str
    truncated: Annotated[bool, Field(description="The body is longer than 256 KiB.")]


class TriedDelivery(Delivery):
    """A delivery, with the newest hundred attempts at it, oldest first."""

    attempts: list[Attempt]
    request: Annotated[
        DeliveryRequest | None,
        Field(description="Null once its subscriber or its event is deleted."),
    ] = None


def delivery_json(
    row: DeliveryColumns,
    now: datetime,
    attempts: Iterable[AttemptColumns] | None = None,
    request: Json | None = None,
) -> Json:
    """Return a delivery as JSON, with its attempts and its request where they are given."""
    waiting = _waiting(row, now)
    until = waiting["until"] if waiting else None
    shown = {
        "id": row["id"],
        "object": "delivery",
        "event": row["event_id"],
        "event_type": row["type"],
        "job": row["job_id"],
        "subscriber": row["subscriber_id"],
        "host": host_of(row["shown"]),
        "status": row["state"],
        "tries": row["tries"],
        "last_status": row["last_status"],
        "last_error": row["last_error"],
        "next_attempt_at": until or rfc3339_or_none(row["due_at"]),
        "waiting": waiting,
        "created_at": rfc3339_or_none(row["created_at"]),
        "done_at": rfc3339_or_none(row["done_at"]),
    }
    if attempts is None:
        return shown
    tried = [attempt_json(attempt) for attempt in attempts]
    return shown | {"attempts": tried, "request": request}


def host_of(shown: str | None) -> str | None:
    """Return the host, with its port, of a shown address; of `mailto:` its mailboxes."""
    if shown is None or "://" not in shown:
        return shown and shown.partition(":")[2]
    return re.split("[/?]", shown.partition("://")[2], maxsplit=1)[0]


def _waiting(row: DeliveryColumns, now: datetime) -> Json | None:
    if row["state"] == DeliveryState.HELD:
        return {"reason": row["subscriber_state"] or "paused", "until": None}
    due, rest = row["due_at"], row["resting_until"]
    if row["state"] != DeliveryState.PENDING or due is None:
        return None
    if rest is not None and rest > now and rest >= due and row["forced_at"] is None:
        return {"reason": "resting", "until": rfc3339_or_none(rest)}
    if due > now:
        return {"reason": "scheduled", "until": rfc3339_or_none(due)}
    return {"reason": "queued", "until": None}


def attempt_json(row: AttemptColumns) -> Json:
    """Return an attempt at a delivery as JSON."""
    return {
        "n": row["n"],
        "at": rfc3339_or_none(row["at"]),
        "status": row["status"],
        "ms": row["ms"],
        "error": row["error"],
        "response": row["response"],
    }


_DELIVERY: DeliveryColumns = {
    "id": IDS["dlv"], "event_id": IDS["evt"], "type": "job.succeeded", "job_id": IDS["job"],
    "subscriber_id": IDS["sub"], "state": "delivered", "tries": 1, "last_status": 204,
    "last_error": None, "due_at": None, "forced_at": None, "subscriber_state": "active",
    "shown": HOOK, "resting_until": None, "created_at": FINISHED,
    "done_at": FINISHED + timedelta(milliseconds=50),
}  # fmt: skip
_ATTEMPT: AttemptColumns = {
    "n": 1, "at": FINISHED, "status": 204, "ms": 41, "error": None, "response": ""
}  # fmt: skip
DELIVERY_EXAMPLE = delivery_json(_DELIVERY, FINISHED)
_REQUEST: Json = {
    "method": "POST", "url": HOOK,
    "headers": {
        "content-type": "application/json", "webhook-id": IDS["evt"], "webhook-signature": "***",
    },
    "body": '{"type":"job.succeeded","data":{}}', "truncated": False,
}  # fmt: skip
TRIED_EXAMPLE = delivery_json(_DELIVERY, FINISHED, [_ATTEMPT], _REQUEST)
