"""Invariants checked after every commit. The numbers are those of the list in the design."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING

import httpx

from orchestrator.events.subscriptions import matches
from orchestrator.foundation.states import FINAL, FINAL_EVENTS, IN_FLIGHT, RANK, JobState
from tests.simulate.committed_rows import CommittedRows, DeliveryRow, EventRow, JobRow
from tests.simulate.dialects import FAILED, SUCCEEDED, Render
from tests.simulate.learned import LearningChecker
from tests.simulate.next_due import NextDue, next_due, virtual_time
from tests.simulate.replica import Replica
from tests.simulate.turns import Turns

if TYPE_CHECKING:
    from tests.simulate.clients import Subscriber
    from tests.simulate.world import World

#: Accounts with a lookup after a lost answer, and the account that may render twice without one.
QUERYABLE, MAY_DUPLICATE = ("kling", "new", "keyed"), ("dream",)
#: Seconds after the end of a process, with another one up, within which its work goes on: marked,
#: handed over, and again for commits that fail.
RECOVERED_WITHIN = 12.0
_OUTCOME_COLUMNS = ("state", "output", "error", "finished_at", "resolved_by")


class Checker:
    """Compares each commit with the previous one, and with what clients and vendors observed."""

    def __init__(self, world: World, committed: CommittedRows) -> None:
        self.committed = committed
        self.next_due = NextDue()
        self._world = world
        self._owned: set[str] = set()
        #: The replica that last claimed each row.
        self._claimed_by: dict[str, str] = {}
        self._event_types: defaultdict[str, list[str]] = defaultdict(list)
        self._job_events: dict[str, EventRow] = {}
        #: The deliveries that were dead once: a replay of one comes late.
        self._died: set[str] = set()
        self._turns = Turns()
        self.learned = LearningChecker(world, committed)
        self._completions: Counter[tuple[str, bool]] = Counter()

    # -- observations of clients and vendors

    def job_acknowledged(self, job_id: str) -> None:
        """Check that a job exists whose id a caller received."""
        self._owned.add(job_id)
        if not self.committed.has_job(job_id):
            self._world.report_violation(f"{job_id} was acknowledged and does not exist")

    def push_acknowledged(self, render: Render, body: bytes, *, success: bool) -> None:
        """Check that a push answered with 200 is stored (5), and a reported success is applied."""
        if not self.committed.has_push(render.account, body):
            self._world.report_violation(
                f"5: a push about {render.external} was acknowledged and is not stored"
            )
        row = self.job_of(render.external)
        if success and row is not None and RANK[JobState(row.state)] < 100:
            self._world.report_violation(
                f"a success of {row.id} was acknowledged, and the job is {row.state}"
            )

    def render_started(self, render: Render) -> None:
        """Check that a vendor renders a job once (10)."""
        renders = self._world.gateways[render.account].of(render.external)
        if len(renders) > 1 and render.account not in MAY_DUPLICATE:
            self._world.report_violation(f"10: {render.account} renders {render.external} twice")

    def request_sent(self, request: httpx.Request) -> None:
        """Check that no request is sent inside a transaction (11)."""
        if self.committed.in_transaction:
            self._world.report_violation(
                f"11: a request to {request.url.host} inside a transaction"
            )

    def request_left(self, replica: str, request: httpx.Request) -> None:
        """Check that a request leaves from the process whose claim is the last (6)."""
        for row in self._subjects(request):
            if (holder := self._claimed_by.get(row)) != replica:
                self._world.report_violation(
                    f"6: {replica} sends a request for {row}, which {holder} has claimed"
                )

    def _subjects(self, request: httpx.Request) -> list[str]:
        """Return the ids of the jobs or of the delivery that a request is about."""
        name = request.headers.get("webhook-id")
        if name is not None:
            to = self._world.lane_of(request.url.host)
            found = self.committed.deliveries.values()
            return [row.id for row in found if (row.event_id, row.subscriber_id) == (name, to)]
        asked = self._world.gateways[request.url.host.partition(".")[0]].dialect.read(request)
        externals = {*asked.externals, *([str(asked.order["external"])] if asked.order else [])}
        return [
            row.id
            for row in self.committed.jobs.values()
            if row.external_task_id in externals or row.vendor_task_id in asked.tasks
        ]

    def heard(self, subscriber: Subscriber, event_id: str) -> None:
        """Check that an ordered subscriber receives the events of a job in sequence (18)."""
        event = self._job_events.get(event_id)
        if event is None or not subscriber.wish.ordered:
            return
        for row in self.committed.deliveries.values():
            earlier = self._job_events.get(row.event_id)
            if (
                row.subscriber_id == subscriber.id
                and earlier is not None
                and (earlier.job_id, row.state)
                in ((event.job_id, "pending"), (event.job_id, "held"))
                and earlier.sequence < event.sequence
                and not subscriber.accepted[row.event_id]
                and row.id not in self._died
            ):
                self._world.report_violation(
                    f"18: {subscriber.host} receives event {event.sequence} of {event.job_id}"
                    f" before event {earlier.sequence}"
                )

    def replica_started(self) -> None:
        """Check that a process on SQLite takes back all claims before it works (17)."""
        if self._world.locks is None:
            for row in self._claimed():
                self._world.report_violation(f"17: {row.id} waits for its lease after a restart")

    def work_goes_on(self) -> None:
        """Check that claims of processes that have ended are taken back in time (17)."""
        locks, replicas = self._world.locks, self._world.replicas
        patience = max(replica.ready_for for replica in replicas)
        if locks is None or patience < RECOVERED_WITHIN:
            return
        for row in self._claimed():
            if (free := locks.free_for(row.claimed_by or 0)) > RECOVERED_WITHIN:
                self._world.report_violation(
                    f"17: {row.id} waits for its lease, {free:.1f} s after process"
                    f" {row.claimed_by} has ended"
                )

    def _claimed(self) -> list[JobRow | DeliveryRow]:
        """Return the rows whose claim lasts."""
        now = self._world.loop.time() + self._world.plan.skew
        rows: list[JobRow | DeliveryRow] = [*self.committed.jobs.values()]
        rows += self.committed.deliveries.values()
        return [
            row
            for row in rows
            if row.claimed_by is not None and row.due_at and virtual_time(row.due_at) > now
        ]

    def job_of(self, external: str) -> JobRow | None:
        """Return the job with an external id."""
        return next(
            (row for row in self.committed.jobs.values() if row.external_task_id == external), None
        )

    def completions(self) -> Counter[str]:
        """Return the completion events of each job, late ones excluded."""
        return Counter({job: count for (job, late), count in self._completions.items() if not late})

    # -- after a commit

    def commit(self, by: Replica) -> None:
        """Check what a replica has committed."""
        if not self.committed.read():
            return
        self.next_due = next_due(self.committed, self._world.plan.slots)
        violations_found = [*self._events(), *self._jobs(by.name), *self._deliveries(by.name)]
        violations_found += self.learned.commit(self.committed, by)
        violations_found += [f"{row} was deleted" for row in self.committed.deleted]
        for violation in violations_found:
            self._world.report_violation(violation)

    def _jobs(self, by: str) -> Iterator[str]:
        for before, row in self.committed.changed_jobs:
            self._world.trace.add(by, "job", *row[:1], *row[4:15])
            if before is None or row.lease > before.lease:
                self._claimed_by[row.id] = by
            yield from (f"{row.id}: {violation}" for violation in self._job(row, by))
            if before is not None:
                yield from (f"{row.id}: {violation}" for violation in self._change(before, row, by))
        if begun := {
            row.account for old, row in self.committed.changed_jobs if old and _begins(old, row)
        }:
            yield from self._over_limit(begun)
            yield from self._despite_hold()
        virtual_now = self._world.loop.time()
        yield from self._turns.violations(self.committed, virtual_now, self._world.plan.skew)

    def _despite_hold(self) -> Iterator[str]:
        """Check that of a held account one job at a time is submitted, when a look is due (21)."""
        begun = Counter(
            row.account for old, row in self.committed.changed_jobs if old and _begins(old, row)
        )
        for account, before in self.committed.held_before.items():
            after = self.committed.holds.get(account)
            if after is not None and begun[account] > (after.look_at != before.look_at):
                yield f"21: {begun[account]} jobs of {account} begin, which is held"

    def _job(self, row: JobRow, by: str) -> Iterator[str]:
        state, types = JobState(row.state), self._event_types[row.id]
        if row.claimed_by is not None and row.due_at is None:
            yield f"it is {state}, and claimed by process {row.claimed_by}"
        if (row.due_at is None) is not (state in FINAL):
            yield f"7: {state}, and due_at is {row.due_at}"
        if len(types) != row.sequence:
            yield f"3: {len(types)} events, and the sequence is {row.sequence}"
        moves = [kind for kind in types if kind != "job.stuck"]
        if bool(moves) is (state in (JobState.QUEUED, JobState.SUBMITTING)) or (
            moves and moves[-1] != f"job.{state}"
        ):
            yield f"the job is {state}, and its events are {types}"
        if len(types) - len(moves) > 1:
            yield f"it was stuck more than once: {types}"

    def _change(self, before: JobRow, row: JobRow, by: str) -> Iterator[str]:
        old, new = JobState(before.state), JobState(row.state)
        back = old is JobState.SUBMITTING and new is JobState.QUEUED
        if RANK[new] < RANK[old] and not back:
            yield f"1: from {old} to {new}"
        if RANK[old] == 100:
            yield from (
                f"1: {old}, and its {it} changed"
                for it in _OUTCOME_COLUMNS
                if getattr(before, it) != getattr(row, it)
            )
        if row.version < before.version or row.lease < before.lease or row.attempt < before.attempt:
            yield "its version, lease or attempt decreased"
        claimed = row.claimed_by is not None and row.lease > before.lease
        if new is JobState.SUBMITTING and claimed and row.due_at is not None:
            left = virtual_time(row.due_at) - self._world.loop.time()
            if left < 1 - self._world.plan.skew:
                yield f"it was claimed for {left} s"
        if (
            back or row.misses > max(before.misses, 0) or row.tries > before.tries
        ) and self._claimed_by[row.id] != by:
            yield f"6: {by} recorded the claim of {self._claimed_by[row.id]}"
        if new is not old and new in FINAL:
            yield from self._end(row, new)

    def _end(self, row: JobRow, state: JobState) -> Iterator[str]:
        """Check that the final state of a job follows from what its vendor reported."""
        renders = self._world.gateways[row.account].of(row.external_task_id)
        reported = {name for render in renders for name in render.reported}
        code = json.loads(row.error)["code"] if row.error else None
        if state is JobState.SUCCEEDED and SUCCEEDED not in reported:
            yield "it succeeded without a success report of its vendor"
        if state is JobState.SUCCEEDED:
            shown = {video["url"] for video in json.loads(row.output or "{}").get("videos", ())}
            if len(shown) != 1 or not shown <= {render.url for render in renders}:
                yield f"it succeeded with the videos {shown}"
        if code == "vendor_failed" and FAILED not in reported:
            yield "it failed without a failure report of its vendor"
        if code == "output_missing" and SUCCEEDED not in reported:
            yield "its output is missing without a success report of its vendor"
        if code == "submit_unknown" and row.account in QUERYABLE:
            yield "its vendor was not queried"
        if (
            state is JobState.FAILED
            and code not in ("vendor_failed", "output_missing")
            and row.account in QUERYABLE
        ):
            yield from (f"it failed with {code} while its vendor renders it" for _ in renders[:1])
        early = virtual_time(row.deadline_at) - self._world.loop.time()
        if state is JobState.EXPIRED and early > self._world.plan.skew + 0.001:
            yield f"it expired {early} s before its deadline"

    def _over_limit(self, accounts: set[str]) -> Iterator[str]:
        """Check that no submission begins above its account's limit (9).

        A job that a push advances takes a slot without a claim.
        """
        moved = {
            row.id
            for old, row in self.committed.changed_jobs
            if old and old.state == "queued" and _is_at_vendor(row)
        }
        jobs = [
            row
            for row in self.committed.jobs.values()
            if row.state in IN_FLIGHT and row.id not in moved
        ]
        held = Counter(row.account for row in jobs)
        slots = self._world.plan.slots
        yield from (
            f"9: {held[account]} jobs in flight at {account}"
            for account in sorted(accounts)
            if held[account] > slots
        )

    # -- events and deliveries

    def _events(self) -> Iterator[str]:
        for event in self.committed.new_events:
            self._world.trace.add("event", *event[1:5])
            yield from self._fan_out(event)
            if event.job_id is None:
                continue
            self._job_events[event.id] = event
            types = self._event_types[event.job_id]
            types.append(event.type)
            self._world.counts["job.stuck"] += event.type == "job.stuck"
            if event.sequence != len(types):
                yield f"3: {event.job_id}: event {event.sequence} after {types[:-1]}"
            if event.type in FINAL_EVENTS:
                late = json.loads(event.body).get("late", False)
                self._completions[event.job_id, late] += 1
                if self._completions[event.job_id, late] > 1 or (
                    late and types[-2:-1] != ["job.expired"]
                ):
                    yield f"2: {event.job_id} has a second completion: {types}"

    def _fan_out(self, event: EventRow) -> Iterator[str]:
        """Check that each matching subscriber has one delivery (4)."""
        if not event.type.startswith("job."):
            return
        job = self.committed.jobs[event.job_id or ""]
        subscribers = [
            subscriber
            for subscriber in self.committed.subscribers.values()
            if subscriber.callback_origin is None
        ]
        expected = {
            subscriber.id
            for subscriber in subscribers
            if matches(tuple(json.loads(subscriber.types)), event.type)
            and self._world.wish_of(subscriber.id).is_met(json.loads(event.body))
        }
        if job.callback_lane and event.type in FINAL_EVENTS:
            expected.add(job.callback_lane)
        found = sorted(
            delivery.subscriber_id
            for delivery in self.committed.deliveries.values()
            if delivery.event_id == event.id
        )
        if found != sorted(expected):
            wanted = sorted(expected)
            yield f"4: {event.type} of {event.job_id} went to {found} instead of {wanted}"

    def _deliveries(self, by: str) -> Iterator[str]:
        for before, row in self.committed.changed_deliveries:
            self._world.trace.add(by, "delivery", *row)
            if before is None or row.lease > before.lease:
                self._claimed_by[row.id] = by
            if row.state == "dead":
                self._died.add(row.id)
            if row.claimed_by is not None and row.due_at is None:
                yield f"{row.id} is {row.state}, and claimed by process {row.claimed_by}"
            if (row.state == "pending") is (row.due_at is None):
                yield f"8: {row.id} is {row.state}, and due_at is {row.due_at}"
            if before is not None:
                yield from self._delivery(before, row, by)

    def _delivery(self, before: DeliveryRow, row: DeliveryRow, by: str) -> Iterator[str]:
        if before.state == "delivered" and row.state != "delivered":
            yield f"{row.id} went from delivered to {row.state}"
        if row.state == "delivered" and not self._world.accepted(row.subscriber_id, row.event_id):
            yield f"{row.id} is delivered, and its subscriber did not accept it"
        if row.tries > before.tries and row.state != "delivered" and self._claimed_by[row.id] != by:
            yield f"6: {by} recorded the claim of {self._claimed_by[row.id]} on {row.id}"


def _begins(before: JobRow, row: JobRow) -> bool:
    return before.state == "queued" and row.state == "submitting"


def _is_at_vendor(row: JobRow) -> bool:
    return row.state in ("submitted", "processing")
