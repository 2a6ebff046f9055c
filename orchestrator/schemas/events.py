"""Events, and what they tell of that is nothing else."""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field, JsonValue

from orchestrator.foundation.clock import rfc3339
from orchestrator.foundation.json_codec import encode
from orchestrator.foundation.states import EventType, Source
from orchestrator.schemas.base import Growing, Json, Shape
from orchestrator.schemas.jobs import Job


class Event(Shape):
    """The fact that something happened. `data` is the job, subscriber or account as it then was."""

    type: Annotated[EventType, Growing]
    timestamp: AwareDatetime
    id: str
    sequence: Annotated[int, Field(description="Counts a job's events from 1.")]
    data: dict[str, JsonValue]
    late: Annotated[bool, Field(description="The vendor's verdict after the job had expired.")] = (
        False
    )

    @property
    def job(self) -> Job | None:
        """The job it tells of, or None if it is of something else."""
        return Job.model_validate(self.data) if self.data.get("object") == "job" else None


class LoggedEvent(Event):
    """An event in the log: what was sent, which job it is of, and who told us."""

    object: Literal["event"]
    job_id: Annotated[str | None, Field(alias="job")]
    source: Annotated[Source, Growing]


class AccountFact(Shape):
    """What an event tells of an account: how many completions in a row no push told us of."""

    object: Literal["account"]
    name: str
    completions_without_push: int


def event_body(
    kind: str, at: datetime, event_id: str, sequence: int, data: Json, *, late: bool = False
) -> bytes:
    """Return the exact bytes of an event, as they are signed and sent."""
    body = {
        "type": kind,
        "timestamp": _stamp(at),
        "id": event_id,
        "sequence": sequence,
        "data": data,
    }
    return encode(body | {"late": True} if late else body)


#: All events of a transaction are of the same instant.
_stamp = lru_cache(maxsize=4)(rfc3339)
