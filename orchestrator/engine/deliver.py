"""Delivering: what the ledger owes a subscriber reaches its door, at least once, with proof of every attempt.

Lanes isolate subscribers: each has its own limit, so one that hangs delays nobody else. An outcome is recorded with the
others that end at the same time; if it cannot be, the delivery is not sent again while this process lives to insist.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

import httpx
import sqlalchemy as sa
import structlog

from orchestrator.database.store import Tx
from orchestrator.database.tables import delivery
from orchestrator.engine.deliver_results import Attempted, BatchCompleter, record
from orchestrator.engine.deliver_schedule import ClaimedDelivery, DeliveryScheduler
from orchestrator.engine.runtime import Runtime
from orchestrator.engine.worker import Claimed, Worker
from orchestrator.events.destinations import Message, ResponseClass
from orchestrator.foundation.clock import epoch_ms
from orchestrator.foundation.errors import Blocked, ConfigError, Exchange
from orchestrator.foundation.ids import made_at
from orchestrator.foundation.retry_after import retry_after
from orchestrator.foundation.untrusted import text

Row = Mapping[Any, Any]

log = structlog.get_logger()

#: Seconds for one attempt, connect to the last byte of the answer. A claim lasts twice that and a margin.
DEADLINE = 15.0
LEASE = 45.0
#: Attempts under way at once in this process.
LIMIT = 256
#: Bytes of an answer that are read; and characters of it that are kept.
ANSWER_CAP = 16_384
KEPT = 1_000


def worker(runtime: Runtime) -> Worker[ClaimedDelivery]:
    """Return the loop that delivers."""
    stage = Deliverer(runtime)
    return Worker(
        "deliver", limit=LIMIT, take=stage.take, work=stage.work, give_back=stage.give_back
    )


class Deliverer:
    """The stage, over one runtime."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.turns = DeliveryScheduler(runtime.clock, runtime.rng)
        self._end = runtime.store.batched(self._record)
        self._company = BatchCompleter()

    async def take(self, room: int) -> Claimed[ClaimedDelivery]:
        """Claim the oldest due deliveries of every lane that has a free place."""
        dues: Claimed[ClaimedDelivery] = await self.runtime.store.claim(
            self.turns.take, room, LEASE
        )
        self.turns.begin(dues)
        return dues

    async def give_back(self, dues: Sequence[ClaimedDelivery]) -> None:
        """Make deliveries due again that were not attempted."""
        for due in dues:
            self.turns.end(due)
        await self.runtime.store.claim(
            release, [(due.row["id"], due.row["lease"]) for due in dues], self.runtime.clock.now()
        )

    async def work(self, due: ClaimedDelivery) -> None:
        """Make one attempt and record it.

        It holds its place until then: what a lane has under way is what its subscriber may hear again after a kill.
        """
        try:
            done = await self._attempt(due)
            await self._company.wait(self.turns.under_way)
            disabled = await self.runtime.record_with_retry(self._end, done)
            self._count(done, disabled=disabled)
            _log(done, disabled=disabled)
        finally:
            self.turns.end(due)
            self._make_room()
        if disabled:
            self.runtime.wake("deliver")

    def _count(self, done: Attempted, *, disabled: bool) -> None:
        lag = None
        if done.verdict is ResponseClass.DELIVERED:
            # The event is as old as the id of what was owed with it.
            lag = (done.at - made_at(done.row["id"])).total_seconds() + done.ms / 1000
        self.runtime.metrics.attempted(done.to["kind"], done.verdict, done.ms / 1000, lag)
        if disabled:
            self.runtime.metrics.disabled(
                "gone" if done.verdict is ResponseClass.GONE else "failing"
            ).inc()

    def _make_room(self) -> None:
        """Look for what waited for the places that were freed."""
        if "deliver" in self.runtime.workers:
            self.runtime.workers["deliver"].make_room()

    async def _attempt(self, due: ClaimedDelivery) -> Attempted:
        runtime, started = self.runtime, self.runtime.clock.monotonic()
        now = runtime.clock.now()
        try:
            request = self._request(due, now)
            response = await runtime.http_client.send(
                request, deadline=DEADLINE, cap=ANSWER_CAP, overflow="truncate"
            )
        except Exchange as error:
            verdict = ResponseClass.NEVER if isinstance(error, Blocked) else ResponseClass.LATER
            return Attempted(due.row, due.to, now, self._since(started), verdict, error=error.kind)
        except ConfigError:
            # A key is missing from secret_keys. That is this lane's trouble alone, and passes when it is put back.
            return Attempted(
                due.row,
                due.to,
                now,
                self._since(started),
                ResponseClass.LATER,
                error="secret_unreadable",
            )
        verdict = runtime.destinations[due.to["kind"]].judge(response)
        return Attempted(
            due.row,
            due.to,
            now,
            self._since(started),
            verdict,
            status=response.status_code,
            error=None if verdict is ResponseClass.DELIVERED else _why(response),
            response=text(response.content[:KEPT].decode("utf-8", "replace")),
            rest=None if verdict is ResponseClass.DELIVERED else retry_after(response.headers, now),
        )

    def _since(self, started: float) -> int:
        return round((self.runtime.clock.monotonic() - started) * 1000)

    def _address(self, due: ClaimedDelivery) -> str:
        if due.to["callback_origin"] is not None:
            return str(due.event["callback_url"])
        return _revealed(self.runtime.keys.reveal, due.to["address"])

    def _request(self, due: ClaimedDelivery, now: datetime) -> httpx.Request:
        headers = (
            json.loads(_revealed(self.runtime.keys.reveal, due.to["headers"]))
            if due.to["headers"]
            else {}
        )
        message = Message(
            due.event["id"], due.event["type"], due.event["body"], now, headers, due.to["options"]
        )
        return self.runtime.destinations[due.to["kind"]].request(
            self._address(due), message, self._secrets(due.to, now)
        )

    def _secrets(self, to: Row, now: datetime) -> list[str]:
        """Return the keys that sign for a subscriber, newest first: all that are still valid."""
        if to["callback_origin"] is not None:
            return list(self.runtime.keys.callback_secrets)
        valid = [
            one for one in to["secrets"] if one["until"] is None or one["until"] > epoch_ms(now)
        ]
        return [_revealed(self.runtime.keys.reveal, one["key"]) for one in valid]

    def _record(self, tx: Tx, attempted: list[Attempted]) -> list[bool]:
        return record(tx, self.runtime.ids, self.runtime.rng, attempted, self.runtime.clock.now())


def _log(done: Attempted, *, disabled: bool) -> None:
    """Say what went wrong with an attempt; one that went well is on the delivery."""
    if done.verdict is not ResponseClass.DELIVERED:
        tries, why = done.row["tries"] + 1, done.error
        log.warning(
            "not delivered", delivery=done.row["id"], subscriber=done.to["id"], tries=tries, why=why
        )
    if disabled:
        log.warning("subscriber disabled", subscriber=done.to["id"])


def release(tx: Tx, held: Sequence[tuple[str, int]], now: datetime) -> None:
    """Make claimed deliveries (id, lease) due again, unless somebody else has them by now."""
    for delivery_id, lease in held:
        mine = sa.and_(
            delivery.c.id == delivery_id, delivery.c.lease == lease, delivery.c.due_at.is_not(None)
        )
        tx.execute(sa.update(delivery).where(mine).values(due_at=now))


@lru_cache(maxsize=4096)
def _revealed(reveal: Any, sealed: str) -> str:
    return str(reveal(sealed))


def _why(response: httpx.Response) -> str:
    if response.is_redirect:
        return "redirect_not_followed"
    return f"status_{response.status_code}"
