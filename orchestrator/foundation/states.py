"""The states of jobs, deliveries, subscribers and replays, and the moves a job may make.

    queued ──> submitting ──> submitted ──> processing ──> succeeded | failed
      ^            │               any live state ──> canceled (operator) | expired (deadline)
      └────────────┘ not sent, or refused      expired ──> succeeded | failed (a late report)
                     temporarily

A job's rank never falls, except as drawn: a submission that certainly did not happen returns to
`queued`.
"""

from __future__ import annotations

from enum import StrEnum


class JobState(StrEnum):
    """What is true of the job now."""

    #: Accepted from the caller; not sent to the vendor.
    QUEUED = "queued"
    #: The intent to send is recorded; the vendor may have it or not.
    SUBMITTING = "submitting"
    #: The vendor has it.
    SUBMITTED = "submitted"
    #: The vendor says it is working on it.
    PROCESSING = "processing"
    #: The vendor delivered outputs.
    SUCCEEDED = "succeeded"
    #: It will not succeed; `error` has the reason.
    FAILED = "failed"
    #: An operator or caller stopped following it.
    CANCELED = "canceled"
    #: Its deadline passed while it was live. A final report of the vendor overrides this.
    EXPIRED = "expired"


#: A report moves a job only to a higher rank; 100 is permanent.
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

#: Callers stop waiting.
FINAL = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELED, JobState.EXPIRED})
#: The vendor is known to have these and can be queried about them.
AT_VENDOR = (JobState.SUBMITTED, JobState.PROCESSING)
#: These hold a slot of the account at the vendor.
IN_FLIGHT = (JobState.SUBMITTING, *AT_VENDOR)


def may_move(old: JobState, new: JobState) -> bool:
    """True if a report of `new` changes the state of a job in `old`."""
    return RANK[new] > RANK[old]


class DeliveryState(StrEnum):
    """The outcome of a delivery; `due_at` alone says when the next attempt is."""

    #: An attempt is scheduled.
    PENDING = "pending"
    #: The subscriber is paused or disabled; nothing is scheduled.
    HELD = "held"
    #: A 2xx was received.
    DELIVERED = "delivered"
    #: Dead letter: the schedule is used up, or the response was final.
    DEAD = "dead"


#: The `last_error` of the pending deliveries of a deleted subscriber.
DELETED = "subscriber_deleted"
#: Begins the `last_error` of a delivery that its retry policy ends at this status.
FINAL_STATUS = "final_status_"


class HoldReason(StrEnum):
    """Why no job of an account is submitted."""

    #: The vendor refuses the credentials.
    UNAUTHORIZED = "unauthorized"
    #: The balance, or the quota, is used up.
    EXHAUSTED = "exhausted"


class SubscriberState(StrEnum):
    """Whether events flow to a subscriber."""

    ACTIVE = "active"
    #: Paused by its owner: deliveries are held.
    PAUSED = "paused"
    #: Disabled by us, with a reason and an event to the others: deliveries are held.
    DISABLED = "disabled"


class ReplayState(StrEnum):
    """The progress of a replay."""

    #: Some of its deliveries may still have to be made due.
    RUNNING = "running"
    #: All of them were made due.
    DONE = "done"
    #: Stopped by a caller; deliveries that were made due stay due.
    CANCELED = "canceled"


class Source(StrEnum):
    """Where a report came from. A final job keeps it as `resolved_by`."""

    PUSH = "push"
    POLL = "poll"
    SUBMIT = "submit"
    LOOKUP = "lookup"
    CLOCK = "clock"
    OPERATOR = "operator"


class EventType(StrEnum):
    """Every type of event."""

    JOB_SUBMITTED = "job.submitted"
    JOB_PROCESSING = "job.processing"
    JOB_SUCCEEDED = "job.succeeded"
    JOB_FAILED = "job.failed"
    JOB_CANCELED = "job.canceled"
    JOB_EXPIRED = "job.expired"
    #: No move: the vendor does not know the task that it accepted.
    JOB_STUCK = "job.stuck"
    SUBSCRIBER_FAILING = "subscriber.failing"
    SUBSCRIBER_RECOVERED = "subscriber.recovered"
    SUBSCRIBER_DISABLED = "subscriber.disabled"
    ACCOUNT_PUSH_DEGRADED = "account.push_degraded"
    ACCOUNT_PUSH_RECOVERED = "account.push_recovered"
    ACCOUNT_PAUSED = "account.paused"
    ACCOUNT_UNAUTHORIZED = "account.unauthorized"
    ACCOUNT_EXHAUSTED = "account.exhausted"
    ACCOUNT_RECOVERED = "account.recovered"
    INGRESS_UNREACHABLE = "ingress.unreachable"
    INGRESS_RECOVERED = "ingress.recovered"
    #: Sent only by `POST /v1/subscribers/{id}/test`, to that subscriber.
    TEST = "subscriber.test"


#: The types of a subscriber that names none.
FINAL_EVENTS = tuple(f"job.{state}" for state in sorted(FINAL))


class Capability(StrEnum):
    """Kinds of generation, simplest first."""

    TEXT2VIDEO = "text2video"
    IMAGE2VIDEO = "image2video"
    MULTI_IMAGE2VIDEO = "multi_image2video"
    MOTION_CONTROL = "motion_control"
    OMNI_VIDEO = "omni_video"
