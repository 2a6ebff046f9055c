"""What callers may send, field by field. A field that is not here is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema, model_validator

from orchestrator.api import problems
from orchestrator.api.auth.api_keys import Scope
from orchestrator.api.fields import (
    Description,
    ExternalId,
    Globs,
    Headers,
    InFlight,
    Metadata,
    Name,
    Options,
    Pace,
    Rate,
    Url,
    When,
    Word,
)
from orchestrator.foundation.errors import Problem
from orchestrator.foundation.states import FINAL_EVENTS, Capability, DeliveryState
from orchestrator.vendors.order import Input

_DAY = 86400
#: Where gateway document 0 puts what is ours.
_INSIDE_INPUT = ("callback_url", "external_task_id")


def _without_defaults(schema: dict[str, Any]) -> None:
    """Describe fields that stay as they are when they are left out."""
    for one in schema["properties"].values():
        one.pop("default", None)


class Body(BaseModel):
    """A JSON object whose fields are all known."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Empty(Body):
    """The body of a call that takes none."""


class Submission(Body):
    """`POST /v1/jobs`: our form, or gateway document 0's with our two fields inside `input`."""

    account: Name | None = None
    model: Name
    capability: Annotated[Capability, Field(strict=False)] | None = None
    input: Input
    external_task_id: ExternalId | None = None
    callback_url: Url | None = None
    callback_events: Globs | None = None
    metadata: Metadata = {}
    #: Seconds from acceptance.
    deadline: Annotated[float, Field(ge=1, le=365 * _DAY)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_document_0(cls, said: Any) -> Any:
        if not (isinstance(said, Mapping) and isinstance(said.get("input"), Mapping)):
            return said
        ours = {name: said["input"][name] for name in _INSIDE_INPUT if name in said["input"]}
        for name, value in ours.items():
            if said.get(name) is not None and said[name] != value:
                # Raised as it is: a validator's own errors cannot say where.
                raise problems.fault(
                    f"/input/{name}", "conflict", f"{name} is given twice, and not the same"
                )
        inner = {name: value for name, value in said["input"].items() if name not in ours}
        return {**said, **ours, "input": inner}


def as_written(problem: Problem, said: Any) -> Problem:
    """Return a problem that points at where a caller wrote what document 0 has inside `input`."""
    inner = said.get("input") if isinstance(said, Mapping) else None
    moved = {f"/{name}" for name in _INSIDE_INPUT if isinstance(inner, Mapping) and name in inner}
    if problem.status != 422 or not any(one.pointer in moved for one in problem.faults):
        return problem
    return problems.faulty(
        replace(one, pointer=f"/input{one.pointer}") if one.pointer in moved else one
        for one in problem.faults
    )


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


class NewSubscriber(Body):
    """`POST /v1/subscribers`."""

    kind: Name = "webhook"
    url: Url
    types: Globs = list(FINAL_EVENTS)
    description: Description = ""
    headers: Headers = {}
    options: Options = {}
    rate_limit: Rate | None = None
    max_in_flight: InFlight = 8


class SubscriberChange(Body):
    """`PATCH /v1/subscribers/{id}`: what is left out stays; only `rate_limit` may become null."""

    model_config = ConfigDict(json_schema_extra=_without_defaults)

    url: Url = ""
    types: Globs = []
    description: Description = ""
    headers: Headers = {}
    options: Options = {}
    rate_limit: Rate | None = None
    max_in_flight: InFlight = 8

    def given(self) -> dict[str, Any]:
        """Return the fields that were sent."""
        return self.model_dump(include=self.model_fields_set)


class Rotation(Body):
    """`POST /v1/subscribers/{id}/rotate-secret`: for how long the old secret goes on signing, at most a week."""

    grace_seconds: Annotated[float, Field(ge=0, le=7 * _DAY)] = _DAY


class Replay(Body):
    """`POST /v1/subscribers/{id}/replay`: deliveries begun in [since, until), in one state.

    With `missed` instead the events of that time that it wants, and of which there is no delivery to it.
    """

    since: When | None = None
    until: When | None = None
    status: Annotated[DeliveryState, Field(strict=False)] = DeliveryState.DEAD
    types: Globs | None = None
    missed: Annotated[
        bool, Field(description="About events that it was never owed, instead of deliveries.")
    ] = False
    rate: Annotated[
        Pace | None, Field(description="Deliveries made due a second; null: as fast as it goes.")
    ] = None
    dry_run: Annotated[bool, Field(description="Only count.")] = False

    @model_validator(mode="after")
    def _is_one_thing(self) -> Replay:
        if self.missed and "status" in self.model_fields_set:
            raise problems.fault(
                "/status", "conflict", "What was missed has no delivery, so none in a state"
            )
        if self.since is not None and self.until is not None and self.until < self.since:
            raise problems.fault("/until", "conflict", "This is before `since`")
        return self


class NewReplay(Replay):
    """`POST /v1/replays`: of one subscriber or all, of one event or all."""

    subscriber: Name | None = None
    event: Name | None = None

    @model_validator(mode="after")
    def _is_somebodys(self) -> NewReplay:
        if self.missed and self.subscriber is None:
            raise problems.fault("/subscriber", "missing", "Name the subscriber that missed them")
        return self


class EventReplay(Body):
    """`POST /v1/events/{id}/replay`: to one subscriber, or to all."""

    subscriber: Name | None = None


class NewKey(Body):
    """`POST /v1/keys`."""

    name: Name
    scope: Annotated[Scope, Field(strict=False)] = Scope.WRITE
    rate_limit: Annotated[
        int | None,
        Field(
            ge=0,
            le=100_000_000,
            description="Requests a minute; 0: any number, null: as many as the settings say.",
        ),
    ] = None
    expires_at: When | None = None
