"""Lanes of callback URLs: one for each origin, and the health of the addresses in it.

A lane bounds the attempts in progress at a host. What an address answers concerns that address
alone: see the table `callback_address`.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

import sqlalchemy as sa

from orchestrator.database.bulk import insert
from orchestrator.database.store import Tx
from orchestrator.database.tables import callback_address, subscriber
from orchestrator.foundation import addresses
from orchestrator.foundation.ids import Ids
from orchestrator.foundation.signing.secret_keys import Keys
from orchestrator.foundation.states import SubscriberState
from orchestrator.schemas.subscribers import CallbackColumns

#: Of addresses that fail now.
IS_FAILING = callback_address.c.failing_since.is_not(None)


def callback_lane(tx: Tx, ids: Ids, keys: Keys, url: str, now: datetime) -> str:
    """Unit of work: return the id of the lane of a callback URL; insert the lane if it is new."""
    origin = addresses.origin(url)
    query = sa.select(subscriber.c.id).where(subscriber.c.callback_origin == origin)
    if (known := tx.scalar(query)) is not None:
        return str(known)
    sealed = keys.seal_address(origin)
    row = {
        "id": ids("sub"), "kind": "webhook", "callback_origin": origin,
        "address": sealed.encrypted, "address_key": sealed.key, "shown": origin, "secrets": [],
        "types": [], "description": "", "options": {}, "max_in_flight": 8,
        "state": SubscriberState.ACTIVE, "created_at": now,
    }  # fmt: skip
    tx.execute(insert(tx.dialect.name, subscriber).on_conflict_do_nothing(), [row])
    return str(tx.execute(query).scalar_one())


def callback_health(tx: Tx, lanes: Collection[str]) -> dict[str, CallbackColumns]:
    """Return the health of the callback URLs of hosts, for those of which one fails."""
    here, table = callback_address.c.lane.in_(lanes), callback_address.c
    counted = sa.select(
        table.lane,
        sa.func.count(),
        sa.func.sum(table.failures),
        sa.func.min(table.failing_since, type_=table.failing_since.type),
    )
    found: dict[str, CallbackColumns] = {}
    for lane, failing, failures, since in tx.execute(
        counted.where(here, IS_FAILING).group_by(table.lane)
    ):
        last = sa.select(table.last_error).where(table.lane == lane, IS_FAILING)
        error = tx.scalar(last.order_by(table.updated_at.desc()).limit(1))
        found[lane] = {
            "failing": failing, "failures": int(failures), "failing_since": since,
            "last_error": error,
        }  # fmt: skip
    return found
