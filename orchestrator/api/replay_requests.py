"""Bodies of replays: of deliveries, of missed events, and of jobs to retry."""

from __future__ import annotations

from typing import Annotated, Literal, cast

from pydantic import Field, model_validator

from orchestrator.api import problems
from orchestrator.api.fields import Globs, Name, ReplayRate, Time
from orchestrator.api.job_filters import Entry, ErrorCode, Filter
from orchestrator.api.requests import Body
from orchestrator.engine import replay_retries
from orchestrator.foundation.states import DeliveryState, Source

#: A final state of a job that did not succeed.
RetryableState = Literal["canceled", "expired", "failed"]
_FAILED: list[RetryableState] = ["failed"]


class Replay(Body):
    """`POST /v1/subscribers/{id}/replay`: deliveries created in [since, until), in one state.

    `missed` selects events of that time instead that match its types and have no delivery to it.
    """

    since: Time | None = None
    until: Time | None = None
    status: Annotated[DeliveryState, Field(strict=False)] = DeliveryState.DEAD
    types: Globs | None = None
    missed: Annotated[
        bool, Field(description="Select events that it was never owed, instead of deliveries.")
    ] = False
    rate: Annotated[
        ReplayRate | None, Field(description="Deliveries made due a second; null: no limit.")
    ] = None
    dry_run: Annotated[bool, Field(description="Only count.")] = False

    @model_validator(mode="after")
    def _check_selection(self) -> Replay:
        if self.missed and "status" in self.model_fields_set:
            raise problems.invalid_field(
                "/status", "conflict", "Missed events have no delivery, so none in a state"
            )
        if self.since is not None and self.until is not None and self.until < self.since:
            raise problems.invalid_field("/until", "conflict", "This is before `since`")
        return self


class RetryFilter(Body):
    """Jobs to retry: final ones that did not succeed, and match like those of `GET /v1/jobs`."""

    status: Annotated[list[RetryableState], Field(min_length=1, max_length=3)] = _FAILED
    account: Filter | None = None
    model: Filter | None = None
    external_task_id: Filter | None = None
    vendor_task_id: Filter | None = None
    resolved_by: Annotated[Source, Field(strict=False)] | None = None
    fairness_key: Filter | None = None
    error: ErrorCode | None = None
    metadata: Entry | None = None
    created_after: Annotated[Time, Field(description="Exclusive.")] | None = None
    again: Annotated[
        bool, Field(description="Even if a retry of the same work is live or has succeeded.")
    ] = False

    def stored(self) -> replay_retries.RetryFilter:
        """Return the column of a replay."""
        return cast(replay_retries.RetryFilter, self.model_dump(mode="json"))


class NewReplay(Replay):
    """`POST /v1/replays`: deliveries of one subscriber or all, of one event or all; or `jobs`."""

    subscriber: Name | None = None
    event: Name | None = None
    jobs: Annotated[
        RetryFilter | None,
        Field(
            description="Retry these jobs instead: each is a new render to pay for. `rate` is in "
            "jobs a second; null: 10."
        ),
    ] = None

    @model_validator(mode="after")
    def _check_jobs(self) -> NewReplay:
        others = self.model_fields_set - {"jobs", "rate", "dry_run"}
        if self.jobs is not None and others:
            raise problems.invalid_field(
                f"/{min(others)}", "conflict", "This selects deliveries, and `jobs` selects jobs"
            )
        return self

    @model_validator(mode="after")
    def _check_subscriber(self) -> NewReplay:
        if self.missed and self.subscriber is None:
            raise problems.invalid_field(
                "/subscriber", "missing", "Name the subscriber that missed them"
            )
        return self


class EventReplay(Body):
    """`POST /v1/events/{id}/replay`: to one subscriber, or to all."""

    subscriber: Name | None = None
