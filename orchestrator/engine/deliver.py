"""Deliver: sends due deliveries to subscribers, at least once, with a record of every attempt.

Lanes isolate subscribers: each has its own limit, so one that hangs delays no other. An outcome
that cannot be recorded at once is retried while this process lives; meanwhile the delivery is not
resent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import httpx
import structlog

from orchestrator.database.store import Store, Tx
from orchestrator.egress.http_client import HttpClient
from orchestrator.engine.claims import permit
from orchestrator.engine.deliver_health import FLUSH, LaneChange, flush
from orchestrator.engine.deliver_messages import MessageBuilder
from orchestrator.engine.deliver_publishers import PublisherPool
from orchestrator.engine.deliver_results import Attempted, BatchCompleter, record
from orchestrator.engine.deliver_scheduler import ClaimedDelivery, DeliveryScheduler, release
from orchestrator.engine.first_claims import FirstClaims
from orchestrator.engine.notifier import Notifier
from orchestrator.engine.push_pacing import PushPacing
from orchestrator.engine.worker import Claimed, record_with_retry
from orchestrator.events.destinations import (
    Destination,
    HttpDestination,
    Publisher,
    PublishFailed,
    ResponseClass,
    Target,
)
from orchestrator.foundation import off_loop
from orchestrator.foundation.addresses import masked
from orchestrator.foundation.clock import Clock, Rng
from orchestrator.foundation.errors import Blocked, ConfigError, Exchange, TooLate
from orchestrator.foundation.ids import Ids, made_at
from orchestrator.foundation.logs import traceback_of
from orchestrator.foundation.metrics import Metrics
from orchestrator.foundation.retry_after import retry_after
from orchestrator.foundation.settings import Settings
from orchestrator.foundation.signing.secret_keys import Keys
from orchestrator.foundation.states import FINAL_STATUS
from orchestrator.foundation.untrusted import text
from orchestrator.jobs.share_links import ShareLinks

log = structlog.get_logger()

#: Attempts in progress at the same time in this process.
LIMIT = 256
#: Bytes of an answer that are read, and bytes that are stored with the attempt.
ANSWER_CAP = 16_384
STORED = 1_000
_RETRIED = (ResponseClass.LATER, ResponseClass.SHORTLY)


@dataclass(kw_only=True)
class Deliverer:
    """The stage that delivers events."""

    settings: Settings
    store: Store
    destinations: Mapping[str, Destination]
    http_client: HttpClient
    publishers: PublisherPool
    keys: Keys
    ids: Ids
    clock: Clock
    rng: Rng
    metrics: Metrics
    notifier: Notifier
    share_links: ShareLinks
    push_pacing: PushPacing
    first_claims: FirstClaims

    def __post_init__(self) -> None:
        self.scheduler = DeliveryScheduler(self.clock, self.rng, self.settings.delivery.policy)
        self.first_claims.scheduler = self.scheduler
        self._completer = BatchCompleter()
        self._messages = MessageBuilder(self.keys, self.clock, self.share_links)
        self._save = self.store.batched(self._record)

    async def take(self, room: int) -> Claimed[ClaimedDelivery]:
        """Claim the oldest due deliveries of every lane that has a free slot."""
        async with self.first_claims.by_stage():
            claims = await self.store.claim(self._claim, room)
            self.scheduler.begin(claims)
        if claims and not claims[-1].row["tries"]:
            behind = self.clock.now() - made_at(claims[-1].row["id"])
            is_all = not (claims.more or claims.full)
            self.push_pacing.claimed(behind.total_seconds(), is_all=is_all)
        return claims

    def _claim(self, tx: Tx, room: int) -> Claimed[ClaimedDelivery]:
        by = self.store.membership.number
        return Claimed() if by is None else self.scheduler.take(tx, room, by)

    async def give_back(self, claims: Sequence[ClaimedDelivery]) -> None:
        """Make deliveries that were not attempted due again."""
        for claim in claims:
            self.scheduler.end(claim)
        await self._release(claims)

    async def _release(self, claims: Sequence[ClaimedDelivery]) -> None:
        held = [(claim.row["id"], claim.row["lease"]) for claim in claims]
        await self.store.claim(release, held, self.clock.now())

    async def work(self, claim: ClaimedDelivery) -> None:
        """Make one attempt and record it.

        The slot is held until the commit: what a lane has in progress is all that its subscriber
        may receive again after a kill.
        """
        change: LaneChange | None = None
        began = self.clock.monotonic()
        try:
            done = await self._attempt(claim)
            await self._completer.wait(self.scheduler.in_progress)
            change = await record_with_retry(self._save, done, self.clock, self.rng)
            self.push_pacing.attempted(done.ms / 1000, self.clock.monotonic() - began)
            self._count(done, change)
            _log(done, change)
        except TooLate:
            # Nothing was sent: this is no attempt.
            await self._release([claim])
        finally:
            self.scheduler.end(claim)
            self.notifier.make_room("deliver")
        if change is LaneChange.RECOVERED:
            await self._flush(claim.subscriber["id"])
        if change is not None:
            self.notifier.wake("deliver")
        elif claim.subscriber["ordered"]:
            # The next event of the job may be due by now.
            self.notifier.wake_here("deliver")

    async def _flush(self, subscriber_id: str) -> None:
        """Bring a subscriber's retries forward. If this is cut short, their schedule goes on."""
        while await self.store.claim(flush, subscriber_id, self.clock.now()) == FLUSH:
            continue

    async def _attempt(self, claim: ClaimedDelivery) -> Attempted:
        """Return the attempt. Raises `TooLate` if the claim ended before the request left."""
        to = claim.event["callback_key"] if claim.subscriber["callback_origin"] else None
        done = Attempted(
            claim.row,
            claim.subscriber,
            self.clock.now(),
            ms=0,
            result=ResponseClass.LATER,
            policy=claim.policy,
            address=to,
        )
        try:
            return await self._exchange(claim, done)
        except TooLate:
            raise
        except Exception as error:
            # A fault of ours is an attempt too: without one, the delivery would come back for ever.
            log.error("a fault", delivery=claim.row["id"], exception=traceback_of(error))
            return replace(done, result=ResponseClass.SHORTLY, error="internal_error")

    async def _exchange(self, claim: ClaimedDelivery, done: Attempted) -> Attempted:
        """Return the attempt with what the other side answered. Raises `TooLate`."""
        started, now = self.clock.monotonic(), done.at
        destination = self.destinations[claim.subscriber["kind"]]
        try:
            target = self._messages.target(claim, now)
            if isinstance(destination, Publisher):
                return await self._publish(claim, destination, target, done)
            assert isinstance(destination, HttpDestination)
            request = await self._request(claim, destination, target, now)
            request.extensions["may_leave"] = self._permit(claim)
            response = await self.http_client.send(
                request, deadline=claim.policy.deadline, cap=ANSWER_CAP, body="partial"
            )
        except TooLate:
            raise
        except Exchange as error:
            result = ResponseClass.NEVER if isinstance(error, Blocked) else ResponseClass.LATER
            return replace(done, ms=self._ms(started), result=result, error=error.kind)
        except ConfigError:
            # A key is missing from secret_keys. Only this lane is affected, until it is put back.
            return replace(done, ms=self._ms(started), error="secret_unreadable")
        result = destination.classify_response(response)
        if result in _RETRIED and response.status_code in claim.policy.final_statuses:
            result = ResponseClass.NEVER
        done = replace(
            done,
            ms=self._ms(started),
            result=result,
            status=response.status_code,
            response=text(_head(response, request, target, destination)),
        )
        if result is ResponseClass.DELIVERED:
            return done
        why = destination.error_code(response) or _reason(response)
        if result is ResponseClass.NEVER:
            why = f"{FINAL_STATUS}{response.status_code}"
        return replace(done, error=why, rest=self._rest(response, destination))

    def _rest(self, response: httpx.Response, destination: HttpDestination) -> float | None:
        """Return the seconds that a failed response asks to wait: the longer of its statements."""
        asked = retry_after(response.headers, self.clock.stamp()), destination.wait(response)
        return max((wait for wait in asked if wait is not None), default=None)

    def _permit(self, claim: ClaimedDelivery) -> Callable[[], bool]:
        return permit(claim.row, self.store.membership, self.clock, claim.policy.deadline)

    def _ms(self, started: float) -> int:
        return round((self.clock.monotonic() - started) * 1000)

    async def _request(
        self, claim: ClaimedDelivery, destination: HttpDestination, target: Target, now: datetime
    ) -> httpx.Request:
        message = self._messages.message(claim, destination, now)
        # Some kinds parse the event.
        return await off_loop.receivers.run(
            claim.subscriber["id"], len(message.body), destination.request, target, message
        )

    async def _publish(
        self, claim: ClaimedDelivery, destination: Publisher, target: Target, done: Attempted
    ) -> Attempted:
        """Return the attempt at a broker. Raises `Blocked` and `TooLate`."""
        started = self.clock.monotonic()
        message = self._messages.message(claim, destination, done.at)
        lane, size, deadline = claim.subscriber["id"], len(message.body), claim.policy.deadline
        publication = await off_loop.receivers.run(lane, size, destination.encode, target, message)
        try:
            words = await self.publishers.publish(
                lane, destination, target, publication, self._permit(claim), deadline
            )
            done = replace(done, result=ResponseClass.DELIVERED)
        except PublishFailed as error:
            words = str(error)
            done = replace(done, result=error.result, error=error.code, rest=error.rest)
        shown = _without_secrets(words, target, destination, target.credentials.values())
        return replace(done, ms=self._ms(started), response=text(shown, STORED))

    def _record(self, tx: Tx, attempts: list[Attempted]) -> list[LaneChange | None]:
        return record(tx, self.ids, self.rng, attempts, self.clock.now())

    def _count(self, done: Attempted, change: LaneChange | None) -> None:
        lag = None
        if done.result is ResponseClass.DELIVERED:
            # A delivery is created with its event, so its id tells the age of both.
            lag = (done.at - made_at(done.row["id"])).total_seconds() + done.ms / 1000
        self.metrics.attempted(done.subscriber["kind"], done.result, done.ms / 1000, lag)
        if change is LaneChange.DISABLED:
            reason = "gone" if done.result is ResponseClass.GONE else "failing"
            self.metrics.disabled(reason).inc()


def _log(done: Attempted, change: LaneChange | None) -> None:
    """Log a failed attempt, and what changed. A successful one is on the delivery."""
    subscriber = done.subscriber["id"]
    if done.result is not ResponseClass.DELIVERED:
        detail = {"tries": done.row["tries"] + 1, "why": done.error}
        where = {"subscriber": subscriber, "to": done.subscriber["shown"]}
        log.warning("not delivered", delivery=done.row["id"], **where, **detail)
    if change is not None:
        log.warning(_CHANGES[change], subscriber=subscriber, to=done.subscriber["shown"])


_CHANGES = {
    LaneChange.DISABLED: "subscriber disabled",
    LaneChange.FAILING: "subscriber failing",
    LaneChange.RECOVERED: "subscriber recovered",
}


def _head(
    response: httpx.Response, request: httpx.Request, target: Target, destination: Destination
) -> str:
    """Return the head of a response body, without our secrets that it may repeat."""
    sent = [*target.credentials.values(), *target.headers.values()]
    if header := request.headers.get("authorization"):
        sent.append(header.rpartition(" ")[2])
    # One that is cut could no longer be recognised.
    has_secrets = destination.secret_address or sent or "?" in target.address
    head = response.content[: ANSWER_CAP if has_secrets else STORED].decode("utf-8", "replace")
    return _without_secrets(head, target, destination, sent)[:STORED]


def _without_secrets(
    words: str, target: Target, destination: Destination, secrets: Iterable[str]
) -> str:
    is_secret = destination.secret_address
    return masked(words, target.address, has_secret_path=is_secret, credentials=secrets)


def _reason(response: httpx.Response) -> str:
    return "redirect_not_followed" if response.is_redirect else f"status_{response.status_code}"
