"""Submit: a queued job becomes a task at its vendor, once.

The intent is committed before the request leaves, so a push never meets an unknown job, and a crash
leaves a row that says "perhaps sent". A claim in `submitting` that ran out, or was taken back, is a
lost answer.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from types import MappingProxyType
from typing import NamedTuple

import httpx
import structlog

from orchestrator.database import job_turns, queue
from orchestrator.database.store import Store, Tx
from orchestrator.database.tables import job
from orchestrator.database.tables.rows import JobRow
from orchestrator.egress.http_client import HttpClient
from orchestrator.engine import submit_outcome, submit_record
from orchestrator.engine.claims import permit
from orchestrator.engine.notifier import Notifier
from orchestrator.engine.submit_outcome import SubmitOutcome
from orchestrator.engine.worker import Claimed, record_with_retry
from orchestrator.foundation import off_loop
from orchestrator.foundation.clock import Clock, Rng, after, jittered
from orchestrator.foundation.errors import Exchange, Refused, Unsupported
from orchestrator.foundation.ids import Ids
from orchestrator.foundation.json_codec import encode
from orchestrator.foundation.metrics import Metrics
from orchestrator.foundation.states import JobState
from orchestrator.jobs import capacity, holds
from orchestrator.jobs import images as images_of_jobs
from orchestrator.jobs.ledger import ApplyResult, Ledger, Reschedule
from orchestrator.jobs.orders import OrderBuilder
from orchestrator.vendors import large_images
from orchestrator.vendors.contract import Lookup, Vendor
from orchestrator.vendors.large_images import LargeImages

log = structlog.get_logger()

#: Seconds of a lease beyond the `submit_timeout` of its account: for what goes before the exchange,
#: and for the record of its outcome.
LEASE_MARGIN = 45.0
#: Submissions in progress at the same time in this process.
LIMIT = 64
#: Submissions with large images at the same time: each may hold 100 MB while it is built.
LARGE_LIMIT = 4
#: Seconds after which a job with large images looks for a place again.
_LARGE_WAIT = 5.0
#: Seconds until an account that is held back by its rate limit is looked at again, at least.
_MIN_WAIT = 0.01


class ClaimedJob(NamedTuple):
    """A claimed job: `fresh` from the queue, or else a submission whose answer was lost.

    `probe`: its account is held, and it is submitted to see whether the vendor still refuses it.
    """

    row: JobRow
    fresh: bool
    probe: bool = False


def lease_of(vendor: Vendor) -> float:
    """Return the seconds for which a submission, or the lookup of a lost one, is claimed."""
    return vendor.account.submit_timeout + LEASE_MARGIN


@dataclass(kw_only=True)
class Submitter:
    """The stage that submits jobs."""

    store: Store
    ledger: Ledger
    vendors: Mapping[str, Vendor]
    orders: OrderBuilder
    ids: Ids
    submission_client: HttpClient
    http_client: HttpClient
    clock: Clock
    rng: Rng
    metrics: Metrics
    notifier: Notifier

    def __post_init__(self) -> None:
        self._save = self.store.batched(self._record)
        self._timer: asyncio.TimerHandle | None = None
        self._large = asyncio.Semaphore(LARGE_LIMIT)

    async def take(self, room: int) -> Claimed[ClaimedJob]:
        """Claim lost submissions, then queued jobs within the slots and rates of their accounts."""
        claimed, wait = await self.store.write(self._claim, room)
        if self._timer is not None:
            self._timer.cancel()
        if wait is not None:
            # The tick alone is too coarse: it would turn a rate of 1.5 a second into 1.
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(max(wait, _MIN_WAIT), self.notifier.wake, "submit")
        return claimed

    def _claim(self, tx: Tx, room: int) -> tuple[Claimed[ClaimedJob], float | None]:
        """Return claims, and the seconds until a rate-limited account may submit one more job.

        0 if an account has more keys than a claim looks at.
        """
        now, by = self.clock.now(), self.store.membership.number
        if by is None:
            return Claimed(), None
        due = job_turns.ask_accounts(tx, now)
        asked = self._known(queue.lanes(tx, job.c.account, now, JobState.SUBMITTING))
        quanta = dict.fromkeys(asked, queue.QUANTUM)
        lost = self._take(tx, JobState.SUBMITTING, quanta, now, room, by)
        queued = due() if len(lost) < room else {}
        limits = {name: self.vendors[name].account.max_in_flight for name in self._known(queued)}
        free = capacity.free_slots(tx, limits, now) if limits else capacity.FreeSlots()
        in_turn = [name for name in free if queued[name]]
        begun, wait = self._begin(tx, free, in_turn, room - len(lost), now, by)
        claims = [ClaimedJob(row, fresh=False) for row in lost]
        claims += [ClaimedJob(row, True, probe=row["account"] in free.probing) for row in begun]
        for name in free.probing & {row["account"] for row in begun}:
            holds.begin_probe(tx, name, after(now, lease_of(self.vendors[name])))
        full = any(free.get(name, 0) <= queue.QUANTUM for name in limits)
        return Claimed(claims, more=len(claims) >= min(room, queue.QUANTUM), full=full), wait

    def _begin(
        self,
        tx: Tx,
        free: capacity.FreeSlots,
        in_turn: Collection[str],
        room: int,
        now: datetime,
        by: int,
    ) -> tuple[list[JobRow], float | None]:
        """Begin queued jobs, as many of each account as its slots and its token bucket allow.

        `in_turn` are the accounts whose jobs have turns.
        """
        limits = {name: self.vendors[name].account.rate_limit for name in free}
        rates = {name: rate for name, rate in limits.items() if rate is not None}
        buckets = capacity.token_buckets(tx, rates, now) if rates else {}
        quanta = {name: min(slots, queue.QUANTUM) for name, slots in free.items()}
        for name, bucket in buckets.items():
            quanta[name] = min(quanta[name], int(bucket.tokens))
        turns = {
            name: job_turns.next_jobs(tx, name, free.served[name], share, now)
            for name in in_turn
            if (share := min(quanta[name], room)) > 0
        }
        chosen = {name: turn.ids for name, turn in turns.items()}
        queued = self._take(tx, JobState.QUEUED, quanta, now, room, by, chosen)
        passed = {name: turn.passed for name, turn in turns.items() if turn.passed is not None}
        served = {row["account"]: row["fairness_key"] for row in queued if row["account"] in turns}
        capacity.save_served(tx, free.served, passed | served)
        begun = self.ledger.begin(tx, queued)
        spent = Counter(row["account"] for row in begun)
        left = {name: bucket.less(spent[name]) for name, bucket in buckets.items()}
        capacity.save_buckets(tx, {name: bucket for name, bucket in left.items() if spent[name]})
        waits = [bucket.wait for bucket in left.values() if bucket.wait] + [0.0] * bool(passed)
        return begun, min(waits, default=None)

    def _take(
        self,
        tx: Tx,
        state: JobState,
        quanta: Mapping[str, int],
        now: datetime,
        room: int,
        by: int,
        chosen: Mapping[str, Sequence[str]] = MappingProxyType({}),
    ) -> list[JobRow]:
        """Claim due jobs, each for the lease of its account."""
        by_lease: dict[float, dict[str, int]] = {}
        for name, quantum in quanta.items():
            by_lease.setdefault(lease_of(self.vendors[name]), {})[name] = quantum
        taken: list[JobRow] = []
        for lease, lanes in by_lease.items():
            left = room - len(taken)
            taken += queue.take_jobs(tx, state, lanes, now, lease, left, by, chosen=chosen)
        return taken

    def _known(self, found: Iterable[str]) -> list[str]:
        """Return the configured ones of some accounts, in random order."""
        known = [name for name in found if name in self.vendors]
        self.rng.shuffle(known)
        return known

    async def give_back(self, claims: Sequence[ClaimedJob]) -> None:
        """Release claims that were not begun: fresh ones to the queue, lost ones as they were."""
        now = self.clock.now()
        for release, fresh in ((self.ledger.requeue, True), (self.ledger.postpone, False)):
            held = [claim.row for claim in claims if claim.fresh is fresh]
            await self.store.write(release, [Reschedule.of(row, {"due_at": now}) for row in held])

    async def work(self, claim: ClaimedJob) -> None:
        """Submit a fresh job, or look up a lost submission, and record the outcome."""
        row, vendor = claim.row, self.vendors[claim.row["account"]]
        work = self._submit(claim, vendor) if claim.fresh else self._look_up(row, vendor)
        outcome = (await work).of_probe(claim.probe)
        if outcome.note["outcome"] not in ("accepted", "found", submit_outcome.POSTPONED):
            ids = {"job": row["id"], "account": row["account"], "attempt": row["attempt"]}
            log.warning("not submitted", **ids, **outcome.note)
        result = await record_with_retry(self._save, outcome, self.clock, self.rng)
        self.notifier.announce([result] if result else [])
        if outcome.queue is not None:
            self.notifier.wake("submit")
        if claim.probe or outcome.refusal is not None or outcome.pause is not None:
            # Events about the account, and jobs that it held.
            self.notifier.wake("deliver")
            self.notifier.wake("submit")

    async def _submit(self, claim: ClaimedJob, vendor: Vendor) -> SubmitOutcome:
        row = claim.row
        if not large_images.are_in(encode(row["input"])):
            return await self._send(claim, vendor, {})
        if self._large.locked():
            # Queued again: it would take a place from all other submissions while it waits.
            due = after(self.clock.now(), jittered(_LARGE_WAIT, self.rng))
            return submit_outcome.postponed(row, due)
        async with self._large:
            images = await self.store.read(images_of_jobs.of_job, row["id"])
            return await self._send(claim, vendor, images)

    async def _send(self, claim: ClaimedJob, vendor: Vendor, images: LargeImages) -> SubmitOutcome:
        row, timeout = claim.row, vendor.account.submit_timeout
        try:
            size = len(encode(row["input"])) + sum(map(len, images.values()))
            # Not the party of its requests: the lease runs meanwhile.
            party = f"submit:{row['api_key']}"
            request = await off_loop.callers.run(party, size, self._request, row, vendor, images)
            request.extensions["may_leave"] = self._permit(row, vendor)
            with self.metrics.exchange(self.clock, vendor.name, "submit"):
                response = await self.submission_client.send(
                    request, deadline=timeout, body="answer"
                )
                size = len(response.content)
                receipt = await off_loop.vendors.run(row["account"], size, vendor.receipt, response)
        except Exchange as error:
            now, probe = self.clock.now(), claim.probe
            return submit_outcome.interrupted(row, vendor, error, now, self.rng, probe=probe)
        except Unsupported as error:
            # The job was checked when it was created; the configuration has changed since.
            return submit_outcome.failed(row, Refused(error.why, code="input_unsupported"))
        return submit_outcome.accepted(row, receipt)

    def _permit(self, row: JobRow, vendor: Vendor) -> Callable[[], bool]:
        return permit(row, self.store.membership, self.clock, vendor.account.submit_timeout)

    def _request(self, row: JobRow, vendor: Vendor, images: LargeImages) -> httpx.Request:
        """Return the request of a job. Raises `Unsupported`, and `Refused` if an image is gone."""
        request = vendor.submit_request(self.orders(row, vendor))
        if not large_images.are_in(request.content):
            return request
        content = large_images.put_back(request.content, images)
        if large_images.is_left_in(content):
            # Retention deletes the images of a job before it deletes the job, which may be retried.
            raise Refused(
                "an image of the job is no longer stored; submit the job again with it",
                code="input_missing",
            )
        headers = {**request.headers, "content-length": str(len(content))}
        return httpx.Request(request.method, request.url, headers=headers, content=content)

    async def _look_up(self, row: JobRow, vendor: Vendor) -> SubmitOutcome:
        if vendor.lookup is not Lookup.BY_EXTERNAL_ID:
            return submit_outcome.cannot_query(row, vendor, self.clock.now(), lease_of(vendor))
        sent_at = self.clock.now()
        try:
            request = vendor.lookup_request(self.orders.without_input(row, vendor))
            request.extensions["may_leave"] = self._permit(row, vendor)
            with self.metrics.exchange(self.clock, vendor.name, "lookup"):
                response = await self.http_client.send(
                    request, deadline=vendor.account.submit_timeout, body="answer"
                )
                size = len(response.content)
                reports = await off_loop.vendors.run(
                    row["account"], size, vendor.read_answer, response
                )
        except Exchange as error:
            return submit_outcome.lookup_failed(row, vendor, error, self.clock.now(), self.rng)
        outcome = submit_outcome.after_lookup(row, vendor, reports, self.clock.now())
        return replace(outcome, sent_at=sent_at)

    def _record(self, tx: Tx, outcomes: list[SubmitOutcome]) -> list[ApplyResult | None]:
        now = self.clock.now()
        return submit_record.record(tx, self.ledger, self.ids, self.rng, outcomes, now)
