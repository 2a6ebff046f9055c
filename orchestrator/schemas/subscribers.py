"""Subscribers, and what they are sent to try them out."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AwareDatetime, Field

from orchestrator.foundation.states import SubscriberState
from orchestrator.schemas.base import Growing, Json, Row, Shape, rfc3339_or_none


class Subscriber(Shape):
    """Who wants events. `url` is shown as far as it is no secret."""

    id: str
    object: Literal["subscriber"]
    kind: str
    url: str
    types: Annotated[list[str], Field(description="Event types; `*` matches.")]
    description: str
    rate_limit: Annotated[float | None, Field(description="Attempts a second.")]
    max_in_flight: int
    options: dict[str, str]
    status: Annotated[SubscriberState, Growing]
    disabled_reason: str | None
    failing_since: AwareDatetime | None
    created_at: AwareDatetime


class NewSubscriber(Subscriber):
    """A subscriber that was just made: `secret` is shown this once, where deliveries of its kind are signed."""

    secret: str | None = None


class RotatedSubscriber(Subscriber):
    """A subscriber with its new secret, shown this once; the previous one signs too until `previous_expires_at`."""

    secret: str
    previous_expires_at: AwareDatetime


class TestLinks(Shape):
    """Where to see whether a test arrived."""

    deliveries: str


class TestEvent(Shape):
    """The event that a test sends."""

    object: Literal["event"]
    id: str
    type: Literal["subscriber.test"]
    links: TestLinks


def subscriber_json(row: Row) -> Json:
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
        "failing_since": rfc3339_or_none(row["failing_since"]),
        "created_at": rfc3339_or_none(row["created_at"]),
    }
