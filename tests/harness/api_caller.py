"""A caller of the API, and helpers that wait until a condition is true."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx

T = TypeVar("T")
Json = dict[str, Any]

KEY = "orc_" + "t" * 40
#: The part of the time waited so far that a condition is not looked at again.
_PATIENCE = 0.15


async def until(condition: Callable[[], T | None], what: str = "", seconds: float = 20) -> T:
    """Return the condition's value as soon as it is true. Fails after `seconds`."""

    async def check() -> T | None:
        return condition()

    return await eventually(check, what, seconds)


async def eventually(
    condition: Callable[[], Awaitable[T | None]], what: str = "", seconds: float = 20
) -> T:
    """Return the awaited condition's value as soon as it is true. Fails after `seconds`."""
    began = time.monotonic()
    value = await condition()
    while not value:
        waited = time.monotonic() - began
        assert waited < seconds, f"never came true: {what or condition}"
        await asyncio.sleep(min(max(0.01, _PATIENCE * waited), 0.1))
        value = await condition()
    return value


@dataclass
class Api:
    """A caller with a key."""

    http: httpx.AsyncClient

    async def call(
        self, method: str, path: str, body: Any = None, **headers: str
    ) -> httpx.Response:
        """Send one request, `idempotency_key="x"` as `Idempotency-Key: x`."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.http.request(method, path, json=body, headers=named)

    async def get(self, path: str) -> Any:
        """Return the JSON at a path."""
        response = await self.call("GET", path)
        assert response.status_code == 200, response.text
        return response.json()

    async def submit(self, body: Json, **headers: str) -> Json:
        """Submit a job and return it."""
        response = await self.call("POST", "/v1/jobs", body, **headers)
        assert response.status_code in (200, 202), response.text
        made: Json = response.json()
        return made

    async def job(self, job_id: str) -> Json:
        """Return a job as it is now."""
        job: Json = await self.get(f"/v1/jobs/{job_id}")
        return job

    async def ended(self, job_id: str, seconds: float = 20) -> Json:
        """Return a job once it is final."""

        async def final() -> Json | None:
            answer = await self.call("GET", f"/v1/jobs/{job_id}", prefer=f"wait={int(seconds)}")
            assert answer.status_code == 200, answer.text
            job: Json = answer.json()
            return job if job["finished_at"] else None

        return await eventually(final, f"{job_id} is final", seconds)

    async def timeline(self, job_id: str, kind: str) -> list[Json]:
        """Return the entries of one kind in a job's timeline, oldest first."""
        page = await self.get(f"/v1/jobs/{job_id}/timeline?limit=200")
        return [entry for entry in page["data"] if entry["kind"] == kind]

    async def subscribe(self, url: str, *types: str, **more: Any) -> Json:
        """Add a subscriber and return it, its secret included."""
        response = await self.call(
            "POST", "/v1/subscribers", {"url": url, "types": [*types] or ["job.*"], **more}
        )
        assert response.status_code == 201, response.text
        made: Json = response.json()
        return made
