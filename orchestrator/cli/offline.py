"""API keys in the database itself, for the moment before the first server runs."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar

from orchestrator import keyring
from orchestrator.cli.terminal import Record
from orchestrator.clock import Clock, rfc3339
from orchestrator.ids import Ids
from orchestrator.keyring import Scope
from orchestrator.store import Store, Tx

T = TypeVar("T")


def issue(url: str, clock: Clock, *, name: str, scope: str, expires_at: datetime | None) -> Record:
    """Return a key made now, with its secret. Raises `ConfigError` if the database is another process's."""
    ids = Ids(clock, random.SystemRandom())
    row, secret = keyring.new(ids, name=name, scope=Scope(scope), expires_at=expires_at, now=clock.now())
    asyncio.run(_written(url, keyring.add, row))
    return {**_shown(row), "key": secret}


def listing(url: str, *, limit: int, after: str | None) -> Record:
    """Return keys in the API's list envelope, newest first."""

    def unit(tx: Tx) -> Record:
        rows = keyring.ls(tx, limit=limit + 1, after=after)
        page = [_shown(dict(row)) for row in rows[:limit]]
        more = len(rows) > limit
        return {"object": "list", "data": page, "has_more": more, "next_cursor": page[-1]["id"] if more else None}

    return asyncio.run(_written(url, unit))


async def _written(url: str, unit: Callable[..., T], *args: Any) -> T:
    store = Store(url)
    store.start()
    try:
        return await store.write(unit, *args)
    finally:
        store.close()


def _shown(row: dict[Any, Any]) -> Record:
    """Return a row as the API would: without its digest, times as text."""
    told = {name: rfc3339(value) if isinstance(value, datetime) else value for name, value in row.items()}
    del told["digest"]
    return {"object": "api_key", **told, "scope": str(row["scope"])}
