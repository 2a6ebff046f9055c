"""Subscribers: the columns they are shown from, the models, the writer and an example."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, TypedDict

from pydantic import AwareDatetime, Field, JsonValue

from orchestrator.foundation.retry_policy import RetryPolicy, attempts
from orchestrator.foundation.states import SubscriberState
from orchestrator.schemas.base import Json, OpenEnum, Shape, rfc3339_or_none
from orchestrator.schemas.example_values import CREATED, HOOK, IDS


class SubscriberColumns(TypedDict):
    """The columns of `subscriber` that `subscriber_json` reads. A whole row has them too."""

    id: str
    kind: str
    callback_origin: str | None
    shown: str
    types: list[str]
    description: str
    rate_limit: float | None
    max_in_flight: int
    filter: dict[str, Any] | None
    ordered: bool | None
    retry: dict[str, Any] | None
    options: dict[str, str]
    state: str
    reason: str | None
    failing_since: datetime | None
    created_at: datetime


class CallbackHealth(Shape):
    """The callback URLs of a host that fail now."""

    failing: Annotated[int, Field(description="Addresses whose every attempt fails.")]
    failures: Annotated[int, Field(description="Failed attempts at them since then.")]
    last_error: str | None


class CallbackColumns(TypedDict):
    """What `callback_json` reads of the addresses of a host."""

    failing: int
    failures: int
    failing_since: datetime | None
    last_error: str | None


class Backlog(Shape):
    """What a subscriber is owed. Up to a thousand of each are counted."""

    pending: Annotated[int, Field(description="Due, or waiting for their time.")]
    dead: int
    next_due_at: Annotated[
        AwareDatetime | None, Field(description="When the first pending one is or was due.")
    ]


class BacklogColumns(TypedDict):
    """The counts that `backlog_json` reads."""

    pending: int
    dead: int
    next_due_at: datetime | None


class SubscriberRetry(Shape):
    """What a subscriber has of its own of a retry policy; null: as the settings `[delivery]` say.

    A wait of the schedule is a number of seconds, or a text such as `5s`, `5m`, `2h`, `1d`.
    """

    schedule: Annotated[
        list[float | str] | None, Field(description="Waits between attempts, as given.")
    ]
    deadline: Annotated[float | None, Field(description="Seconds for one attempt.")]
    final_statuses: Annotated[
        list[int] | None, Field(description="After these a delivery is dead at once.")
    ]


class RetryInForce(Shape):
    """The retry policy by which deliveries are made."""

    schedule: Annotated[list[float], Field(description="Seconds between attempts.")]
    deadline: Annotated[float, Field(description="Seconds for one attempt.")]
    final_statuses: Annotated[
        list[int], Field(description="After these a delivery is dead at once.")
    ]


class Subscriber(Shape):
    """A receiver of events.

    `url` is its address without user name, password and query, which may be secrets; where all of
    it is secret, without its path too. One of the kind `callback` stands for the jobs' callback
    URLs at a host: it is read only, and `failing_since` is that of the first address that fails.
    """

    id: str
    object: Literal["subscriber"]
    kind: str
    url: str
    types: Annotated[list[str], Field(description="Event types; `*` matches.")]
    description: str
    rate_limit: Annotated[float | None, Field(description="Attempts a second.")]
    max_in_flight: int
    filter: Annotated[
        dict[str, JsonValue] | None, Field(description="Which events of its types; null: all.")
    ] = None
    ordered: Annotated[
        bool, Field(description="The events of one job come one after the other, in sequence.")
    ] = False
    retry: Annotated[
        SubscriberRetry | None, Field(description="Its own retry policy; null: as the settings.")
    ] = None
    retry_in_force: Annotated[
        RetryInForce | None,
        Field(description="What is in force: `retry`, and the settings where it is null."),
    ] = None
    options: dict[str, str]
    credentials: Annotated[
        list[str] | None,
        Field(description="Names of those that are set; null: `secret_keys` has not their key."),
    ] = None
    status: Annotated[SubscriberState, OpenEnum]
    disabled_reason: str | None
    failing_since: AwareDatetime | None
    callbacks: Annotated[
        CallbackHealth | None, Field(description="Only of the kind `callback`.")
    ] = None
    backlog: Annotated[Backlog | None, Field(description="Only on request.")] = None
    created_at: AwareDatetime


class ChangedSubscriber(Subscriber):
    """A subscriber after a change: `dropped` names the fields that a new origin did not get."""

    dropped: tuple[str, ...] = ()


class NewSubscriber(Subscriber):
    """A new subscriber: `secret` is shown only here, if deliveries of its kind are signed."""

    secret: str | None = None


class RotatedSubscriber(Subscriber):
    """A subscriber with its new secret, shown only here.

    The previous secret signs too until `previous_expires_at`.
    """

    secret: str
    previous_expires_at: AwareDatetime


class Explanation(Shape):
    """Whether a subscriber receives an event."""

    object: Literal["explanation"]
    matches: bool
    reason: Annotated[str, Field(description="A sentence.")]
    pointer: Annotated[
        str | None, Field(description="JSON pointer into `filter`: the first condition that fails.")
    ]


class TestLinks(Shape):
    """Where the result of a test can be read."""

    deliveries: str


class TestEvent(Shape):
    """The event that a test sends."""

    object: Literal["event"]
    id: str
    type: Literal["subscriber.test"]
    links: TestLinks


def subscriber_json(row: SubscriberColumns) -> Json:
    """Return a subscriber as JSON. Its address is masked where it is secret; headers are absent."""
    return {
        "id": row["id"],
        "object": "subscriber",
        "kind": row["kind"],
        "url": row["shown"],
        "types": row["types"],
        "description": row["description"],
        "rate_limit": row["rate_limit"],
        "max_in_flight": row["max_in_flight"],
        "filter": row["filter"],
        "ordered": bool(row["ordered"]),
        "retry": row["retry"],
        "options": row["options"],
        "status": row["state"],
        "disabled_reason": row["reason"],
        "failing_since": rfc3339_or_none(row["failing_since"]),
        "created_at": rfc3339_or_none(row["created_at"]),
    }


def retry_json(policy: RetryPolicy) -> Json:
    """Return a retry policy as JSON."""
    return {
        # The first attempt waits for nothing.
        "schedule": list(policy.schedule[1:]),
        "deadline": policy.deadline,
        "final_statuses": sorted(policy.final_statuses),
    }


def explanation_json(matches: bool, reason: str, pointer: str | None) -> Json:
    """Return an explanation as JSON."""
    return {"object": "explanation", "matches": matches, "reason": reason, "pointer": pointer}


def callback_json(row: SubscriberColumns, health: CallbackColumns | None) -> Json:
    """Return the callback URLs of a host as JSON, in the form of a subscriber."""
    failing = {
        "failing": health["failing"] if health else 0,
        "failures": health["failures"] if health else 0,
        "last_error": health["last_error"] if health else None,
    }
    since = health["failing_since"] if health else None
    shown = {"kind": "callback", "failing_since": rfc3339_or_none(since), "callbacks": failing}
    return subscriber_json(row) | shown


def backlog_json(counts: BacklogColumns) -> Json:
    """Return what a subscriber is owed as JSON."""
    return {**counts, "next_due_at": rfc3339_or_none(counts["next_due_at"])}


_ROW: SubscriberColumns = {
    "id": IDS["sub"], "kind": "webhook", "callback_origin": None, "shown": HOOK, "types": ["job.*"],
    "description": "the shop", "rate_limit": None, "max_in_flight": 8, "options": {},
    "filter": {"data": {"account": "main"}}, "ordered": False,
    "retry": {"schedule": ["5s", "1m", "10m"], "deadline": 10, "final_statuses": [400, 404]},
    "state": "active", "reason": None, "failing_since": None, "created_at": CREATED,
}  # fmt: skip
#: In an event: the API also has the names of the credentials and the policy in force.
SUBSCRIBER_EVENT_EXAMPLE = subscriber_json(_ROW)
SUBSCRIBER_EXAMPLE = SUBSCRIBER_EVENT_EXAMPLE | {
    "credentials": [],
    "retry_in_force": retry_json(RetryPolicy(attempts((5, 60, 600)), 10.0, frozenset((400, 404)))),
}
EXPLANATION_EXAMPLE = explanation_json(
    False,
    'The filter does not match at `/data/account`: "main" is wanted, and it is "spare".',
    "/data/account",
)
