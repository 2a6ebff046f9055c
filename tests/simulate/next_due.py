"""When a tick next finds work.

Ticks without work are skipped, so that days of virtual time are cheap.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

from orchestrator.foundation.states import IN_FLIGHT
from tests.simulate.clock import START
from tests.simulate.committed_rows import CommittedRows, JobRow

_START_MS = int(START.timestamp() * 1000)


def virtual_time(ms: float) -> float:
    """Return the virtual time of a stored timestamp in milliseconds."""
    return (ms - _START_MS) / 1000


@dataclass(slots=True)
class NextDue:
    """Virtual times of the next work of each stage, of the next deadline, and of the next look at
    an account that is held.
    """

    submit: float = math.inf
    poll: float = math.inf
    deliver: float = math.inf
    deadline: float = math.inf
    look: float = math.inf

    @property
    def first(self) -> float:
        """The earliest of these times."""
        return min(self.submit, self.poll, self.deliver, self.deadline, self.look)

    def stages(self, until: float) -> list[str]:
        """Return the stages with work due by `until`."""
        return [stage for stage in ("submit", "poll", "deliver") if getattr(self, stage) <= until]


def next_due(committed: CommittedRows, slots: int) -> NextDue:
    """Return when work is next due.

    A queued job of a full account is excluded: it waits until another job ends.
    """
    next_due = NextDue()
    held = Counter(row.account for row in committed.jobs.values() if row.state in IN_FLIGHT)
    for row in committed.jobs.values():
        if row.due_at is None:
            continue
        next_due.deadline = min(next_due.deadline, virtual_time(row.deadline_at))
        if row.state in ("submitted", "processing"):
            next_due.poll = min(next_due.poll, virtual_time(row.due_at))
        elif row.state == "submitting" or held[row.account] < slots:
            next_due.submit = min(next_due.submit, virtual_time(_ready(committed, row)))
    for delivery in committed.deliveries.values():
        if delivery.due_at is not None:
            subscriber = committed.subscribers.get(delivery.subscriber_id)
            resting_until = (subscriber and subscriber.resting_until) or 0
            next_due.deliver = min(
                next_due.deliver, virtual_time(max(delivery.due_at, resting_until))
            )
    for hold in committed.holds.values():
        if not hold.probing:
            next_due.look = min(next_due.look, virtual_time(hold.look_at))
    return next_due


def _ready(committed: CommittedRows, row: JobRow) -> float:
    """Return when a job may be submitted, in milliseconds: never while a check is awaited."""
    if row.state != "queued":
        return row.due_at or 0
    ready = max(row.due_at or 0, committed.paused.get(row.account, 0))
    hold = committed.holds.get(row.account)
    if hold is None:
        return ready
    return max(ready, hold.look_at) if hold.probing else math.inf
