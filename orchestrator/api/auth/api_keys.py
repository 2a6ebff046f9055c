"""The callers' API keys: `orc_` and 256 random bits, of which only a digest is kept.

A key this long needs no slow hash: nobody can try them all.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from orchestrator.database.bulk import insert
from orchestrator.database.store import Tx
from orchestrator.database.tables import api_key
from orchestrator.foundation.ids import Ids
from orchestrator.foundation.masking import API_KEY_PREFIX

Row = Mapping[Any, Any]
Values = dict[str, Any]

_FORM = re.compile(rf"{API_KEY_PREFIX}[A-Za-z0-9_-]{{32,252}}")
_SHOWN = 10
#: `last_used_at` is this coarse: a key in constant use costs one write a minute.
_COARSE = timedelta(minutes=1)


class Scope(StrEnum):
    """What a key may do; each includes the ones before it."""

    READ = "read"
    WRITE = "write"
    ADMIN = "admin"

    def covers(self, needed: Scope) -> bool:
        """True if a key of this scope may do what needs the other one."""
        order = list(Scope)
        return order.index(self) >= order.index(needed)


def is_key(text: str) -> bool:
    """True if `text` has the form of a key, so that looking for it makes sense."""
    return _FORM.fullmatch(text) is not None


def digest(secret: str) -> str:
    """Return what is kept of a key."""
    return hashlib.sha256(secret.encode()).hexdigest()


def new(
    ids: Ids,
    *,
    name: str,
    scope: Scope,
    expires_at: datetime | None,
    now: datetime,
    rate_limit: int | None = None,
) -> tuple[Values, str]:
    """Return a row for `add`, and the key's secret, which nobody can be shown again.

    `rate_limit` is in requests a minute; 0: any number, None: as many as the settings say.
    """
    secret = API_KEY_PREFIX + secrets.token_urlsafe(32)
    row: Values = {
        "id": ids("key"),
        "name": name,
        "prefix": secret[:_SHOWN],
        "digest": digest(secret),
        "scope": scope,
        "rate_limit": rate_limit,
        "created_at": now,
        "expires_at": expires_at,
        "revoked_at": None,
        "last_used_at": None,
    }
    return row, secret


def add(tx: Tx, row: Values) -> None:
    """Keep a key. Run again, it finds its own row and leaves it."""
    tx.execute(
        insert(tx.dialect.name, api_key).on_conflict_do_nothing(index_elements=["id"]), [row]
    )


def find(tx: Tx, secret: str, now: datetime) -> Row | None:
    """Return the key's row, or None if there is none, or it was revoked or has expired."""
    row = (
        tx.execute(sa.select(api_key).where(api_key.c.digest == digest(secret))).mappings().first()
    )
    if row is None or row["revoked_at"] is not None:
        return None
    return None if row["expires_at"] is not None and row["expires_at"] <= now else row


def is_due_a_touch(row: Row, now: datetime) -> bool:
    """True if it has been a while since the use of this key was recorded."""
    return row["last_used_at"] is None or now - row["last_used_at"] >= _COARSE


def touch(tx: Tx, key_id: str, now: datetime) -> None:
    """Record that a key is in use."""
    tx.execute(sa.update(api_key).where(api_key.c.id == key_id).values(last_used_at=now))


def ls(tx: Tx, *, limit: int, after: str | None = None) -> list[Row]:
    """Return up to `limit` keys, newest first, revoked ones too."""
    query = sa.select(api_key).order_by(api_key.c.id.desc()).limit(limit)
    if after is not None:
        query = query.where(api_key.c.id < after)
    return list(tx.execute(query).mappings())


def get(tx: Tx, key_id: str) -> Row | None:
    """Return a key's row, also if it was revoked; None if there is none."""
    return tx.execute(sa.select(api_key).where(api_key.c.id == key_id)).mappings().first()


def revoke(tx: Tx, key_id: str, now: datetime) -> bool:
    """End a key, for good. False if there is no such key; revoking twice keeps the first time."""
    found = tx.execute(sa.select(api_key.c.id).where(api_key.c.id == key_id)).first()
    live = sa.and_(api_key.c.id == key_id, api_key.c.revoked_at.is_(None))
    tx.execute(sa.update(api_key).where(live).values(revoked_at=now))
    return found is not None
