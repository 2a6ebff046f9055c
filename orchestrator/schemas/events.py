"""Events: the columns they are shown from, the models and their writers."""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache
from typing import Annotated, Literal, TypedDict

from pydantic import AwareDatetime, Field, JsonValue

from orchestrator.foundation.clock import rfc3339
from orchestrator.foundation.json_codec import Raw, encode
from orchestrator.foundation.states import EventType, Source
from orchestrator.schemas.base import Json, OpenEnum, Shape
from orchestrator.schemas.jobs import Job


class EventColumns(TypedDict):
    """The columns of `event` that `event_json` reads. A whole row has them too."""

    id: str
    job_id: str | None
    source: str
    body: bytes


class Event(Shape):
    """A fact. `data` is the job, subscriber or account as it was at that instant."""

    type: Annotated[EventType, OpenEnum]
    timestamp: AwareDatetime
    id: str
    sequence: Annotated[int, Field(description="Counts a job's events from 1.")]
    data: dict[str, JsonValue]
    late: Annotated[
        bool, Field(description="The vendor reported the result after the job had expired.")
    ] = False

    @property
    def job(self) -> Job | None:
        """The job of the event, or None if the event is about something else."""
        return Job.model_validate(self.data) if self.data.get("object") == "job" else None


class LoggedEvent(Event):
    """An event in the log: what is sent, its job, and the source of the fact."""

    object: Literal["event"]
    job_id: Annotated[str | None, Field(alias="job")]
    source: Annotated[Source, OpenEnum]


class StreamTicket(Shape):
    """A ticket that opens one event stream without a key: `GET /v1/events/stream?ticket=`."""

    object: Literal["stream_ticket"]
    ticket: str
    expires_at: AwareDatetime


class AccountFact(Shape):
    """The data of an account's event: how many completions in a row arrived without a push."""

    object: Literal["account"]
    name: str
    completions_without_push: int


class AccountTrouble(Shape):
    """The data of an event about an account that is paused, held, or has recovered."""

    object: Literal["account"]
    name: str
    reason: Annotated[
        Literal["paused", "unauthorized", "exhausted"],
        OpenEnum,
        Field(description="What began, or what is over."),
    ]
    since: Annotated[AwareDatetime, Field(description="When it began.")]
    message: Annotated[str, Field(description="The vendor's answer, or what ended it.")]
    paused_until: Annotated[
        AwareDatetime | None, Field(description="The end of the first pause: more may follow.")
    ]


class IngressTrouble(Shape):
    """The data of an event about the public URL: whether callbacks through it arrive here."""

    object: Literal["ingress"]
    url: str
    since: Annotated[AwareDatetime, Field(description="When the first check failed.")]
    reason: Annotated[str, Field(description="What a check found.")]


def event_fields(
    kind: str, at: datetime, event_id: str, sequence: int, data: Json, *, late: bool = False
) -> Json:
    """Return the body of an event; `encode` makes the exact bytes that are signed and sent."""
    body = {
        "type": kind,
        "timestamp": _timestamp(at),
        "id": event_id,
        "sequence": sequence,
        "data": data,
    }
    return body | {"late": True} if late else body


def event_body(kind: str, at: datetime, event_id: str, sequence: int, data: Json) -> bytes:
    """Return the exact bytes of an event."""
    return encode(event_fields(kind, at, event_id, sequence, data))


#: All events of a transaction have the same instant.
_timestamp = lru_cache(maxsize=4)(rfc3339)


def event_json(row: EventColumns) -> Raw:
    """Return an event of the log: the body that is sent, its job and its source.

    The body is not parsed: an object, in compact JSON and never empty.
    """
    ours = encode({"job": row["job_id"], "source": row["source"]})
    return Raw(b'{"object":"event",%b,%b' % (row["body"][1:-1], ours[1:]))
