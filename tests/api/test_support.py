"""A caller of the API for tests: a runtime behind its ASGI application, without its stages."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
from starlette.applications import Starlette

from orchestrator.api import routes
from orchestrator.api.auth import api_keys
from orchestrator.api.auth.api_keys import Scope
from orchestrator.app import build
from orchestrator.database.store import Store
from orchestrator.foundation.states import JobState, Source
from orchestrator.jobs.capacity import ensure_accounts
from orchestrator.jobs.transition import ReportEvent
from orchestrator.vendors.report import Output, Report
from tests.harness.engine import apply_report
from tests.harness.openapi_contract import CONTRACT_HOOKS
from tests.harness.runtime import FakeHttp, Harness, ManualClock, settings

T = TypeVar("T")

HOOK = {"kind": "webhook", "url": "https://my.app/hook"}
BODY: dict[str, Any] = {"model": "kling-v3", "input": {"prompt": "a cat", "duration": 5}}
ADMIN = "orc_" + "a" * 43
TWO = {
    "main": {"vendor": "agentsflare", "api_key": "k"},
    "dream": {"vendor": "dreamto", "api_key": "k", "base_url": "https://d.example"},
}


class FlowingClock(ManualClock):
    """Runs like a system clock, and can be advanced too."""

    def __init__(self) -> None:
        super().__init__()
        self._begun = time.monotonic()

    def now(self) -> datetime:
        return super().now() + timedelta(seconds=time.monotonic() - self._begun)

    def monotonic(self) -> float:
        return super().monotonic() + time.monotonic() - self._begun


class Caller(Harness):
    """A runtime and a client of its API."""

    http: httpx.AsyncClient

    async def call(
        self, method: str, path: str, status: int, json: Any = None, **more: Any
    ) -> httpx.Response:
        """Send a request, and check its status and, of an error, its problem."""
        response = await self.http.request(method, path, json=json, **more)
        assert response.status_code == status, (response.status_code, response.text)
        assert response.headers["x-request-id"]
        if status >= 400:
            is_problem(response)
        return response

    async def get(self, path: str, status: int = 200, **more: Any) -> Any:
        """GET, and return the JSON."""
        return (await self.call("GET", path, status, **more)).json()

    async def post(self, path: str, status: int, json: Any = None, **more: Any) -> Any:
        """POST, and return the JSON."""
        return (await self.call("POST", path, status, json, **more)).json()

    async def finish(self, job_id: str, state: JobState = JobState.SUCCEEDED) -> None:
        """Apply a report of the vendor that the job is final."""
        videos = (
            (Output("https://cdn.example/v.mp4", duration=5.0),)
            if state is JobState.SUCCEEDED
            else ()
        )
        report = ReportEvent(job_id, Report(state, word=state, videos=videos), Source.PUSH)
        await apply_report(self, report)

    async def key(self, scope: Scope, **values: Any) -> dict[str, str]:
        """Return the headers of a fresh key."""
        given: dict[str, Any] = {
            "name": scope.value,
            "scope": scope,
            "expires_at": None,
            "now": self.clock.now(),
        }
        row, secret = api_keys.new(self.runtime.ids, **(given | values))
        await self.runtime.store.write(api_keys.add, row)
        return {"authorization": f"Bearer {secret}"}


def in_doubt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run every unit of work twice, as after a COMMIT whose result was lost."""
    once = Store.write

    async def twice(self: Store, run: Callable[..., T], *args: Any) -> T:
        await once(self, run, *args)
        return await once(self, run, *args)

    monkeypatch.setattr(Store, "write", twice)


async def submitted(api: Caller, **values: Any) -> dict[str, Any]:
    """Submit a job and return it."""
    made: dict[str, Any] = await api.post("/v1/jobs", 202, BODY | values)
    return made


async def subscribed(api: Caller, **values: Any) -> dict[str, Any]:
    """Subscribe to the final events and return the subscriber."""
    made: dict[str, Any] = await api.post("/v1/subscribers", 201, HOOK | values)
    return made


async def finished_job(api: Caller, state: JobState = JobState.SUCCEEDED) -> str:
    """Create a job, apply a final report, and return its id."""
    job_id: str = (await api.open())["id"]
    await api.finish(job_id, state)
    return job_id


async def eventually(look: Callable[[], Awaitable[Sequence[T]]]) -> Sequence[T]:
    """Return the first result that is not empty."""
    for _ in range(1000):
        if seen := await look():
            return seen
        await asyncio.sleep(0.01)
    raise AssertionError("it never came")


def is_problem(response: httpx.Response) -> None:
    """Check that a response is an RFC 9457 problem; a 422 has its faults."""
    problem = response.json()
    assert response.headers["content-type"] == "application/problem+json"
    assert {"type", "title", "status", "code", "detail", "request_id"} <= problem.keys()
    assert problem["status"] == response.status_code
    assert problem["request_id"] == response.headers["x-request-id"]
    assert ("errors" in problem) == (response.status_code == 422)
    assert all(
        fault.keys() == {"pointer", "code", "message"} for fault in problem.get("errors", ())
    )


@contextlib.asynccontextmanager
async def calling(folder: Path, **values: Any) -> AsyncIterator[Caller]:
    """Open a runtime, and yield a client of its API with an admin's key."""
    clock, network = FlowingClock(), FakeHttp()
    chosen = settings(folder, **({"api_keys": [ADMIN]} | values))
    runtime = build(
        chosen, clock=clock, rng=random.Random(1), transport=httpx.MockTransport(network)
    )
    runtime.store.start()
    caller = Caller(runtime, clock, network)
    transport = httpx.ASGITransport(Starlette(routes=routes(runtime)), raise_app_exceptions=True)
    headers = {"authorization": f"Bearer {ADMIN}"}
    try:
        await runtime.store.write(ensure_accounts, sorted(runtime.vendors))
        async with httpx.AsyncClient(
            transport=transport, base_url="http://api", headers=headers, event_hooks=CONTRACT_HOOKS
        ) as caller.http:
            yield caller
    finally:
        await runtime.submission_client.aclose()
        await runtime.http_client.aclose()
        runtime.store.close()


PATHS = [
    ("GET", "/v1/jobs"), ("POST", "/v1/jobs"), ("GET", "/v1/jobs/x"),
    ("GET", "/v1/jobs/x/timeline"), ("GET", "/v1/jobs/x/outputs/0"),
    ("POST", "/v1/jobs/x/cancel"), ("POST", "/v1/jobs/x/refresh"),
    ("POST", "/v1/jobs/x/retry"), ("POST", "/v1/files/upload"), ("GET", "/v1/events"),
    ("GET", "/v1/events/x"), ("POST", "/v1/events/x/replay"), ("GET", "/v1/subscribers"),
    ("POST", "/v1/subscribers"), ("GET", "/v1/subscribers/x"), ("PATCH", "/v1/subscribers/x"),
    ("DELETE", "/v1/subscribers/x"), ("POST", "/v1/subscribers/x/test"),
    ("POST", "/v1/subscribers/x/pause"), ("POST", "/v1/subscribers/x/resume"),
    ("POST", "/v1/subscribers/x/rotate-secret"), ("POST", "/v1/subscribers/x/replay"),
    ("GET", "/v1/deliveries"), ("GET", "/v1/deliveries/x"), ("POST", "/v1/deliveries/x/retry"),
    ("GET", "/v1/accounts"), ("GET", "/v1/accounts/x"), ("GET", "/v1/signing-key"),
    ("GET", "/v1/keys"), ("POST", "/v1/keys"), ("GET", "/v1/keys/x"), ("DELETE", "/v1/keys/x"),
    ("GET", "/v1/replays"), ("POST", "/v1/replays"), ("GET", "/v1/replays/x"),
    ("POST", "/v1/replays/x/cancel"), ("GET", "/v1/nothing"),
]  # fmt: skip
