"""Request bodies as models. Unknown fields are refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema, model_validator

from orchestrator.api import problems
from orchestrator.api.auth.api_keys import Scope
from orchestrator.api.fields import (
    Address,
    Credentials,
    Description,
    FairnessKey,
    Globs,
    Headers,
    InFlight,
    Metadata,
    Name,
    Options,
    Rate,
    StartAfter,
    Time,
    Url,
    Word,
)
from orchestrator.api.filter_field import FilterField, Ordered
from orchestrator.foundation.errors import Problem
from orchestrator.foundation.settings.dashboard import MAX_SHARE_DAYS
from orchestrator.foundation.settings.delivery import Deadline, FinalStatuses, Schedule
from orchestrator.foundation.states import FINAL_EVENTS, Capability
from orchestrator.schemas.base import Json
from orchestrator.vendors.order import Input, absent_if_blank, may_be_blank

_DAY = 86400
#: Our fields that gateway document 0 has inside `input`.
_INSIDE_INPUT = ("callback_url", "external_task_id")


def _without_defaults(schema: Json) -> None:
    """Remove the defaults of fields that keep their value when absent."""
    for field in schema["properties"].values():
        field.pop("default", None)


class Body(BaseModel):
    """A JSON object without unknown fields."""

    # Built when the first request needs it: a service starts faster.
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, defer_build=True)


class Empty(Body):
    """The body of an operation that has no fields."""


class Submission(Body):
    """`POST /v1/jobs`: our form, or gateway document 0's, which has two fields inside `input`."""

    account: Name | None = None
    model: Name
    capability: Annotated[Capability, Field(strict=False)] | None = None
    input: Input
    external_task_id: Annotated[Word | None, may_be_blank(Word)] = None
    callback_url: Annotated[Url | None, may_be_blank(Url)] = None
    callback_events: Globs | None = None
    metadata: Metadata = {}
    start_after: StartAfter | None = None
    priority: Annotated[
        int | None,
        Field(ge=-10, le=10, description="Among the jobs of its fairness key: higher goes first."),
    ] = 0
    fairness_key: FairnessKey | None = None
    #: Seconds from acceptance, or from `start_after`.
    deadline: Annotated[float, Field(ge=1, le=365 * _DAY)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_document_0(cls, body: Any) -> Any:
        if not (isinstance(body, Mapping) and isinstance(body.get("input"), Mapping)):
            return body
        inside = {name: body["input"][name] for name in _INSIDE_INPUT if name in body["input"]}
        ours = {name: value for name, value in inside.items() if not _is_absent(value)}
        for name, value in ours.items():
            if not _is_absent(body.get(name)) and body[name] != value:
                # Raised as a `Problem`: the errors of a validator have no pointer.
                raise problems.invalid_field(
                    f"/input/{name}", "conflict", f"{name} is given twice, and not the same"
                )
        rest = {name: value for name, value in body["input"].items() if name not in inside}
        return {**body, **ours, "input": rest}


def _is_absent(value: Any) -> bool:
    return absent_if_blank(value) is None


def with_sent_pointers(problem: Problem, body: Any) -> Problem:
    """Return a problem whose pointers fit the body as sent, in either form."""
    inner = body.get("input") if isinstance(body, Mapping) else None
    if not isinstance(inner, Mapping):
        return problem
    moved = {f"/{name}" for name in _INSIDE_INPUT if not _is_absent(inner.get(name))}
    if problem.status != 422 or not any(fault.pointer in moved for fault in problem.faults):
        return problem
    return problems.invalid_fields(
        [
            replace(fault, pointer=f"/input{fault.pointer}") if fault.pointer in moved else fault
            for fault in problem.faults
        ]
    )


class Retry(Body):
    """`POST /v1/jobs/{id}/retry`."""

    again: Annotated[
        bool, Field(description="Even if the same work is live or has succeeded as another job.")
    ] = False
    dry_run: Annotated[bool, Field(description="Create nothing.")] = False


class Share(Body):
    """`POST /v1/jobs/{id}/share`."""

    days: Annotated[
        int | None,
        Field(ge=1, le=MAX_SHARE_DAYS, description="How long it holds; null: as the settings say."),
    ] = None


class Upload(Body):
    """`POST /v1/files/upload`, a form."""

    file: Annotated[
        bytes,
        WithJsonSchema(
            {"type": "string", "format": "binary", "contentMediaType": "application/octet-stream"}
        ),
    ]
    kind: Annotated[Word, Field(description="The vendor's word, such as `image`.")]
    purpose: Annotated[Word, Field(description="The vendor's word, such as `reference`.")]
    account: Word | None = None


class DeliveryRetry(Body):
    """The field `retry` of a subscriber: what is absent or null is as the settings say."""

    schedule: Annotated[
        Schedule | None,
        Field(description="Waits between attempts: seconds, or like `5s`, `5m`, `2h`, `1d`."),
    ] = None
    deadline: Annotated[Deadline | None, Field(description="Seconds for one attempt.")] = None
    final_statuses: Annotated[
        FinalStatuses | None, Field(description="After these a delivery is dead at once.")
    ] = None


def _unless_empty(retry: DeliveryRetry | None) -> DeliveryRetry | None:
    return None if retry == DeliveryRetry() else retry


RetryField = Annotated[
    DeliveryRetry | None,
    AfterValidator(_unless_empty),
    Field(description="Its own retry policy, replaced whole. Null: as the settings say."),
]


class NewSubscriber(Body):
    """`POST /v1/subscribers`."""

    kind: Annotated[
        Name | None, Field(description="Absent: as the address shows, or `webhook`.")
    ] = None
    url: Address
    types: Globs = list(FINAL_EVENTS)
    description: Description = ""
    headers: Headers = {}
    options: Options = {}
    credentials: Credentials = {}
    rate_limit: Rate | None = None
    max_in_flight: Annotated[InFlight | None, Field(description="Absent: as the kind has it.")] = (
        None
    )
    filter: FilterField | None = None
    ordered: Ordered = False
    retry: RetryField = None


class SubscriberChange(Body):
    """`PATCH /v1/subscribers/{id}`: absent fields stay.

    `rate_limit`, `filter` and `retry` may become null.
    """

    model_config = ConfigDict(json_schema_extra=_without_defaults)

    url: Address = ""
    types: Globs = []
    description: Description = ""
    headers: Headers = {}
    options: Options = {}
    credentials: Credentials = {}
    rate_limit: Rate | None = None
    max_in_flight: InFlight = 8
    filter: FilterField | None = None
    ordered: Ordered | None = False
    retry: RetryField = None

    def given(self) -> Json:
        """Return the fields that were sent."""
        return self.model_dump(include=self.model_fields_set)


class Rotation(Body):
    """`POST /v1/subscribers/{id}/rotate-secret`.

    The old secret signs too for `grace_seconds`, at most a week.
    """

    grace_seconds: Annotated[float, Field(ge=0, le=7 * _DAY)] = _DAY


class NewTicket(Body):
    """`POST /v1/events/tickets`."""

    types: Globs | None = None
    seconds: Annotated[
        int, Field(ge=1, le=3600, description="For so long the ticket opens a stream.")
    ] = 60


class NewKey(Body):
    """`POST /v1/keys`."""

    name: Name
    scope: Annotated[Scope, Field(strict=False)] = Scope.WRITE
    rate_limit: Annotated[
        int | None,
        Field(
            ge=0,
            le=100_000_000,
            description="Requests a minute; 0: unlimited, null: as the settings say.",
        ),
    ] = None
    expires_at: Time | None = None
