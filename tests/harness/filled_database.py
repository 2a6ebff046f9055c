"""A database that is filled once, for the tests of a module that do not change its rows."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from tests.harness import databases
from tests.harness.runtime import Harness, open_harness


async def insert(h: Harness, table: sa.Table, rows: list[dict[str, Any]]) -> None:
    """Insert rows."""
    await h.runtime.store.write(lambda tx: tx.execute(sa.insert(table), rows) and None)


@contextmanager
def filled_database(
    kind: str, folder: Path, fill: Callable[[Harness], Awaitable[object]]
) -> Iterator[str]:
    """Yield the URL of a database after `fill`; it is dropped at the end."""
    address = databases.url(kind, folder)

    async def run() -> None:
        async with open_harness(folder, database_url=address) as h:
            await fill(h)

    asyncio.run(run())
    yield address
    databases.drop(address)
