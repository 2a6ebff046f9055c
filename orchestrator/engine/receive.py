"""Receive: a vendor's push becomes a report in the ledger. It is acknowledged once that is durable.

Deduplication never skips applying: the first copy may have been stored and not applied, so applying
is idempotent instead. A push that cannot be read is stored, and the vendor is asked, at most once
an interval; it is acknowledged if it is JSON. A failure of ours is never reported as a fault of the
vendor's.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import structlog

from orchestrator.database.bulk import bulk_update
from orchestrator.database.store import Store, Tx
from orchestrator.database.tables import account_state
from orchestrator.database.tables.rows import PushRow
from orchestrator.engine import receive_storage
from orchestrator.engine.first_claims import FirstClaim, FirstClaims
from orchestrator.engine.notifier import Notifier
from orchestrator.engine.push_pacing import PushPacing
from orchestrator.engine.receive_storage import is_rejected
from orchestrator.foundation import off_loop
from orchestrator.foundation.clock import Clock
from orchestrator.foundation.errors import (
    BadSignature,
    BadToken,
    NotJson,
    SignatureFault,
    Unavailable,
    Unreadable,
)
from orchestrator.foundation.ids import Ids
from orchestrator.foundation.metrics import Metrics
from orchestrator.foundation.signing.secret_keys import Callback, Keys
from orchestrator.foundation.states import Source
from orchestrator.jobs.capacity import lock_accounts
from orchestrator.jobs.learning import Learning
from orchestrator.jobs.ledger import ApplyResult, Ledger
from orchestrator.jobs.transition import ReportEvent, ReportOutcome
from orchestrator.vendors.contract import Vendor
from orchestrator.vendors.report import Report

log = structlog.get_logger()

#: A push larger than this many bytes is refused without being read.
CAP = 1 << 20
#: Headers stored with a push, for support. Signatures are not stored.
_STORED_HEADERS = ("content-type", "user-agent", "webhook-id", "webhook-timestamp")


class ReceivedPush(NamedTuple):
    """A push to store and its report. Without a report it is evidence; `outcome` says why.

    `poll` asks for a status query about the job. `fault` is that of its signature.
    """

    row: PushRow
    report: ReportEvent | None
    poll: bool = False
    fault: SignatureFault | None = None
    #: Claims the deliveries of its unit of work.
    first: FirstClaim | None = None


@dataclass(kw_only=True)
class Receiver:
    """The stage that receives pushes."""

    store: Store
    ledger: Ledger
    learning: Learning
    vendors: Mapping[str, Vendor]
    keys: Keys
    ids: Ids
    clock: Clock
    metrics: Metrics
    notifier: Notifier
    push_pacing: PushPacing
    first_claims: FirstClaims

    def __post_init__(self) -> None:
        self._save = self.store.batched(self._record)

    def unseal(self, account: str, token: str) -> tuple[Vendor, Callback]:
        """Return the vendor and job of a callback URL.

        Raises `BadToken`, the same for an unknown account and for any fault of the token.
        """
        vendor = self.vendors.get(account)
        # An unknown account costs the same check, under a name that no account has: guessing
        # account names neither takes a different time nor fills the cache of keys.
        callback = self.keys.unseal(account if vendor else "", token, self.clock.now())
        if vendor is None:
            raise BadToken("no such account")
        return vendor, callback

    async def push(
        self,
        vendor: Vendor,
        callback: Callback,
        headers: Mapping[str, str],
        body: bytes,
        peer: str | None = None,
    ) -> None:
        """Process a push with a valid token. It is durable when this returns.

        `peer` is the address of its sender. Raises `BadSignature`, `NotJson` and `Unavailable`.
        """
        await self.push_pacing.turn()
        row = self._row(vendor, callback, headers, body)
        try:
            row["verified"] = _verify(vendor, headers, body)
            # Not the party of answers: pushes delay no query, and queries no push.
            party, size = f"push:{vendor.account.name}", len(body)
            reports = await off_loop.vendors.run(party, size, vendor.read_push, body)
            report = _report_of(callback, reports)
        except BadSignature as error:
            self.metrics.pushes(vendor.name, "bad_signature").inc()
            _log_rejected(row, error, peer)
            with contextlib.suppress(Unavailable):
                # Evidence alone: a failure to store it changes nothing for the sender.
                await self._reject(row, error, fault=error.fault)
            raise
        except NotJson as error:
            self.metrics.pushes(vendor.name, "malformed").inc()
            _log_rejected(row, error, peer)
            # Its sender has the token, so something happened to the job.
            await self._reject(row, error, poll=True)
            self.notifier.wake("poll")
            raise
        except Unreadable as error:
            await self._keep_unreadable(row, error)
            return
        event = ReportEvent(callback.job_id, report, Source.PUSH, attempt=callback.attempt)
        await self._accept(ReceivedPush(row, event))

    async def _keep_unreadable(self, row: PushRow, error: Unreadable) -> None:
        """Store a push that says nothing we understand; the vendor is asked instead."""
        ids = {"account": row["account"], "job": row["job_id"]}
        log.warning("a push cannot be read", **ids, why=str(error))
        row["outcome"] = f"unreadable: {error}"
        await self._accept(ReceivedPush(row, None, poll=True))

    def _row(
        self, vendor: Vendor, callback: Callback, headers: Mapping[str, str], body: bytes
    ) -> PushRow:
        digest = hashlib.sha256(b"\0".join((callback.job_id.encode(), body))).hexdigest()
        return {
            "id": "",
            "account": vendor.account.name,
            "job_id": callback.job_id,
            "attempt": callback.attempt,
            "received_at": self.clock.now(),
            "dedupe_key": digest[:40],
            "verified": False,
            "headers": {name: headers[name][:255] for name in _STORED_HEADERS if name in headers},
            "body": body,
            "outcome": "",
            "copies": 1,
        }

    async def _accept(self, received: ReceivedPush) -> None:
        async with self.push_pacing.place():
            applied = await self._stored(received)
        result = _RESULTS.get(applied.outcome, "accepted") if applied else "malformed"
        self.metrics.pushes(self.vendors[received.row["account"]].name, result).inc()
        if applied is not None:
            if applied.job is not None and not applied.moved:
                self.learning.pushed_late(applied.job)
            self.notifier.announce([applied])
        if received.poll:
            self.notifier.wake("poll")

    async def _stored(self, received: ReceivedPush) -> ApplyResult | None:
        if not self.first_claims.possible:
            return await self._save(received)
        # A task, that goes on if the sender leaves: what it claimed is to be worked on.
        return await asyncio.shield(asyncio.create_task(self._save_and_claim(received)))

    async def _save_and_claim(self, received: ReceivedPush) -> ApplyResult | None:
        """Save a push, and claim its deliveries."""
        async with self.first_claims.one() as first:
            return await self._save(received._replace(first=first))

    async def _reject(
        self,
        row: PushRow,
        error: BadSignature | NotJson,
        *,
        poll: bool = False,
        fault: SignatureFault | None = None,
    ) -> None:
        """Store a rejected push as evidence. Raises `Unavailable`."""
        # The same body may be rejected for several reasons; each is evidence.
        reason = hashlib.sha256(str(error).encode()).hexdigest()[:8]
        row["outcome"] = f"rejected: {error}"
        row["dedupe_key"] = f"rejected {reason} {row['dedupe_key']}"
        await self._save(ReceivedPush(row, None, poll, fault))

    def _record(self, tx: Tx, pushes: list[ReceivedPush]) -> list[ApplyResult | None]:
        """Apply reports, store and count pushes: a few statements for one push or a hundred."""
        now = self.clock.now()
        accounts = {push.row["account"] for push in pushes}
        silent = [push.row["job_id"] for push in pushes if push.poll]
        job_ids = {push.row["job_id"] for push in pushes}
        if silent:
            self.ledger.lock(tx, job_ids)
        reports = [push.report for push in pushes if push.report]
        asked = self.ledger.ask(tx, reports, accounts) if reports else None
        stored = receive_storage.ask(tx, job_ids)
        # One at a time: see `FirstClaims`.
        first = next((push.first for push in pushes if push.first), None)
        if first:
            first.reset()
        applied = iter(self.ledger.apply(tx, reports, accounts, asked, first))
        results = [next(applied) if push.report else None for push in pushes]
        rows: list[PushRow] = []
        new_ids = self.ids.many("psh", len(pushes))
        for received, result, push_id in zip(pushes, results, new_ids, strict=True):
            outcome = result.outcome if result else received.row["outcome"]
            # A copy: a unit of work may run again.
            rows.append({**received.row, "id": push_id, "outcome": outcome})
        accepted = Counter(row["account"] for row in rows if not is_rejected(row))
        counts = [
            {"was_account": account, "pushes": count, "last_push_at": now}
            for account, count in sorted(accepted.items())
        ]
        lock_accounts(tx, accounts)
        _COUNT(tx, counts)
        _COUNT_REFUSED(tx, _refused(pushes, now))
        receive_storage.store(tx, rows, stored)
        if silent:
            self.ledger.poll_soon(tx, silent, now)
        return results


def _log_rejected(row: PushRow, error: Exception, peer: str | None) -> None:
    ids = {"account": row["account"], "job": row["job_id"]}
    log.warning("push rejected", **ids, peer=peer, why=str(error))


def _verify(vendor: Vendor, headers: Mapping[str, str], body: bytes) -> bool:
    """Return whether the push is signed, by the account's policy. Raises `BadSignature`.

    With the policy `none` nothing is checked: gateways forward Kling's headers, signed with a key
    that we cannot have.
    """
    policy = vendor.account.signature
    if policy == "none":
        return False
    signed = vendor.verify(headers, body)
    if not signed and policy == "required":
        raise BadSignature(
            "the account requires a signature and the push has none", SignatureFault.UNSIGNED
        )
    return signed


def _report_of(callback: Callback, reports: list[Report]) -> Report:
    """Return the report about the token's job.

    Raises `Unreadable` if it is unclear which that is.
    """
    if not reports:
        raise Unreadable("the body names no task")
    if len(reports) == 1:
        return reports[0]
    named = [report for report in reports if report.external_task_id == callback.job_id]
    if not named:
        raise Unreadable("the body names several tasks, and none of them by our id")
    return named[0]


def _refused(pushes: Sequence[ReceivedPush], now: datetime) -> list[dict[str, Any]]:
    """Return the pushes to count as refused for their signature, by account."""
    counts = Counter((push.row["account"], push.fault) for push in pushes if push.fault)
    return [
        {
            "was_account": account,
            "last_refused_at": now,
            **{fault.value: counts[account, fault] for fault in SignatureFault},
        }
        for account in sorted({account for account, _ in counts})
    ]


#: The metric label of an outcome. Any other outcome counts as accepted.
_RESULTS = {
    ReportOutcome.STALE: "stale",
    ReportOutcome.CONTRADICTS: "stale",
    ReportOutcome.NO_JOB: "unknown_task",
}
_COUNT = bulk_update(account_state, "last_push_at", key=("account",), increments=("pushes",))
_COUNT_REFUSED = bulk_update(
    account_state, "last_refused_at", key=("account",), increments=tuple(SignatureFault)
)
