"""Intake: drafts of new jobs and of repetitions, and the unit of work that creates them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from orchestrator.database.store import Tx
from orchestrator.database.tables.rows import JobRow
from orchestrator.events.callback_lanes import callback_lane
from orchestrator.foundation import addresses, json_codec
from orchestrator.foundation.clock import Clock, after
from orchestrator.foundation.errors import ConfigError, Conflict, Problem
from orchestrator.foundation.ids import Ids
from orchestrator.foundation.json_codec import Raw, encode
from orchestrator.foundation.signing.secret_keys import Keys
from orchestrator.foundation.states import FINAL, Capability
from orchestrator.jobs.creation import Accepted, create_jobs
from orchestrator.jobs.ledger import Ledger, Note
from orchestrator.jobs.retries import create_retry
from orchestrator.vendors.contract import Vendor
from orchestrator.vendors.order import Order

#: Column values of a job to come; a repetition has `again` too.
Draft = dict[str, Any]

_REPEATED = ("model", "capability", "input", "callback_events", "metadata", "queue_rank")


@dataclass(kw_only=True)
class JobIntake:
    """Makes drafts, and jobs of them."""

    ids: Ids
    keys: Keys
    clock: Clock
    vendors: Mapping[str, Vendor]
    ledger: Ledger

    def draft(self, vendor: Vendor, api_key: str) -> Draft:
        """Return the columns that every new job has."""
        now = self.clock.now()
        return {
            "id": self.ids("job"),
            "account": vendor.account.name,
            "vendor": vendor.name,
            "api_key": api_key,
            "idempotency_key": None,
            "fingerprint": None,
            "fingerprints": (),
            "created_at": now,
            "due_at": now,
            "fairness_key": api_key,
        }

    def repetition(self, old: JobRow, api_key: str, *, again: bool) -> Draft:
        """Return the columns of a job that repeats a final one: unchecked, see `check_order`.

        It has the turns of the old job, and starts at once.
        Raises `Conflict` if the old job is live, or lacks its account or its callback URL.
        """
        old_id = old["id"]
        if old["state"] not in FINAL:
            raise Conflict(
                f"{old_id} is {old['state']}; only a final job can be retried", job_id=old_id
            )
        vendor = self.vendors.get(old["account"])
        if vendor is None:
            raise Conflict(f"the account {old['account']} is no longer configured", job_id=old_id)
        draft = self.draft(vendor, api_key)
        draft |= {name: value for name, value in old.items() if name in _REPEATED}
        draft["callback_url"] = self._callback_url_of(old)
        draft["fairness_key"] = old["fairness_key"] or old["api_key"]
        began = old["start_after"] or old["created_at"]
        seconds = (old["deadline_at"] - began).total_seconds()
        draft |= {"external_task_id": draft["id"], "retry_of": old_id, "again": again}
        draft["deadline_at"] = after(draft["created_at"], seconds)
        return draft

    def create(self, tx: Tx, drafts: Sequence[Draft]) -> list[Accepted | Problem]:
        """Unit of work: create jobs, and the delivery lanes of their callback URLs."""
        now = self.clock.now()
        # Copies: a unit of work may run again.
        lanes = self.callback_lanes(tx, [draft["callback_url"] for draft in drafts], now)
        full = [draft | self._callback(draft, lanes) for draft in drafts]
        fresh = iter(create_jobs(tx, [draft for draft in full if "retry_of" not in draft]))
        results = [
            create_retry(tx, draft, again=draft["again"]) if "retry_of" in draft else next(fresh)
            for draft in full
        ]
        created = [
            result.job for result in results if isinstance(result, Accepted) and not result.replayed
        ]
        notes = [
            Note(old_id, "operator", {"action": "retry", "by": row["api_key"], "job": row["id"]})
            for row in created
            if (old_id := row["retry_of"])
        ]
        self.ledger.note(tx, notes, now)
        return results

    def callback_lanes(
        self, tx: Tx, urls: Sequence[str | None], now: datetime
    ) -> Mapping[str, str]:
        """Return the lanes of callback URLs by origin. The order of inserts avoids deadlocks."""
        origins = sorted({addresses.origin(url) for url in urls if url is not None})
        return {origin: callback_lane(tx, self.ids, self.keys, origin, now) for origin in origins}

    def _callback(self, draft: Draft, lanes: Mapping[str, str]) -> Draft:
        """Return the columns of a job's callback URL: encrypted, and its lane."""
        url = draft["callback_url"]
        if url is None:
            return {}
        sealed, lane = self.keys.seal_address(url), lanes[addresses.origin(url)]
        return {"callback_url": sealed.encrypted, "callback_key": sealed.key, "callback_lane": lane}

    def _callback_url_of(self, row: JobRow) -> str | None:
        """Return the callback URL of a job. Raises `Conflict` if no key can decrypt it."""
        try:
            stored = row["callback_url"]
            return None if stored is None else self.keys.open_address(stored)
        except ConfigError as error:
            raise Conflict(f"its callback_url cannot be read: {error}", job_id=row["id"]) from None


def check_order(vendor: Vendor, draft: Draft) -> None:
    """Raise a 422 `Problem` for what the vendor cannot carry."""
    vendor.check(order_of(draft))


def order_of(draft: Draft, callback_url: str | None = None) -> Order:
    """Return the order of a job to come."""
    given = draft["input"]
    return Order(
        draft["id"],
        draft["model"],
        Capability(draft["capability"]),
        json_codec.parse(encode(given)) if isinstance(given, Raw) else given,
        draft["external_task_id"],
        callback_url,
    )
