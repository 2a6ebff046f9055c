"""API keys in the database itself, before a server runs."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar

from orchestrator.api.auth import api_keys
from orchestrator.api.auth.api_keys import Scope
from orchestrator.database.store import Store
from orchestrator.foundation.clock import Clock
from orchestrator.foundation.ids import Ids
from orchestrator.schemas import ApiKey, NewApiKey, Page
from orchestrator.schemas.accounts import api_key_json

T = TypeVar("T")


def create(
    url: str,
    clock: Clock,
    *,
    name: str,
    scope: str,
    expires_at: datetime | None,
    rate_limit: int | None,
) -> NewApiKey:
    """Return a new key, with its secret. Raises `ConfigError` if another process has the file."""
    row, secret = api_keys.new(
        Ids(clock, random.SystemRandom()),
        name=name,
        scope=Scope(scope),
        expires_at=expires_at,
        now=clock.now(),
        rate_limit=rate_limit,
    )
    asyncio.run(_written(url, api_keys.add, row))
    return NewApiKey.model_validate({**api_key_json(row), "key": secret})


def page(url: str, *, limit: int, after: str | None) -> Page[ApiKey]:
    """Return a page of keys, newest first."""
    rows = asyncio.run(_written(url, lambda tx: api_keys.ls(tx, limit=limit + 1, after=after)))
    keys = [ApiKey.model_validate(api_key_json(row)) for row in rows[:limit]]
    more = len(rows) > limit
    cursor = keys[-1].id if more else None
    return Page[ApiKey](object="list", data=keys, has_more=more, next_cursor=cursor)


def revoke(url: str, clock: Clock, key_id: str) -> None:
    """Revoke a key. Raises `ConfigError` if another process has the database file."""
    asyncio.run(_written(url, api_keys.revoke, key_id, clock.now()))


async def _written(url: str, unit: Callable[..., T], *args: Any) -> T:
    store = Store(url)
    store.start()
    try:
        return await store.write(unit, *args)
    finally:
        store.close()
