"""The client's own methods, in both modes: submit, wait, run, upload, and any other call."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Unpack

from pydantic import JsonValue, RootModel

from orchestrator.client import requests, waiting
from orchestrator.client.accounts import Accounts
from orchestrator.client.callbacks import OnChange, finish
from orchestrator.client.connection import Connection
from orchestrator.client.destinations import Destinations
from orchestrator.client.events import Deliveries, Events
from orchestrator.client.jobs import Jobs
from orchestrator.client.keys import Keys
from orchestrator.client.replays import Replays
from orchestrator.client.requests import JobOptions, Request
from orchestrator.client.responses import Answer
from orchestrator.client.subscribers import Subscribers
from orchestrator.client.sync_async import ModeT, Resource, dual
from orchestrator.schemas import Job, SigningKey, Stats


class JsonObject(RootModel[dict[str, JsonValue]]):
    """A vendor's own response."""


class Methods(Resource[ModeT]):
    """The methods of one server, grouped by resource."""

    def __init__(self, connection: Connection, mode: type[ModeT]) -> None:
        super().__init__(connection, mode)
        self.jobs: Jobs[ModeT] = Jobs(connection, mode)
        self.events: Events[ModeT] = Events(connection, mode)
        self.subscribers: Subscribers[ModeT] = Subscribers(connection, mode)
        self.destinations: Destinations[ModeT] = Destinations(connection, mode)
        self.deliveries: Deliveries[ModeT] = Deliveries(connection, mode)
        self.replays: Replays[ModeT] = Replays(connection, mode)
        self.accounts: Accounts[ModeT] = Accounts(connection, mode)
        self.keys: Keys[ModeT] = Keys(connection, mode)

    @property
    def server(self) -> str:
        """The server's URL."""
        return str(self._connection.target)

    @dual
    async def submit(
        self,
        *,
        model: str,
        input: Mapping[str, object],
        wait: float | None = None,
        **options: Unpack[JobOptions],
    ) -> Job:
        """Submit a job and return it. With `wait` the server holds its response, up to 60 seconds.

        `account` may be left out where one is configured, `capability` where the input decides
        it; `deadline` is in seconds. The job is not submitted before `start_after` (a time, or
        seconds from now), and goes before those of its `fairness_key` that have a lower `priority`
        (-10 to 10, by default 0). The request carries `idempotency_key`, by default a random
        key, so a retry after a lost response makes no second job. Raises `Invalid` for what the
        vendor does not support, `Conflict` for an `external_task_id` that another job has.
        Other options: `callback_url`, `callback_events`, `metadata`.

        >>> job = client.submit(model="kling-v3", input={"prompt": "a cat surfing", "duration": 5})
        >>> job.status
        <JobState.QUEUED: 'queued'>
        """
        return await self._call(Job, requests.submission(model, input, wait, **options))

    @dual
    async def wait(
        self, job: Job | str, *, timeout: float | None = None, on_change: OnChange | None = None
    ) -> Job:
        """Return a job (or the job with that id) once it is final, in any final state.

        `on_change` is called for every change. The server may restart meanwhile. Raises
        `WaitTimeout` after `timeout` seconds; the job goes on, and can be waited for again.
        `result` returns only a job that succeeded.

        >>> client.wait(job, timeout=600, on_change=lambda job: print(job.progress)).urls
        ['https://...']
        """
        return await waiting.until_final(self._connection, job, timeout, on_change)

    @dual
    async def result(
        self, job: Job | str, *, timeout: float | None = None, on_change: OnChange | None = None
    ) -> Job:
        """Return a job once it has succeeded. Raises `JobFailed` otherwise; else as `wait`."""
        job = await waiting.until_final(self._connection, job, timeout, on_change)
        return waiting.require_success(job)

    @dual
    async def run(
        self,
        *,
        model: str,
        input: Mapping[str, object],
        timeout: float | None = None,
        on_change: OnChange | None = None,
        **options: Unpack[JobOptions],
    ) -> Job:
        """Submit a job and return it once it has succeeded: `submit`, then `result`.

        >>> client.run(model="kling-v3", input={"prompt": "a cat surfing"}).urls
        ['https://...']
        """
        job = await self._call(Job, requests.submission(model, input, None, **options))
        await finish(on_change and on_change(job))
        job = await waiting.until_final(self._connection, job, timeout, on_change)
        return waiting.require_success(job)

    @dual
    async def upload(
        self,
        file: str | os.PathLike[str] | bytes,
        *,
        kind: str,
        purpose: str,
        account: str | None = None,
        filename: str | None = None,
    ) -> dict[str, JsonValue]:
        """Pass a file (a path or bytes) on to a vendor that takes uploads; return its response.

        Raises `Invalid` if the account's vendor takes no uploads, `OSError` if the file cannot be
        read.
        """
        request = requests.upload(file, kind, purpose, account, filename)
        return (await self._call(JsonObject, request)).root

    @dual
    async def signing_key(self) -> str:
        """Return the secret for `Webhook` that verifies deliveries to a job's `callback_url`."""
        return (await self._call(SigningKey, requests.get("signing-key"))).secret

    @dual
    async def stats(self, *, hours: int = 24) -> Stats:
        """Return counts of the whole service, ages of what waits, and its history.

        >>> client.stats().ages.queued
        0.4
        """
        return await self._call(Stats, requests.get("stats", hours=hours))

    @dual
    async def call(
        self,
        method: str,
        path: str,
        *,
        json: object = None,
        query: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Return the response to any call that has no method here. Raises `ClientError`.

        Query parameters that are None are left out. An `Idempotency-Key` header makes the call
        safe to retry.

        >>> client.call("GET", "/v1/jobs", query={"limit": 1}).document["data"]
        [{'id': 'job_01...', ...}]
        """
        request = Request(method.upper(), path, json, query or {}, headers or {})
        return await self._connection.call(request)

    @dual
    async def close(self) -> None:
        """Close the connections, unless they belong to `http`."""
        await self._connection.transport.close()
