"""What callers may send, field by field. A field that is not here is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, model_validator
from pydantic import StringConstraints as Text
from pydantic_core import PydanticCustomError

from orchestrator.api import problems
from orchestrator.destinations.webhook import is_ours
from orchestrator.fanout import matches
from orchestrator.keyring import Scope
from orchestrator.order import Capability, Input
from orchestrator.states import FINAL_EVENTS, DeliveryState, EventType

_DAY = 86400
_METADATA_CAP = 16 * 1024
_RFC3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")
_VALUE = re.compile(r"[\x20-\x7e]{0,1024}")
#: Where gateway document 0 puts what is ours.
_INSIDE_INPUT = ("callback_url", "external_task_id")


def _glob(glob: str) -> str:
    if not any(matches((glob,), kind) for kind in EventType):
        raise PydanticCustomError("event_type", "Matches no event type")
    return glob


def _when(value: Any) -> Any:
    """Leave only RFC 3339 to pydantic, which reads numbers and bare dates too."""
    if isinstance(value, datetime) or (isinstance(value, str) and _RFC3339.fullmatch(value)):
        return value
    raise PydanticCustomError("rfc3339", "Input should be an RFC 3339 time with a zone, such as 2026-11-20T10:00:00Z")


def _utc(value: datetime) -> datetime:
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise PydanticCustomError("rfc3339", "Input should be a time between the years 1 and 9999") from None


def _metadata(value: dict[str, JsonValue]) -> dict[str, JsonValue]:
    if any(len(name) > 64 or (isinstance(one, str) and len(one) > 500) for name, one in value.items()):
        raise PydanticCustomError("metadata", "Names may be 64 characters long, texts 500")
    if len(json.dumps(value)) > _METADATA_CAP:
        raise PydanticCustomError("metadata", "Metadata may be 16 KiB long")
    return value


def _headers(value: dict[str, str]) -> dict[str, str]:
    for name, said in value.items():
        if not (_TOKEN.fullmatch(name) and _VALUE.fullmatch(said)):
            raise PydanticCustomError("header", "A header needs a plain name and a value of printable ASCII")
        if is_ours(name):
            raise PydanticCustomError("header", "We set this header ourselves: host, user-agent, content-*, webhook-*")
    return value


When = Annotated[datetime, BeforeValidator(_when), AfterValidator(_utc), Field(strict=False)]
Name = Annotated[str, Text(min_length=1, max_length=128)]
Url = Annotated[str, Text(min_length=1, max_length=2048)]
ExternalId = Annotated[str, Text(pattern=r"^[A-Za-z0-9_.:-]{1,64}\z")]
Globs = Annotated[
    list[Annotated[str, Text(min_length=1, max_length=64), AfterValidator(_glob)]], Field(min_length=1, max_length=32)
]
Metadata = Annotated[dict[str, JsonValue], Field(max_length=50), AfterValidator(_metadata)]
Headers = Annotated[dict[str, str], Field(max_length=20), AfterValidator(_headers)]
Options = Annotated[dict[str, Annotated[str, Text(max_length=64)]], Field(max_length=20)]
Description = Annotated[str, Text(max_length=500)]
Rate = Annotated[float, Field(gt=0, le=10_000)]
InFlight = Annotated[int, Field(ge=1, le=256)]


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
                raise problems.fault(f"/input/{name}", "conflict", f"{name} is given twice, and not the same")
        inner = {name: value for name, value in said["input"].items() if name not in ours}
        return {**said, **ours, "input": inner}


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
    """`POST /v1/subscribers/{id}/replay`: deliveries begun in [since, until), in one state."""

    since: When | None = None
    until: When | None = None
    status: Annotated[DeliveryState, Field(strict=False)] = DeliveryState.DEAD


class NewKey(Body):
    """`POST /v1/keys`."""

    name: Name
    scope: Annotated[Scope, Field(strict=False)] = Scope.WRITE
    expires_at: When | None = None
