"""What is owed to whom, and made due again."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AwareDatetime, Field

from orchestrator.foundation.states import DeliveryState, EventType, ReplayState
from orchestrator.shapes.base import Growing, Shape


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
    subscriber: Annotated[str | None, Field(description="Null: all who were owed it, and who joined since.")]
    count: int
