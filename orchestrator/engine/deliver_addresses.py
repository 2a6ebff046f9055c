"""The health of callback URLs: what one answers concerns that address, not others of its host."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import sqlalchemy as sa

from orchestrator.database.bulk import RowLock, bulk_update, insert
from orchestrator.database.store import Tx
from orchestrator.database.tables import callback_address
from orchestrator.foundation.clock import after


class AddressFailure(NamedTuple):
    """A failed attempt at an address: its key, its host's lane, and seconds of `Retry-After`."""

    key: str
    lane: str
    error: str | None
    rest: float


def record_addresses(
    tx: Tx, delivered: Collection[str], failures: Sequence[AddressFailure], now: datetime
) -> None:
    """End the failures of addresses (keys) that accepted a delivery; then count failed attempts.

    A rest goes on.
    """
    by_key: defaultdict[str, list[AddressFailure]] = defaultdict(list)
    for failure in failures:
        by_key[failure.key].append(failure)
    _LOCK(tx, {*delivered, *by_key})
    _HEALTHY(
        tx, [{"was_key": key, "failing_since": None, "failures": 0} for key in sorted(delivered)]
    )
    for key, failed in sorted(by_key.items()):
        rest = max(failure.rest for failure in failed)
        row: Mapping[str, Any] = {
            "key": key,
            "lane": failed[-1].lane,
            "resting_until": after(now, rest) if rest else None,
            "failing_since": now,
            "failures": len(failed),
            "last_error": failed[-1].error,
            "updated_at": now,
        }
        made = insert(tx.dialect.name, callback_address).values(**row)
        tx.execute(made.on_conflict_do_update(index_elements=["key"], set_=_merged(made.excluded)))


def _merged(new: Any) -> Mapping[str, Any]:
    """Return the columns of a row that is there: it rests the longer of both times."""
    rests, known = new.resting_until, callback_address.c.resting_until
    longer = sa.case((sa.or_(known.is_(None), rests > known), rests), else_=known)
    return {
        "resting_until": sa.case((rests.is_(None), known), else_=longer),
        "failing_since": sa.func.coalesce(callback_address.c.failing_since, new.failing_since),
        "failures": callback_address.c.failures + new.failures,
        "last_error": new.last_error,
        "updated_at": new.updated_at,
    }


_LOCK = RowLock(callback_address.c.key)
_HEALTHY = bulk_update(
    callback_address,
    "failing_since",
    "failures",
    key=("key",),
    where=callback_address.c.failing_since.is_not(None),
)
