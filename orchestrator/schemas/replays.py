"""Replays: columns, models, writers and examples."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, TypedDict

from pydantic import AwareDatetime, Field

from orchestrator.foundation.states import DeliveryState, JobState, ReplayState, Source
from orchestrator.schemas.base import Json, OpenEnum, Shape, rfc3339_or_none
from orchestrator.schemas.example_values import CREATED, FINISHED, IDS, NEXT_DAY

#: Rows of a replay that are counted; the stored number is one more if there are more.
COUNT_CAP = 5000
_IsCapped = Annotated[bool, Field(description="There are more than `count`, which ends at 5,000.")]


class ReplaySelection(TypedDict):
    """The columns of `replay` that say what it selects."""

    subscriber_id: str | None
    event_id: str | None
    status: str
    types: list[str] | None
    since: datetime | None
    until: datetime | None
    missed: bool
    jobs: Json | None
    counted: int


class ReplayColumns(ReplaySelection):
    """The columns of `replay` that `replay_json` reads. A whole row has them too."""

    id: str
    rate: float | None
    state: str
    replayed: int
    failed: int
    created_at: datetime
    finished_at: datetime | None


class ReplayFilter(Shape):
    """What a replay selects: deliveries in one state, or (`missed`) events without a delivery."""

    status: Annotated[
        Annotated[DeliveryState, OpenEnum] | None,
        Field(description="Null where missed events or jobs are selected."),
    ]
    types: Annotated[list[str] | None, Field(description="Event types; `*` matches. Null: all.")]
    missed: bool
    since: AwareDatetime | None
    until: Annotated[AwareDatetime | None, Field(description="Exclusive.")]


class RetryFilter(Shape):
    """The jobs that a replay retries."""

    status: list[Annotated[JobState, OpenEnum]]
    account: str | None
    model: str | None
    external_task_id: str | None
    vendor_task_id: str | None
    resolved_by: Annotated[Source, OpenEnum] | None
    error: str | None
    metadata: str | None
    fairness_key: str | None = None
    created_after: AwareDatetime | None
    again: bool


class SubscriberShare(Shape):
    """How much of a replay belongs to a subscriber."""

    subscriber: str
    host: str | None
    count: int


class AccountShare(Shape):
    """How many of the jobs run on an account."""

    account: str
    count: int


class ReplaySample(Shape):
    """A row that a replay would select. `error` is a job's code, or a delivery's last error."""

    kind: Annotated[Literal["delivery", "event", "job"], OpenEnum]
    id: str
    status: str | None
    created_at: AwareDatetime
    account: str | None
    subscriber: str | None
    type: str | None
    job: str | None
    error: str | None


class ReplayCount(Shape):
    """What a replay would select; nothing was changed."""

    object: Literal["replay"]
    dry_run: Literal[True]
    subscriber: str | None
    event: str | None
    filter: ReplayFilter
    jobs: RetryFilter | None = None
    count: int
    count_is_capped: _IsCapped = False
    renders: Annotated[
        int,
        Field(
            description="New jobs, each a render that the vendor charges for; counted as `count`."
        ),
    ] = 0
    subscribers: Annotated[
        list[SubscriberShare],
        Field(default_factory=list, description="The hundred with the most of what was counted."),
    ]
    accounts: Annotated[
        list[AccountShare], Field(default_factory=list, description="Those of `jobs`.")
    ]
    sample: Annotated[list[ReplaySample], Field(default_factory=list, description="The first ten.")]


class Replay(Shape):
    """Deliveries made due again or jobs retried, each once: `replayed` of `count` so far."""

    id: str
    object: Literal["replay"]
    status: Annotated[ReplayState, OpenEnum]
    subscriber: Annotated[str | None, Field(description="Null: all of them.")]
    event: Annotated[str | None, Field(description="Null: all of them.")]
    filter: ReplayFilter
    jobs: Annotated[
        RetryFilter | None, Field(description="The jobs that are retried; null: deliveries.")
    ] = None
    rate: Annotated[float | None, Field(description="Deliveries or jobs a second.")]
    count: int
    count_is_capped: _IsCapped = False
    replayed: int
    failed: Annotated[
        int, Field(description="Jobs that could not be retried; their timelines say why.")
    ] = 0
    created_at: AwareDatetime
    finished_at: AwareDatetime | None


class EventReplay(Shape):
    """One event, sent again: `count` deliveries were made due."""

    object: Literal["replay"]
    event: str
    subscriber: Annotated[
        str | None,
        Field(description="Null: every subscriber that was owed the event or has joined since."),
    ]
    count: int


def replay_json(row: ReplayColumns) -> Json:
    """Return a replay as JSON."""
    return {
        "id": row["id"],
        "object": "replay",
        "status": row["state"],
        **request_json(row),
        **_count(row),
        "replayed": row["replayed"],
        "failed": row["failed"],
        "created_at": rfc3339_or_none(row["created_at"]),
        "finished_at": rfc3339_or_none(row["finished_at"]),
    }


def request_json(row: ReplayColumns) -> Json:
    """Return what was asked for, as JSON: what a replay selects, and its rate."""
    return {**_selection(row), "rate": row["rate"]}


def replay_count_json(row: ReplaySelection) -> Json:
    """Return what a replay would select as JSON."""
    return {"object": "replay", "dry_run": True, **_selection(row), **_count(row)}


def _count(row: ReplaySelection) -> Json:
    return {"count": capped(row["counted"]), "count_is_capped": row["counted"] > COUNT_CAP}


def capped(rows: int) -> int:
    """Return a count of rows, at most `COUNT_CAP`."""
    return min(rows, COUNT_CAP)


def _selection(row: ReplaySelection) -> Json:
    return {
        "subscriber": row["subscriber_id"],
        "event": row["event_id"],
        "filter": {
            "status": row["status"] if row["jobs"] is None and not row["missed"] else None,
            "types": row["types"],
            "missed": row["missed"],
            "since": rfc3339_or_none(row["since"]),
            "until": rfc3339_or_none(row["until"]),
        },
        "jobs": row["jobs"],
    }


_REPLAY: ReplayColumns = {
    "id": IDS["rpl"], "subscriber_id": IDS["sub"], "event_id": None, "status": "dead",
    "types": None, "since": CREATED, "until": None, "missed": False, "jobs": None, "rate": 20,
    "state": "running", "counted": 120, "replayed": 40, "failed": 0, "created_at": NEXT_DAY,
    "finished_at": None,
}  # fmt: skip
REPLAY_EXAMPLE = replay_json(_REPLAY)
REPLAY_COUNT_EXAMPLE = replay_count_json(_REPLAY) | {
    "renders": 0,
    "subscribers": [{"subscriber": IDS["sub"], "host": "my.app", "count": 120}],
    "accounts": [],
    "sample": [
        {
            "kind": "delivery", "id": IDS["dlv"], "status": "dead",
            "created_at": rfc3339_or_none(FINISHED), "account": None, "subscriber": IDS["sub"],
            "type": "job.succeeded", "job": IDS["job"], "error": "status_500",
        }
    ],
}  # fmt: skip
