"""What a job and a delivery can be, and which way they may go.

    queued ──> submitting ──> submitted ──> processing ──> succeeded | failed
      ^            │               any live state ──> canceled (operator) | expired (deadline)
      └────────────┘ not sent, or refused for now      expired ──> succeeded | failed (the vendor's late truth)

A job's rank never falls, with one exception drawn above: a submission that certainly did not happen goes back to
`queued`.
"""

from __future__ import annotations

from enum import StrEnum


class JobState(StrEnum):
    """Named by what is true of the job now."""

    #: Accepted from the caller; the vendor does not know it.
    QUEUED = "queued"
    #: The intent to send is recorded; the vendor may or may not have it.
    SUBMITTING = "submitting"
    #: The vendor has it.
    SUBMITTED = "submitted"
    #: The vendor says it is working on it.
    PROCESSING = "processing"
    #: The vendor delivered outputs.
    SUCCEEDED = "succeeded"
    #: It will not succeed; `error` says why.
    FAILED = "failed"
    #: Somebody told us to stop following it.
    CANCELED = "canceled"
    #: Its deadline passed while it was live. The vendor's verdict may still overtake this.
    EXPIRED = "expired"


#: Order of knowledge. A report moves a job only to a higher rank; 100 is for ever.
RANK: dict[JobState, int] = {
    JobState.QUEUED: 0,
    JobState.SUBMITTING: 10,
    JobState.SUBMITTED: 20,
    JobState.PROCESSING: 30,
    JobState.EXPIRED: 90,
    JobState.SUCCEEDED: 100,
    JobState.FAILED: 100,
    JobState.CANCELED: 100,
}

#: Nothing more is expected of us; callers stop waiting.
FINAL = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELED, JobState.EXPIRED})
LIVE = frozenset(JobState) - FINAL
#: The vendor is known to have these, and can be asked about them.
AT_VENDOR = (JobState.SUBMITTED, JobState.PROCESSING)
#: These hold one of the account's slots at the vendor.
IN_FLIGHT = (JobState.SUBMITTING, *AT_VENDOR)


def may_move(old: JobState, new: JobState) -> bool:
    """True if a report that says `new` changes the state of a job in `old`."""
    return RANK[new] > RANK[old]


class DeliveryState(StrEnum):
    """Named by outcome; when the next attempt is due stands in `due_at` alone."""

    #: Owed, and an attempt is scheduled.
    PENDING = "pending"
    #: Owed, but the subscriber is paused or disabled; nothing is scheduled.
    HELD = "held"
    #: A 2xx was received.
    DELIVERED = "delivered"
    #: The schedule is used up, or the answer was final.
    DEAD = "dead"


#: The `last_error` of what was owed to a subscriber that was deleted.
DELETED = "subscriber_deleted"


class SubscriberState(StrEnum):
    """Whether events flow to a subscriber."""

    ACTIVE = "active"
    #: Paused by its owner: deliveries are held.
    PAUSED = "paused"
    #: Switched off by us, with a reason and an event to the others: deliveries are held.
    DISABLED = "disabled"


class ReplayState(StrEnum):
    """How far a replay has come."""

    #: Some of what it is about may still have to be made due.
    RUNNING = "running"
    #: All of it was made due.
    DONE = "done"
    #: Somebody stopped it; what was made due until then stays so.
    CANCELED = "canceled"


class Source(StrEnum):
    """Who told us. A final job keeps it as `resolved_by`."""

    PUSH = "push"
    POLL = "poll"
    SUBMIT = "submit"
    LOOKUP = "lookup"
    CLOCK = "clock"
    OPERATOR = "operator"


class EventType(StrEnum):
    """Everything a subscriber can hear."""

    JOB_SUBMITTED = "job.submitted"
    JOB_PROCESSING = "job.processing"
    JOB_SUCCEEDED = "job.succeeded"
    JOB_FAILED = "job.failed"
    JOB_CANCELED = "job.canceled"
    JOB_EXPIRED = "job.expired"
    SUBSCRIBER_DISABLED = "subscriber.disabled"
    ACCOUNT_PUSH_DEGRADED = "account.push_degraded"
    ACCOUNT_PUSH_RECOVERED = "account.push_recovered"
    #: Sent by `POST /v1/subscribers/{id}/test` alone, to that subscriber alone.
    TEST = "subscriber.test"


#: What a subscriber hears that did not choose.
FINAL_EVENTS = tuple(f"job.{state}" for state in sorted(FINAL))


class Capability(StrEnum):
    """What can be made, plainest first."""

    TEXT2VIDEO = "text2video"
    IMAGE2VIDEO = "image2video"
    MULTI_IMAGE2VIDEO = "multi_image2video"
    MOTION_CONTROL = "motion_control"
    OMNI_VIDEO = "omni_video"
