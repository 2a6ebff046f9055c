"""A job's timeline in numbers: pushes, polls, deliveries, and why the vendor cannot be asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from orchestrator.cli.client import Client
from orchestrator.cli.failure import Failure
from orchestrator.cli.terminal import counted
from orchestrator.schemas import Job, Page, TimelineEntry

#: Pages of 200 entries; a job polled for days has more, of the same kind.
_PAGES = 10
RESOLUTIONS = {
    "push": "resolved by push",
    "poll": "no push came, a poll found it",
    "submit": "resolved by the submit answer",
    "lookup": "resolved by a lookup of its id",
    "clock": "resolved by the clock",
    "operator": "ended by an operator",
}
#: Why an outcome is trouble that has no reason of its own.
_REASONS = {"not_found": "the vendor does not know the task"}


@dataclass(frozen=True, slots=True)
class History:
    """Counts of one job. `trouble` is why the last request to the vendor failed, or empty.

    `events` are the ids of the events that subscribers were owed, oldest first.
    """

    pushes: int
    refused: int
    polls: int
    last_push: datetime | None
    deliveries: Mapping[str, int]
    trouble: str
    events: Sequence[str]

    @property
    def reports(self) -> str:
        """`2 pushes, 1 poll`, or `0 pushes, 3 refused, 1 poll`."""
        refused = f", {self.refused} refused" if self.refused else ""
        pushes = counted(self.pushes, "push", "pushes")
        return f"{pushes}{refused}, {counted(self.polls, 'poll')}"

    @property
    def delivered(self) -> str:
        """`2 deliveries: 1 delivered, 1 pending`; empty without deliveries."""
        total = sum(self.deliveries.values())
        states = ", ".join(f"{count} {state}" for state, count in sorted(self.deliveries.items()))
        return f"{counted(total, 'delivery', 'deliveries')}: {states}" if total else ""


def history(client: Client, job: Job) -> History:
    """Return the history of a job. Raises `Failure`."""
    entries: list[TimelineEntry] = []
    path, after = f"/v1/jobs/{job.id}/timeline", None
    for _ in range(_PAGES):
        page = client.get(Page[TimelineEntry], path, limit=200, after=after)
        entries += page.data
        after = page.next_cursor
        if not page.has_more:
            break
    return summary(entries)


def summary(entries: list[TimelineEntry]) -> History:
    """Return the entries of a timeline, oldest first, in numbers."""
    kinds = Counter(entry.kind for entry in entries)
    pushes = [entry for entry in entries if entry.kind == "push"]
    refused = sum(_extra(entry, "outcome").startswith("rejected") for entry in pushes)
    # The newest entry of a delivery has its present state.
    deliveries = {
        _extra(entry, "delivery"): _extra(entry, "status")
        for entry in entries
        if entry.kind == "delivery"
    }
    return History(
        len(pushes) - refused,
        refused,
        kinds["poll"],
        pushes[-1].at if pushes else None,
        Counter(deliveries.values()),
        _trouble(entries),
        [*dict.fromkeys(_extra(entry, "event") for entry in entries if entry.kind == "delivery")],
    )


def _extra(entry: TimelineEntry, name: str) -> str:
    return str((entry.model_extra or {}).get(name) or "")


def _trouble(entries: list[TimelineEntry]) -> str:
    """Return why the last request to the vendor failed; empty if a push has come since."""
    attempts = [
        entry
        for entry in entries
        if entry.kind in ("submit", "poll", "push") and _extra(entry, "outcome") != "begun"
    ]
    if not attempts or attempts[-1].kind == "push":
        return ""
    last = attempts[-1]
    outcome = _extra(last, "outcome")
    reason = _extra(last, "reason") or _REASONS.get(outcome, "")
    return f"{last.kind}: {outcome or 'failed'} ({reason})" if reason else ""


def known(client: Client, job: Job) -> History | None:
    """Return the history of a job; None if the server does not answer: the job is known anyway."""
    try:
        return history(client, job)
    except Failure:
        return None


def resolution(job: Job, past: History | None) -> str:
    """Return how a job was resolved, with its counts, as far as that is known."""
    by = RESOLUTIONS.get(str(job.resolved_by), "")
    if past and past.refused and not past.pushes and job.resolved_by == "poll":
        by = "the pushes were refused (see `orchestrator doctor`), a poll found it"
    reports = past.reports if past else ""
    return f"{by} ({reports})" if by and reports else by or reports
