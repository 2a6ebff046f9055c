"""Receiving: a vendor's push becomes reports in the ledger, and is acknowledged once that is durable.

Deduplication never skips applying: the first copy may have died half-way, so applying is idempotent instead. A push we
cannot read is kept and acknowledged, and the vendor is asked. Our own trouble is never the vendor's fault.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa
import structlog

from orchestrator.database.bulk import Finder, among, inserting, updating
from orchestrator.database.store import Tx
from orchestrator.database.tables import account_state, push
from orchestrator.engine.runtime import Runtime
from orchestrator.foundation.errors import BadSignature, BadToken, NotJson, Unavailable, Unreadable
from orchestrator.foundation.signing.secret_keys import Callback
from orchestrator.foundation.states import Source
from orchestrator.jobs.ledger import ApplyResult
from orchestrator.jobs.transition import ReportEvent, ReportOutcome
from orchestrator.vendors.contract import Vendor
from orchestrator.vendors.report import Report

log = structlog.get_logger()

#: A push larger than this is refused, unread.
CAP = 1 << 20
#: Pushes of one job that are kept, and bytes of all their bodies: whoever holds a token could fill the disk. What comes
#: after is believed and counted all the same. Rejected ones get half, to leave room for the real ones.
KEPT = 100
KEPT_BYTES = 4 << 20
#: Kept with a push, for people who look into it. Signatures are not.
_KEPT_HEADERS = ("content-type", "user-agent", "webhook-id", "webhook-timestamp")


class ReceivedPush(NamedTuple):
    """A push to keep, and what it says. Without a report it is kept as evidence: `outcome` says of what."""

    row: dict[str, Any]
    heard: ReportEvent | None
    ask: bool = False


class Receiver:
    """The stage, over one runtime."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self._keep = runtime.store.batched(self._record)

    def unseal(self, account: str, token: str) -> tuple[Vendor, Callback]:
        """Return whose push this is. Raises `BadToken`, alike for an unknown account and any fault of the token."""
        vendor = self.runtime.vendors.get(account)
        # An unknown name costs the same look, under a name no account has: guessing fills no cache of keys.
        callback = self.runtime.keys.unseal(
            account if vendor else "", token, self.runtime.clock.now()
        )
        if vendor is None:
            raise BadToken("no such account")
        return vendor, callback

    async def push(
        self, vendor: Vendor, callback: Callback, headers: Mapping[str, str], body: bytes
    ) -> None:
        """Take in a push whose token was good. On return it is durable.

        Raises `BadSignature`, `NotJson` and `Unavailable`.
        """
        row = self._row(vendor, callback, headers, body)
        try:
            row["verified"] = self._verified(vendor, headers, body)
            report = _about(callback, vendor.read_push(body))
        except (BadSignature, NotJson) as error:
            result = "bad_signature" if isinstance(error, BadSignature) else "malformed"
            self.runtime.metrics.pushes(vendor.name, result).inc()
            await self._reject(row, error)
            raise
        except Unreadable as error:
            log.warning(
                "a push says nothing we understand",
                account=row["account"],
                job=row["job_id"],
                why=str(error),
            )
            row["outcome"] = f"unreadable: {error}"
            await self._take(ReceivedPush(row, None, ask=True))
            return
        await self._take(
            ReceivedPush(
                row, ReportEvent(callback.job_id, report, Source.PUSH, attempt=callback.attempt)
            )
        )

    def _verified(self, vendor: Vendor, headers: Mapping[str, str], body: bytes) -> bool:
        """Apply the account's policy. Gateways forward Kling's headers signed with a key we cannot have: `none`."""
        policy = vendor.account.signature
        if policy == "none":
            return False
        signed = vendor.verify(headers, body)
        if not signed and policy == "required":
            raise BadSignature("the account requires a signature and the push has none")
        return signed

    def _row(
        self, vendor: Vendor, callback: Callback, headers: Mapping[str, str], body: bytes
    ) -> dict[str, Any]:
        mark = hashlib.sha256(b"\0".join((callback.job_id.encode(), body))).hexdigest()
        return {
            "account": vendor.account.name,
            "job_id": callback.job_id,
            "attempt": callback.attempt,
            "received_at": self.runtime.clock.now(),
            "dedupe_key": mark[:40],
            "verified": False,
            "headers": {name: headers[name][:255] for name in _KEPT_HEADERS if name in headers},
            "body": body,
            "outcome": "",
            "copies": 1,
        }

    async def _take(self, taken: ReceivedPush) -> None:
        verdict = await self._keep(taken)
        result = _RESULTS.get(verdict.outcome, "accepted") if verdict else "malformed"
        self.runtime.metrics.pushes(self.runtime.vendors[taken.row["account"]].name, result).inc()
        if verdict is not None:
            self.runtime.announce([verdict])
        if taken.ask:
            self.runtime.wake("poll")

    async def _reject(self, row: dict[str, Any], error: BadSignature | NotJson) -> None:
        """Keep a push that is not believed, as evidence. Failing to do so changes nothing for the sender."""
        log.warning("push rejected", account=row["account"], job=row["job_id"], why=str(error))
        # One body may be rejected for several reasons, one after the other; each of them is evidence.
        why = hashlib.sha256(str(error).encode()).hexdigest()[:8]
        row |= {
            "outcome": f"rejected: {error}",
            "dedupe_key": f"rejected {why} {row['dedupe_key']}",
        }
        try:
            await self._keep(ReceivedPush(row, None))
        except Unavailable:
            return

    def _record(self, tx: Tx, taken: list[ReceivedPush]) -> list[ApplyResult | None]:
        """Apply what was said, keep what was sent, count it: the same few statements for one push or a hundred."""
        now = self.runtime.clock.now()
        verdicts = iter(self.runtime.ledger.apply(tx, [one.heard for one in taken if one.heard]))
        answers = [next(verdicts) if one.heard else None for one in taken]
        rows = [
            one.row | ({"outcome": said.outcome} if said else {})
            for one, said in zip(taken, answers, strict=True)
        ]
        for row, push_id in zip(rows, self.runtime.ids.many("psh", len(rows)), strict=True):
            row["id"] = push_id
        self._count(tx, [row for row in rows if not _is_rejected(row)], now)
        _KEEP(tx, _once(_bounded(tx, rows)))
        if ask := [one.row["job_id"] for one in taken if one.ask]:
            self.runtime.ledger.hurry(tx, ask, now)
        return answers

    def _count(self, tx: Tx, rows: list[dict[str, Any]], now: datetime) -> None:
        counts = sorted(Counter(row["account"] for row in rows).items())
        _COUNT(
            tx,
            [
                {"was_account": account, "pushes": count, "last_push_at": now}
                for account, count in counts
            ],
        )


#: What a push came to, for those who count; whatever else it came to, it was accepted.
_RESULTS = {
    ReportOutcome.STALE: "stale",
    ReportOutcome.CONTRADICTS: "stale",
    ReportOutcome.NO_JOB: "unknown_task",
}
#: Keeps a push, or counts more copies of it.
_KEEP = inserting(
    push, "id", "account", "job_id", "attempt", "received_at", "dedupe_key", "verified", "headers", "body", "outcome",
    "copies",
    but=lambda made: made.on_conflict_do_update(
        index_elements=["job_id", "dedupe_key"], set_={"copies": push.c.copies + made.excluded.copies}
    ),
)  # fmt: skip


def _bounded(tx: Tx, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows to keep: of a job that has too many, one row without a body counts all the others."""
    known: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for job_id, key, size in _KNOWN(tx, list({row["job_id"] for row in rows})):
        known[job_id][key] = size
    kept = []
    for row in rows:
        mine, key, size = known[row["job_id"]], row["dedupe_key"], len(row["body"])
        rejected = _is_rejected(row)
        share = 2 if rejected else 1
        if key in mine or (
            len(mine) < KEPT // share and sum(mine.values()) + size <= KEPT_BYTES // share
        ):
            mine[key] = size
            kept.append(row)
        else:
            counted = f"{'rejected ' if rejected else ''}beyond {row['job_id']}"
            outcome = f"{'rejected; ' if rejected else ''}not kept: the job has too many pushes"
            kept.append(
                row | {"dedupe_key": counted, "outcome": outcome, "headers": {}, "body": b""}
            )
    return kept


def _is_rejected(row: Mapping[str, Any]) -> bool:
    return str(row["outcome"]).startswith("rejected")


_KNOWN = Finder(
    sa.select(push.c.job_id, push.c.dedupe_key, sa.func.length(push.c.body)).where(
        among(push.c.job_id)
    )
)


def _once(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Count the copies among rows: one statement may not meet the same push twice (PostgreSQL)."""
    first: dict[tuple[str, str], dict[str, Any]] = {}
    for row in rows:
        known = first.setdefault((row["job_id"], row["dedupe_key"]), row)
        known["copies"] += known is not row
    return list(first.values())


_COUNT = updating(account_state, "last_push_at", key=("account",), more=("pushes",))


def _about(callback: Callback, reports: list[Report]) -> Report:
    """Return the report that is about the token's job; the token has said which job that is."""
    if not reports:
        raise Unreadable("the body names no task")
    if len(reports) == 1:
        return reports[0]
    named = [one for one in reports if one.external_task_id == callback.job_id]
    if not named:
        raise Unreadable("the body names several tasks, and none of them by our id")
    return named[0]
