"""What must be true after every commit. The numbers are those of the design's list of invariants."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING

import httpx

from orchestrator.events.outbox import matches
from orchestrator.foundation.states import FINAL, FINAL_EVENTS, IN_FLIGHT, RANK, JobState
from tests.simulate.agenda import Agenda, agenda_of, virtual
from tests.simulate.books import Books, DeliveryRow, EventRow, JobRow
from tests.simulate.dialects import FAILED, SUCCEEDED, Render
from tests.simulate.replica import Replica

if TYPE_CHECKING:
    from tests.simulate.world import World

#: Accounts that can be asked whether they have an order; and the one that may render twice for want of that.
ASKABLE, TWICE = ("kling", "new", "keyed"), ("dream",)
_LAST_WORD = ("state", "output", "error", "finished_at", "resolved_by")


class Checker:
    """Compares what is committed with what was before, and with what those outside know."""

    def __init__(self, world: World, books: Books) -> None:
        self.books = books
        self.agenda = Agenda()
        self._world = world
        self._owned: set[str] = set()
        #: Who claimed a row last.
        self._holders: dict[str, str] = {}
        self._told: defaultdict[str, list[str]] = defaultdict(list)
        self._completions: Counter[tuple[str, bool]] = Counter()

    # -- what those outside know

    def owned(self, job_id: str) -> None:
        """A caller was told that this job is ours."""
        self._owned.add(job_id)
        if not self.books.has_job(job_id):
            self._world.complain(f"{job_id} was acknowledged and is not there")

    def acknowledged(self, render: Render, body: bytes, *, success: bool) -> None:
        """A vendor was told that its push is durable (5). If it was about a success, that has been applied."""
        if not self.books.kept(render.account, body):
            self._world.complain(
                f"5: a push about {render.external} was acknowledged and is not kept"
            )
        row = self.job_of(render.external)
        if success and row is not None and RANK[JobState(row.state)] < 100:
            self._world.complain(f"a success of {row.id} was acknowledged, and it is {row.state}")

    def accepted(self, render: Render) -> None:
        """A vendor began to render (10)."""
        renders = self._world.studios[render.account].of(render.external)
        if len(renders) > 1 and render.account not in TWICE:
            self._world.complain(f"10: {render.account} renders {render.external} twice")

    def outside_transactions(self, request: httpx.Request) -> None:
        """A request leaves (11)."""
        if self.books.in_transaction:
            self._world.complain(f"11: a request to {request.url.host} inside a transaction")

    def job_of(self, external: str) -> JobRow | None:
        """Return the job of an external id."""
        return next(
            (row for row in self.books.jobs.values() if row.external_task_id == external), None
        )

    def completions(self) -> Counter[str]:
        """Return how often each job was completed, late verdicts left out."""
        return Counter({job: count for (job, late), count in self._completions.items() if not late})

    # -- after a commit

    def commit(self, by: Replica) -> None:
        """Look at what a replica has committed."""
        if not self.books.read():
            return
        self.agenda = agenda_of(self.books, self._world.plan.slots)
        complaints = [*self._events(), *self._jobs(by.name), *self._deliveries(by.name)]
        complaints += [f"{row} is gone" for row in self.books.gone]
        for complaint in complaints:
            self._world.complain(complaint)

    def _jobs(self, by: str) -> Iterator[str]:
        for before, row in self.books.changed_jobs:
            self._world.trace.say(by, "job", *row[:1], *row[4:15])
            if before is None or row.lease > before.lease:
                self._holders[row.id] = by
            yield from (f"{row.id}: {complaint}" for complaint in self._job(row, by))
            if before is not None:
                yield from (f"{row.id}: {complaint}" for complaint in self._change(before, row, by))
        if begun := {
            row.account for old, row in self.books.changed_jobs if old and _begins(old, row)
        }:
            yield from self._crowds(begun)

    def _job(self, row: JobRow, by: str) -> Iterator[str]:
        state, told = JobState(row.state), self._told[row.id]
        if (row.due_at is None) is not (state in FINAL):
            yield f"7: {state} and due at {row.due_at}"
        if len(told) != row.sequence:
            yield f"3: {len(told)} events, and its sequence is {row.sequence}"
        if bool(told) is (state in (JobState.QUEUED, JobState.SUBMITTING)) or (
            told and told[-1] != f"job.{state}"
        ):
            yield f"it is {state}, and the events told {told}"

    def _change(self, before: JobRow, row: JobRow, by: str) -> Iterator[str]:
        old, new = JobState(before.state), JobState(row.state)
        back = old is JobState.SUBMITTING and new is JobState.QUEUED
        if RANK[new] < RANK[old] and not back:
            yield f"1: from {old} to {new}"
        if RANK[old] == 100:
            yield from (
                f"1: {old}, and its {it} changed"
                for it in _LAST_WORD
                if getattr(before, it) != getattr(row, it)
            )
        if row.version < before.version or row.lease < before.lease or row.attempt < before.attempt:
            yield "its version, lease or attempt fell"
        if new is JobState.SUBMITTING and row.lease > before.lease and row.due_at is not None:
            left = virtual(row.due_at) - self._world.loop.time()
            if left < 1 - self._world.plan.skew:
                yield f"it was claimed for {left} s"
        if (back or row.misses > before.misses or row.tries > before.tries) and self._holders[
            row.id
        ] != by:
            yield f"6: {by} does the books of {self._holders[row.id]}'s claim"
        if new is not old and new in FINAL:
            yield from self._end(row, new)

    def _end(self, row: JobRow, state: JobState) -> Iterator[str]:
        """Nothing is said of a job's end that nobody outside has said."""
        renders = self._world.studios[row.account].of(row.external_task_id)
        said = {word for render in renders for word in render.said}
        code = json.loads(row.error)["code"] if row.error else None
        if state is JobState.SUCCEEDED and SUCCEEDED not in said:
            yield "it succeeded, and its vendor never said so"
        if state is JobState.SUCCEEDED:
            shown = {video["url"] for video in json.loads(row.output or "{}").get("videos", ())}
            if len(shown) != 1 or not shown <= {render.url for render in renders}:
                yield f"it succeeded, and shows {shown}"
        if code == "vendor_failed" and FAILED not in said:
            yield "its vendor is said to have failed it, and never said so"
        if code == "output_missing" and SUCCEEDED not in said:
            yield "its output is missing, and its vendor never said that it succeeded"
        if code == "submit_unknown" and row.account in ASKABLE:
            yield "nobody asked its vendor about it"
        if (
            state is JobState.FAILED
            and code not in ("vendor_failed", "output_missing")
            and row.account in ASKABLE
        ):
            yield from (f"{code}, and its vendor renders it" for _ in renders[:1])
        early = virtual(row.deadline_at) - self._world.loop.time()
        if state is JobState.EXPIRED and early > self._world.plan.skew + 0.001:
            yield f"it expired {early} s before its deadline"

    def _crowds(self, accounts: set[str]) -> Iterator[str]:
        """No submission begins beyond its account's limit (9). What a push moves on takes a slot without asking."""
        moved = {
            row.id
            for old, row in self.books.changed_jobs
            if old and old.state == "queued" and _is_told(row)
        }
        jobs = [
            row
            for row in self.books.jobs.values()
            if row.state in IN_FLIGHT and row.id not in moved
        ]
        held = Counter(row.account for row in jobs)
        slots = self._world.plan.slots
        yield from (
            f"9: {held[one]} jobs at {one}" for one in sorted(accounts) if held[one] > slots
        )

    # -- events and deliveries

    def _events(self) -> Iterator[str]:
        for event in self.books.new_events:
            self._world.trace.say("event", *event[1:5])
            yield from self._audience(event)
            if event.job_id is None:
                continue
            told = self._told[event.job_id]
            told.append(event.type)
            if event.sequence != len(told):
                yield f"3: {event.job_id}: event {event.sequence} after {told[:-1]}"
            if event.type in FINAL_EVENTS:
                late = json.loads(event.body).get("late", False)
                self._completions[event.job_id, late] += 1
                if self._completions[event.job_id, late] > 1 or (
                    late and told[-2:-1] != ["job.expired"]
                ):
                    yield f"2: {event.job_id} was completed again: {told}"

    def _audience(self, event: EventRow) -> Iterator[str]:
        """One delivery for each matching subscriber (4)."""
        if not event.type.startswith("job."):
            return
        job = self.books.jobs[event.job_id or ""]
        people = [one for one in self.books.subscribers.values() if one.callback_origin is None]
        owed = {one.id for one in people if matches(tuple(json.loads(one.types)), event.type)}
        if job.callback_lane and event.type in FINAL_EVENTS:
            owed.add(job.callback_lane)
        got = sorted(
            one.subscriber_id for one in self.books.deliveries.values() if one.event_id == event.id
        )
        if got != sorted(owed):
            yield f"4: {event.type} of {event.job_id} is owed to {sorted(owed)} and was given to {got}"

    def _deliveries(self, by: str) -> Iterator[str]:
        for before, row in self.books.changed_deliveries:
            self._world.trace.say(by, "delivery", *row)
            if before is None or row.lease > before.lease:
                self._holders[row.id] = by
            if (row.state == "pending") is (row.due_at is None):
                yield f"8: {row.id} is {row.state} and due at {row.due_at}"
            if before is not None:
                yield from self._delivery(before, row, by)

    def _delivery(self, before: DeliveryRow, row: DeliveryRow, by: str) -> Iterator[str]:
        if before.state == "delivered" and row.state != "delivered":
            yield f"{row.id} was delivered and is {row.state}"
        if row.state == "delivered" and not self._world.taken(row.subscriber_id, row.event_id):
            yield f"{row.id} is delivered, and its subscriber never took it"
        if row.tries > before.tries and row.state != "delivered" and self._holders[row.id] != by:
            yield f"6: {by} does the books of {self._holders[row.id]}'s claim of {row.id}"


def _begins(before: JobRow, row: JobRow) -> bool:
    return before.state == "queued" and row.state == "submitting"


def _is_told(row: JobRow) -> bool:
    return row.state in ("submitted", "processing")
