"""When a tick will find something that can be done. A tick that would find nothing is left out: days cost nothing."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

from orchestrator.foundation.states import IN_FLIGHT
from tests.simulate.books import Books, JobRow
from tests.simulate.start import START

_START_MS = int(START.timestamp() * 1000)


def virtual(ms: int) -> float:
    """Return the virtual time of a stored instant."""
    return (ms - _START_MS) / 1000


@dataclass(slots=True)
class Agenda:
    """The virtual times at which each stage has something to do next, and the next deadline of a job."""

    submit: float = math.inf
    poll: float = math.inf
    deliver: float = math.inf
    deadline: float = math.inf

    @property
    def first(self) -> float:
        """Return the soonest of them."""
        return min(self.submit, self.poll, self.deliver, self.deadline)

    def stages(self, until: float) -> list[str]:
        """Return the stages that have something to do by then."""
        return [stage for stage in ("submit", "poll", "deliver") if getattr(self, stage) <= until]


def agenda_of(books: Books, slots: int) -> Agenda:
    """Return when something is due. A queued job of a full account is not: it waits for another one's end."""
    agenda = Agenda()
    held = Counter(row.account for row in books.jobs.values() if row.state in IN_FLIGHT)
    for row in books.jobs.values():
        if row.due_at is None:
            continue
        agenda.deadline = min(agenda.deadline, virtual(row.deadline_at))
        if row.state in ("submitted", "processing"):
            agenda.poll = min(agenda.poll, virtual(row.due_at))
        elif row.state == "submitting" or held[row.account] < slots:
            agenda.submit = min(agenda.submit, virtual(_ready(books, row)))
    for one in books.deliveries.values():
        if one.due_at is not None:
            person = books.subscribers.get(one.subscriber_id)
            rest = (person and person.resting_until) or 0
            agenda.deliver = min(agenda.deliver, virtual(max(one.due_at, rest)))
    return agenda


def _ready(books: Books, row: JobRow) -> int:
    paused = books.paused.get(row.account, 0) if row.state == "queued" else 0
    return max(row.due_at or 0, paused)
