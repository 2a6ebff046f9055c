"""What the API answers with, as models: the OpenAPI document is made of them, and the Python client returns them.

`wire` writes these very fields, without the models, where it is quick to write and the tests hold the two together.
All times are RFC 3339 in UTC. Fields are only ever added: a reader ignores those it does not know.
"""

from __future__ import annotations

from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, JsonValue

from orchestrator.order import Capability
from orchestrator.states import FINAL, DeliveryState, EventType, JobState, Source, SubscriberState

ThingT = TypeVar("ThingT")


class Shape(BaseModel):
    """An answer, or a part of one."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class OutputFile(Shape):
    """One file that a vendor made. `duration` is in seconds, `expires_at` when its URL ends, where that is known."""

    id: str | None
    url: str
    duration: float | None
    expires_at: AwareDatetime | None


class Output(Shape):
    """What a succeeded job has to show."""

    videos: list[OutputFile]
    images: list[OutputFile]


class JobError(Shape):
    """Why a job did not succeed: our code and words, and the vendor's where it had any."""

    code: Annotated[
        str,
        Field(
            description="`vendor_failed` (the render failed), `vendor_refused`, `vendor_auth`, `account_exhausted`, "
            "`vendor_unavailable`, `submit_unknown`, `output_missing`, `deadline_exceeded`, ..."
        ),
    ]
    message: str
    vendor_code: str | int | None
    vendor_message: str | None


class JobLinks(Shape):
    """Where more of a job is."""

    self: str
    timeline: str
    events: str


class Job(Shape):
    """One piece of work that a vendor is asked to do."""

    id: str
    object: Literal["job"]
    status: JobState
    account: str
    vendor: str
    model: str
    capability: Capability
    external_task_id: Annotated[str, Field(description="The caller's id, or the job's own; the vendor gets it too.")]
    vendor_task_id: str | None
    vendor_status: Annotated[str | None, Field(description="The vendor's own word.")]
    progress: Annotated[int | None, Field(description="Percent, where the vendor says it.")]
    input: dict[str, JsonValue]
    output: Output | None
    error: JobError | None
    metadata: dict[str, JsonValue]
    resolved_by: Annotated[Source | None, Field(description="Who told us how it ended.")]
    retry_of: str | None
    version: Annotated[int, Field(description="Grows with every visible change.")]
    created_at: AwareDatetime
    submitted_at: AwareDatetime | None
    finished_at: AwareDatetime | None
    deadline_at: AwareDatetime
    next_poll_at: Annotated[
        AwareDatetime | None, Field(description="When the vendor is asked, if nothing is heard before.")
    ]
    links: JobLinks

    @property
    def is_final(self) -> bool:
        """True if nothing more is expected of it."""
        return self.status in FINAL

    @property
    def urls(self) -> list[str]:
        """Where its results are; empty unless it succeeded."""
        return [] if self.output is None else [one.url for one in (*self.output.videos, *self.output.images)]


class TimelineEntry(Shape):
    """One thing that happened to a job; what is known of it stands in further fields."""

    model_config = ConfigDict(frozen=True, extra="allow")

    id: Annotated[str, Field(description="The cursor of this entry.")]
    at: AwareDatetime
    kind: Literal["submit", "push", "poll", "move", "event", "delivery", "attempt", "operator"]


class Event(Shape):
    """The fact that something happened. `data` is the job, subscriber or account as it then was."""

    type: EventType
    timestamp: AwareDatetime
    id: str
    sequence: Annotated[int, Field(description="Counts a job's events from 1.")]
    data: dict[str, JsonValue]
    late: Annotated[bool, Field(description="The vendor's verdict after the job had expired.")] = False

    @property
    def job(self) -> Job | None:
        """The job it tells of, or None if it is of something else."""
        return Job.model_validate(self.data) if self.data.get("object") == "job" else None


class LoggedEvent(Event):
    """An event in the log: what was sent, which job it is of, and who told us."""

    object: Literal["event"]
    job_id: Annotated[str | None, Field(alias="job")]
    source: Source


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
    status: SubscriberState
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
    event_type: EventType
    job: str | None
    subscriber: str
    status: DeliveryState
    tries: int
    last_status: int | None
    last_error: str | None
    next_attempt_at: AwareDatetime | None
    created_at: AwareDatetime
    done_at: AwareDatetime | None


class TriedDelivery(Delivery):
    """A delivery, with every attempt at it."""

    attempts: list[Attempt]


class Account(Shape):
    """A configured vendor and how it is doing; never its keys."""

    object: Literal["account"]
    name: str
    vendor: str
    capabilities: list[Capability]
    lookup: Annotated[str, Field(description="How the vendor can be asked about a lost submission.")]
    in_flight: int
    max_in_flight: int
    rate_limit: float | None
    pushes: int
    pushes_missed: int
    pushes_degraded: bool
    polls: int
    last_push_at: AwareDatetime | None
    paused_until: AwareDatetime | None


class ApiKey(Shape):
    """A caller's key; the key itself is kept nowhere."""

    object: Literal["api_key"]
    id: str
    name: str
    prefix: str
    scope: Literal["read", "write", "admin"]
    created_at: AwareDatetime
    expires_at: AwareDatetime | None
    revoked_at: AwareDatetime | None
    last_used_at: AwareDatetime | None


class NewApiKey(ApiKey):
    """A key that was just made: `key` is shown this once."""

    key: str


class SigningKey(Shape):
    """What verifies the deliveries to a job's own `callback_url`."""

    object: Literal["signing_key"]
    secret: str


class Page(Shape, Generic[ThingT]):
    """A part of a list. Send `next_cursor` as `after` for the next part."""

    object: Literal["list"]
    data: list[ThingT]
    has_more: bool
    next_cursor: str | None


class Fault(Shape):
    """One thing wrong with a request: where (a JSON pointer), what kind, in which words."""

    pointer: str
    code: str
    message: str


class Problem(Shape):
    """A refusal (RFC 9457). `type` leads to what to do about it; `errors` stands in a 422."""

    model_config = ConfigDict(frozen=True, extra="allow")

    type: str
    title: str
    status: int
    code: str
    detail: str
    request_id: str
    errors: list[Fault] = []


def document(model: BaseModel) -> dict[str, Any]:
    """Return a model as the JSON it was read from, by its own names."""
    return model.model_dump(mode="json", by_alias=True, exclude_unset=True)
