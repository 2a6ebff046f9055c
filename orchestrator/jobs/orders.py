"""Orders: a job's row as its vendor needs it, with the callback URL of the current attempt."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from orchestrator.database.tables.rows import JobRow
from orchestrator.foundation.json_codec import encode, parse
from orchestrator.foundation.signing.secret_keys import Callback, Keys
from orchestrator.foundation.states import Capability
from orchestrator.vendors.contract import Vendor
from orchestrator.vendors.order import Order

#: A callback token outlives the deadline of its job by this much: vendors push late.
TOKEN_GRACE = timedelta(days=7)


class OrderBuilder:
    """Builds orders. Mints the callback token, so it holds the keys."""

    def __init__(self, keys: Keys, base_url: str) -> None:
        self._keys = keys
        self._base = base_url

    def __call__(self, row: JobRow, vendor: Vendor) -> Order:
        """Return the order of a job. Its input may take 50 ms to parse."""
        return replace(self.without_input(row, vendor), given=parse(encode(row["input"])))

    def without_input(self, row: JobRow, vendor: Vendor) -> Order:
        """Return the order of a job for a status query, which does not repeat the input."""
        return Order(
            job_id=row["id"],
            model=row["model"],
            capability=Capability(row["capability"]),
            given={},
            external_task_id=row["external_task_id"],
            callback_url=self._callback_url(row) if vendor.pushes else None,
            vendor_task_id=row["vendor_task_id"],
            attempt=row["attempt"],
        )

    def _callback_url(self, row: JobRow) -> str:
        callback = Callback(row["id"], row["attempt"])
        token = self._keys.mint(row["account"], callback, row["deadline_at"] + TOKEN_GRACE)
        return f"{self._base}/callbacks/{row['account']}/{token}"
