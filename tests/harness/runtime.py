"""A real runtime for tests: database, ledger and stages are real, clock and network are fakes.

Tests use the `h` fixture (`tests/conftest.py`), or `open_harness` for other settings. For a service
over sockets use `tests.harness.live`, for one in a process `tests.harness.processes`.
"""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import httpx
import sqlalchemy as sa

from orchestrator.app import build
from orchestrator.database.tables import account_state, job, metadata
from orchestrator.database.tables.rows import AccountStateRow, JobRow
from orchestrator.engine.runtime import Runtime
from orchestrator.foundation.clock import after
from orchestrator.foundation.errors import TooLate
from orchestrator.foundation.json_codec import Raw, encode
from orchestrator.foundation.settings import Settings
from orchestrator.jobs.capacity import ensure_accounts
from orchestrator.jobs.creation import Accepted, create_jobs
from tests.harness import databases

Responder = Callable[[httpx.Request], httpx.Response | Awaitable[httpx.Response]]
START = datetime(2026, 11, 20, 10, tzinfo=UTC)


class ManualClock:
    """A clock that moves only when a test moves it."""

    def __init__(self) -> None:
        self._now = START
        self._behind = timedelta()

    def now(self) -> datetime:
        return self._now - self._behind

    def wall(self) -> datetime:
        return self.now()

    def stamp(self) -> datetime:
        return self.now()

    def monotonic(self) -> float:
        return (self._now - START).total_seconds()

    async def sleep(self, seconds: float) -> None:
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        """Move both clocks forward."""
        self._now += timedelta(seconds=seconds)

    def set_back(self, seconds: float) -> None:
        """Set the wall clock back, as an operator does. The monotonic clock is unchanged."""
        self._behind += timedelta(seconds=seconds)


class FakeHttp:
    """Answers every outgoing request with `answer`, and records it in `requests`."""

    def __init__(self) -> None:
        self.requests: list[httpx.Request] = []
        self.answer: Responder = lambda _: httpx.Response(200)

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        if (may_leave := request.extensions.get("may_leave")) and not may_leave():
            raise TooLate("the request may no longer leave")
        self.requests.append(request)
        answer = self.answer(request)
        return answer if isinstance(answer, httpx.Response) else await answer

    def bodies(self) -> list[Any]:
        """Return the JSON bodies of the requests."""
        return [json.loads(request.content) for request in self.requests if request.content]


class Harness:
    """A runtime, its fakes, and short ways to read and change its database."""

    def __init__(self, runtime: Runtime, clock: ManualClock, network: FakeHttp) -> None:
        self.runtime = runtime
        self.clock = clock
        self.network = network
        self.apply = runtime.store.batched(runtime.ledger.apply)

    async def open(self, account: str = "main", **values: Any) -> JobRow:
        """Create a queued job and return its row."""
        now = self.clock.now()
        job_id = self.runtime.ids("job")
        draft = {
            "id": job_id, "account": account, "vendor": self.runtime.vendors[account].name,
            "model": "kling-v3", "capability": "text2video", "input": {"prompt": "a cat"},
            "external_task_id": job_id, "metadata": {}, "api_key": "key",
            "created_at": now, "due_at": now, "deadline_at": after(now, 86400),
        }  # fmt: skip
        (opened,) = await self.runtime.store.write(create_jobs, [draft | values])
        assert isinstance(opened, Accepted), opened
        return cast(JobRow, dict(opened.job))

    async def job(self, job_id: str) -> JobRow:
        """Return a job's current row."""
        (row,) = await self.rows(job, job.c.id == job_id)
        return cast(JobRow, row)

    async def account(self, name: str = "main") -> AccountStateRow:
        """Return the current state row of an account."""
        (row,) = await self.rows(account_state, account_state.c.account == name)
        return cast(AccountStateRow, row)

    async def rows(
        self, table: sa.Table | str, *where: sa.ColumnElement[bool]
    ) -> list[dict[str, Any]]:
        """Return rows of a table, in the order of its primary key."""
        found = metadata.tables[table] if isinstance(table, str) else table
        first = next(iter(found.primary_key.columns))
        select = sa.select(found).where(*where).order_by(first)
        return await self.runtime.store.read(
            lambda tx: [
                {name: parsed(value) for name, value in row.items()}
                for row in tx.execute(select).mappings()
            ]
        )

    async def run(self, statement: sa.Executable) -> None:
        """Execute a statement, as an operator with a database shell would."""
        await self.runtime.store.write(lambda tx: tx.execute(statement) and None)


def parsed(value: Any) -> Any:
    """Return the value of a column, parsed where the product reads it as text."""
    return json.loads(encode(value)) if isinstance(value, Raw) else value


def settings(folder: Path, **values: Any) -> Settings:
    """Return settings with a fresh database and, by default, one `agentsflare` account `main`."""
    defaults: dict[str, Any] = {
        "database_url": databases.at(folder),
        "secret_keys": ["test-key-" + "k" * 32],
        "public_url": "https://hooks.example.com",
        "accounts": {"main": {"vendor": "agentsflare", "api_key": "vendor-key"}},
    }
    return Settings.model_validate(defaults | values)


@contextlib.asynccontextmanager
async def open_harness(
    folder: Path, *, sockets: bool = False, **values: Any
) -> AsyncIterator[Harness]:
    """Open a runtime without its workers: tests call `take` and `work` of the stages.

    With `sockets`, requests leave through the real client.
    """
    clock, network = ManualClock(), FakeHttp()
    runtime = build(
        settings(folder, **values),
        clock=clock,
        rng=random.Random(1),
        transport=None if sockets else httpx.MockTransport(network),
    )
    runtime.store.start()
    try:
        await runtime.store.write(ensure_accounts, sorted(runtime.vendors))
        yield Harness(runtime, clock, network)
    finally:
        await runtime.submission_client.aclose()
        await runtime.http_client.aclose()
        await runtime.publishers.aclose()
        runtime.store.close()
