"""What is owed to whom, and made due again."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field

from orchestrator.foundation.states import DeliveryState, EventType, ReplayState
from orchestrator.schemas.base import Growing, Json, Row, Shape, rfc3339_or_none


class Attempt(Shape):
    """One try at a delivery: `ms` is how long it took, `response` the head of the answer's body."""

    n: int
    at: AwareDatetime
    status: int | None
    ms: int
    error: str | None
    response: str | None


class Delivery(Shape):
    """One event owed to one subscriber."""

    id: str
    object: Literal["delivery"]
    event: str
    event_type: Annotated[EventType, Growing]
    job: str | None
    subscriber: str
    status: Annotated[DeliveryState, Growing]
    tries: int
    last_status: int | None
    last_error: str | None
    next_attempt_at: AwareDatetime | None
    created_at: AwareDatetime
    done_at: AwareDatetime | None


class TriedDelivery(Delivery):
    """A delivery, with every attempt at it."""

    attempts: list[Attempt]


class ReplayFilter(Shape):
    """What a replay is about: deliveries in one state, or (`missed`) events of which there is no delivery."""

    status: Annotated[
        Annotated[DeliveryState, Growing] | None,
        Field(description="Null where it is about missed events."),
    ]
    types: Annotated[list[str] | None, Field(description="Event types; `*` matches. Null: all.")]
    missed: bool
    since: AwareDatetime | None
    until: Annotated[AwareDatetime | None, Field(description="Exclusive.")]


class ReplayCount(Shape):
    """What a replay would be about; nothing was changed."""

    object: Literal["replay"]
    dry_run: Literal[True]
    subscriber: str | None
    event: str | None
    filter: ReplayFilter
    count: int


class Replay(Shape):
    """Deliveries that are made due again, once each: `count` when it was asked for, `replayed` so far."""

    id: str
    object: Literal["replay"]
    status: Annotated[ReplayState, Growing]
    subscriber: Annotated[str | None, Field(description="Null: all of them.")]
    event: Annotated[str | None, Field(description="Null: all of them.")]
    filter: ReplayFilter
    rate: Annotated[float | None, Field(description="Deliveries made due a second.")]
    count: int
    replayed: int
    created_at: AwareDatetime
    finished_at: AwareDatetime | None


class EventReplay(Shape):
    """One event, owed again: `count` deliveries were made due."""

    object: Literal["replay"]
    event: str
    subscriber: Annotated[
        str | None, Field(description="Null: all who were owed it, and who joined since.")
    ]
    count: int


def delivery_json(row: Row, attempts: Iterable[Row] | None = None) -> Json:
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
        "next_attempt_at": rfc3339_or_none(row["due_at"]),
        "created_at": rfc3339_or_none(row["created_at"]),
        "done_at": rfc3339_or_none(row["done_at"]),
    }
    return (
        said if attempts is None else said | {"attempts": [attempt_json(one) for one in attempts]}
    )


def replay_json(row: Row) -> Json:
    """Return a replay, or what one would be: without an id it was only counted."""
    wanted = {
        "status": None if row["missed"] else row["status"],
        "types": row["types"],
        "missed": row["missed"],
    }
    span = {"since": rfc3339_or_none(row["since"]), "until": rfc3339_or_none(row["until"])}
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
        "created_at": rfc3339_or_none(row["created_at"]),
        "finished_at": rfc3339_or_none(row["finished_at"]),
    }


def attempt_json(row: Row) -> Json:
    """Return one try at a delivery."""
    return {
        "n": row["n"],
        "at": rfc3339_or_none(row["at"]),
        "status": row["status"],
        "ms": row["ms"],
        "error": row["error"],
        "response": row["response"],
    }
