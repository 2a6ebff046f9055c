"""The health of callback URLs: what one answers concerns that address, not others of its host."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from orchestrator.database.bulk import bulk_update, insert
from orchestrator.database.store import Tx
from orchestrator.database.tables import callback_address
from orchestrator.foundation.clock import after


def record_delivered(tx: Tx, keys: Sequence[str]) -> None:
    """End the failures of addresses that accepted a delivery. A rest goes on."""
    _HEALTHY(
        tx, [{"was_key": key, "failing_since": None, "failures": 0} for key in sorted({*keys})]
    )


def record_failed(
    tx: Tx, lane: str, failures: Sequence[tuple[str, str | None, float | None]], now: datetime
) -> None:
    """Count failed attempts (key, error, seconds of a `Retry-After`) at addresses of one host."""
    by_key: defaultdict[str, list[tuple[str | None, float]]] = defaultdict(list)
    for key, error, rest in failures:
        by_key[key].append((error, rest or 0.0))
    for key, failed in sorted(by_key.items()):
        rest = max(seconds for _, seconds in failed)
        row: Mapping[str, Any] = {
            "key": key,
            "lane": lane,
            "resting_until": after(now, rest) if rest else None,
            "failing_since": now,
            "failures": len(failed),
            "last_error": failed[-1][0],
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


_HEALTHY = bulk_update(
    callback_address,
    "failing_since",
    "failures",
    key=("key",),
    where=callback_address.c.failing_since.is_not(None),
)
