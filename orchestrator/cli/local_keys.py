"""API keys in the database itself, for the moment before the first server runs."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeVar

from orchestrator.api.auth import api_keys
from orchestrator.api.auth.api_keys import Scope
from orchestrator.cli.failure import Exit, Failure
from orchestrator.cli.terminal import Record
from orchestrator.database.store import Store, Tx
from orchestrator.foundation.clock import Clock, rfc3339
from orchestrator.foundation.ids import Ids

T = TypeVar("T")


def issue(
    url: str,
    clock: Clock,
    *,
    name: str,
    scope: str,
    expires_at: datetime | None,
    rate_limit: int | None,
) -> Record:
    """Return a key made now, with its secret. Raises `ConfigError` if the database is another process's."""
    ids = Ids(clock, random.SystemRandom())
    row, secret = api_keys.new(
        ids,
        name=name,
        scope=Scope(scope),
        expires_at=expires_at,
        now=clock.now(),
        rate_limit=rate_limit,
    )
    asyncio.run(_written(url, api_keys.add, row))
    return {**_shown(row), "key": secret}


def listing(url: str, *, limit: int, after: str | None) -> Record:
    """Return keys in the API's list envelope, newest first."""

    def unit(tx: Tx) -> Record:
        rows = api_keys.ls(tx, limit=limit + 1, after=after)
        page = [_shown(dict(row)) for row in rows[:limit]]
        more = len(rows) > limit
        return {
            "object": "list",
            "data": page,
            "has_more": more,
            "next_cursor": page[-1]["id"] if more else None,
        }

    return asyncio.run(_written(url, unit))


def held(url: str, text: str) -> Record:
    """Return the one key whose id is or begins with `text`. Raises `Failure` for none (exit 3) or several (exit 2)."""
    given = text if text.startswith("key_") else f"key_{text}"
    # What follows the last possible id with this beginning has it.
    some = listing(url, limit=2, after=given.ljust(30, "z") + "z")["data"]
    matching: list[Record] = [one for one in some if one["id"].startswith(given)]
    if not matching:
        raise Failure(
            f"no key's id begins with {text}", code=Exit.NOT_FOUND, hint="`orchestrator keys ls`"
        )
    if len(matching) > 1:
        raise Failure(
            f"several keys' ids begin with {text}", code=Exit.USAGE, hint="give more of it"
        )
    return matching[0]


def end(url: str, clock: Clock, key_id: str) -> None:
    """Revoke a key. Raises `ConfigError` if the database is another process's."""
    asyncio.run(_written(url, api_keys.revoke, key_id, clock.now()))


async def _written(url: str, unit: Callable[..., T], *args: Any) -> T:
    store = Store(url)
    store.start()
    try:
        return await store.write(unit, *args)
    finally:
        store.close()


def _shown(row: dict[Any, Any]) -> Record:
    """Return a row as the API would: without its digest, times as text."""
    told = {
        name: rfc3339(value) if isinstance(value, datetime) else value
        for name, value in row.items()
    }
    del told["digest"]
    return {"object": "api_key", **told, "scope": str(row["scope"])}
