"""The callers' API keys: `orc_` and 256 random bits, of which only a digest is stored.

A key this long needs no slow hash: it cannot be guessed by trying.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from datetime import datetime, timedelta
from enum import StrEnum

import sqlalchemy as sa

from orchestrator.database.bulk import insert
from orchestrator.database.store import Tx
from orchestrator.database.tables import api_key
from orchestrator.database.tables.rows import ApiKeyRow, fetch
from orchestrator.foundation.ids import Ids

PREFIX = "orc_"
_KEY = re.compile(r"orc_[A-Za-z0-9_-]{32,252}")
#: Characters of the key that are stored and shown.
_SHOWN = 10
#: The resolution of `last_used_at`: a key in constant use costs one write a minute.
_RESOLUTION = timedelta(minutes=1)


class Scope(StrEnum):
    """What a key may do; each includes the previous ones."""

    READ = "read"
    WRITE = "write"
    ADMIN = "admin"

    def covers(self, needed: Scope) -> bool:
        """True if a key of this scope may do what needs the other scope."""
        order = list(Scope)
        return order.index(self) >= order.index(needed)


def is_key(text: str) -> bool:
    """True if `text` has the form of a key, so that a lookup makes sense."""
    return _KEY.fullmatch(text) is not None


def digest(secret: str) -> str:
    """Return the digest of a key, which is stored in its place."""
    return hashlib.sha256(secret.encode()).hexdigest()


def new(
    ids: Ids,
    *,
    name: str,
    scope: Scope,
    expires_at: datetime | None,
    now: datetime,
    rate_limit: int | None = None,
) -> tuple[ApiKeyRow, str]:
    """Return a row for `add`, and the key, which cannot be shown again.

    `rate_limit` is in requests a minute; 0: unlimited, None: as the settings say.
    """
    secret = PREFIX + secrets.token_urlsafe(32)
    row: ApiKeyRow = {
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


def add(tx: Tx, row: ApiKeyRow) -> None:
    """Insert a key. Idempotent: a second run changes nothing."""
    statement = insert(tx.dialect.name, api_key).on_conflict_do_nothing(index_elements=["id"])
    tx.execute(statement, [dict(row)])


def find(tx: Tx, secret: str, now: datetime) -> ApiKeyRow | None:
    """Return the row of a valid key; None if it is unknown, revoked or expired."""
    rows = fetch(tx, ApiKeyRow, sa.select(api_key).where(api_key.c.digest == digest(secret)))
    return rows[0] if rows and is_valid(rows[0], now) else None


def is_valid(row: ApiKeyRow, now: datetime) -> bool:
    """True unless the key is revoked or has expired."""
    is_expired = row["expires_at"] is not None and row["expires_at"] <= now
    return row["revoked_at"] is None and not is_expired


def is_touch_due(row: ApiKeyRow, now: datetime) -> bool:
    """True if the last recorded use of this key is old enough to record another."""
    return row["last_used_at"] is None or now - row["last_used_at"] >= _RESOLUTION


def touch(tx: Tx, key_id: str, now: datetime) -> None:
    """Record the use of a key."""
    tx.execute(sa.update(api_key).where(api_key.c.id == key_id).values(last_used_at=now))


def ls(tx: Tx, *, limit: int, after: str | None = None) -> list[ApiKeyRow]:
    """Return up to `limit` keys, newest first, revoked ones too."""
    query = sa.select(api_key).order_by(api_key.c.id.desc()).limit(limit)
    return fetch(tx, ApiKeyRow, query if after is None else query.where(api_key.c.id < after))


def get(tx: Tx, key_id: str) -> ApiKeyRow | None:
    """Return the row of a key, revoked or not, or None."""
    return next(iter(fetch(tx, ApiKeyRow, sa.select(api_key).where(api_key.c.id == key_id))), None)


def revoke(tx: Tx, key_id: str, now: datetime) -> bool:
    """Revoke a key, for good; a second time keeps the first. False if there is no such key."""
    known = tx.execute(sa.select(api_key.c.id).where(api_key.c.id == key_id)).first()
    live = sa.and_(api_key.c.id == key_id, api_key.c.revoked_at.is_(None))
    tx.execute(sa.update(api_key).where(live).values(revoked_at=now))
    return known is not None
