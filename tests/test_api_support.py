"""A caller of the API for tests: a real runtime behind a real ASGI stack, without its loops; and what holds for all."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from orchestrator import keyring
from orchestrator.api import routes
from orchestrator.app import build
from orchestrator.decide import Heard
from orchestrator.housekeeping import prepare
from orchestrator.keyring import Scope
from orchestrator.report import Output, Report
from orchestrator.states import JobState, Source
from tests.house import FakeInternet, House, TurnedClock, settings

ADMIN = "orc_" + "a" * 43
TWO = {
    "main": {"vendor": "agentsflare", "api_key": "k"},
    "dream": {"vendor": "dreamto", "api_key": "k", "base_url": "https://d.example"},
}


class FlowingClock(TurnedClock):
    """Runs like a real clock, and can be turned forward as well."""

    def __init__(self) -> None:
        super().__init__()
        self._begun = time.monotonic()

    def now(self) -> datetime:
        return super().now() + timedelta(seconds=time.monotonic() - self._begun)

    def monotonic(self) -> float:
        return super().monotonic() + time.monotonic() - self._begun


class Caller(House):
    """A house with somebody at its door."""

    http: httpx.AsyncClient

    async def call(self, method: str, path: str, status: int, json: Any = None, **more: Any) -> httpx.Response:
        """Call, and insist on the status; problems must look like problems."""
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
        """Let the vendor report the end of a job."""
        videos = (Output("https://cdn.example/v.mp4", duration=5.0),) if state is JobState.SUCCEEDED else ()
        await self.rt.hear(Heard(job_id, Report(state, word=state, videos=videos), Source.PUSH))

    async def key(self, scope: Scope, **values: Any) -> dict[str, str]:
        """Return the headers of a fresh key."""
        given: dict[str, Any] = {"name": scope.value, "scope": scope, "expires_at": None, "now": self.clock.now()}
        secret, _ = await self.rt.store.write(lambda tx: keyring.issue(tx, self.rt.ids, **(given | values)))
        return {"authorization": f"Bearer {secret}"}


def is_problem(response: httpx.Response) -> None:
    """Every refusal is RFC 9457, and a 422 says where."""
    said = response.json()
    assert response.headers["content-type"] == "application/problem+json"
    assert {"type", "title", "status", "code", "detail", "request_id"} <= said.keys()
    assert said["status"] == response.status_code
    assert said["request_id"] == response.headers["x-request-id"]
    assert ("errors" in said) == (response.status_code == 422)
    assert all(fault.keys() == {"pointer", "code", "message"} for fault in said.get("errors", ()))


@contextlib.asynccontextmanager
async def calling(folder: Path, **values: Any) -> AsyncIterator[Caller]:
    """Open a house and stand at its door with an admin's key."""
    clock, internet = FlowingClock(), FakeInternet()
    chosen = settings(folder, **({"api_keys": [ADMIN]} | values))
    rt = build(chosen, clock=clock, rng=random.Random(1), transport=httpx.MockTransport(internet))
    rt.store.start()
    caller = Caller(rt, clock, internet)
    transport = httpx.ASGITransport(Starlette(routes=routes(rt)), raise_app_exceptions=True)
    headers = {"authorization": f"Bearer {ADMIN}"}
    try:
        await rt.store.write(prepare, sorted(rt.vendors))
        async with httpx.AsyncClient(transport=transport, base_url="http://api", headers=headers) as caller.http:
            yield caller
    finally:
        await rt.submissions.aclose()
        await rt.internet.aclose()
        rt.store.close()


PATHS = [
    ("GET", "/v1/jobs"), ("POST", "/v1/jobs"), ("GET", "/v1/jobs/x"), ("GET", "/v1/jobs/x/timeline"),
    ("POST", "/v1/jobs/x/cancel"), ("POST", "/v1/jobs/x/refresh"), ("POST", "/v1/jobs/x/retry"),
    ("POST", "/v1/files/upload"), ("GET", "/v1/events"), ("GET", "/v1/events/x"), ("POST", "/v1/events/x/replay"),
    ("GET", "/v1/subscribers"), ("POST", "/v1/subscribers"), ("GET", "/v1/subscribers/x"),
    ("PATCH", "/v1/subscribers/x"), ("DELETE", "/v1/subscribers/x"), ("POST", "/v1/subscribers/x/test"),
    ("POST", "/v1/subscribers/x/pause"), ("POST", "/v1/subscribers/x/resume"),
    ("POST", "/v1/subscribers/x/rotate-secret"), ("POST", "/v1/subscribers/x/replay"), ("GET", "/v1/deliveries"),
    ("GET", "/v1/deliveries/x"), ("POST", "/v1/deliveries/x/retry"), ("GET", "/v1/accounts"),
    ("GET", "/v1/accounts/x"), ("GET", "/v1/signing-key"), ("GET", "/v1/keys"), ("POST", "/v1/keys"),
    ("DELETE", "/v1/keys/x"), ("GET", "/v1/nothing"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path"), PATHS)
async def test_nothing_under_v1_is_served_without_a_key(tmp_path: Path, method: str, path: str) -> None:
    async with calling(tmp_path) as api:
        for headers in ({}, {"authorization": "Bearer orc_" + "b" * 43}, {"authorization": "Basic x"}):
            api.http.headers.pop("authorization", None)
            refused = await api.call(method, path, 401, headers=headers)
            assert refused.headers["www-authenticate"] == "Bearer"
            assert refused.json()["code"] == "unauthorized"


@pytest.mark.parametrize(("method", "path"), PATHS)
async def test_a_read_key_reads_and_changes_nothing(tmp_path: Path, method: str, path: str) -> None:
    async with calling(tmp_path) as api:
        headers = await api.key(Scope.READ)
        response = await api.http.request(method, path, headers=headers)
        closed = method != "GET" or path in ("/v1/keys", "/v1/signing-key")
        assert (response.status_code == 403) == closed
        if closed:
            is_problem(response)
            assert response.json()["code"] == "insufficient_scope"


async def test_a_write_key_may_not_touch_keys(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        headers = await api.key(Scope.WRITE)
        await api.call("GET", "/v1/signing-key", 200, headers=headers)
        await api.call("POST", "/v1/keys", 403, {"name": "x"}, headers=headers)


async def test_keys_end_by_expiry_and_by_revocation(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        made = await api.post("/v1/keys", 201, {"name": "ci", "scope": "read"})
        headers = {"authorization": f"Bearer {made['key']}"}
        await api.get("/v1/jobs", headers=headers)
        await api.call("DELETE", f"/v1/keys/{made['id']}", 204)
        await api.get("/v1/jobs", 401, headers=headers)
        await api.call("DELETE", "/v1/keys/" + api.rt.ids("key"), 404)
        (listed,) = (await api.get("/v1/keys"))["data"]
        assert listed["revoked_at"]
        assert listed["last_used_at"]
        assert made["key"] not in str(listed)
        short = await api.key(Scope.READ, expires_at=api.clock.now() + timedelta(seconds=60))
        await api.get("/v1/jobs", headers=short)
        api.clock.turn(61)
        await api.get("/v1/jobs", 401, headers=short)
        past = await api.post("/v1/keys", 422, {"name": "x", "expires_at": "2020-01-01T00:00:00Z"})
        assert past["errors"][0]["pointer"] == "/expires_at"


async def test_whoever_holds_the_secret_keys_needs_no_key_for_a_minute(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        headers = {"authorization": "Bearer orc_pass." + api.rt.keys.admit(api.clock.now())}
        await api.get("/v1/keys", headers=headers)
        api.clock.turn(120)
        await api.get("/v1/keys", 401, headers=headers)


async def test_unknown_paths_and_methods_are_problems(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        for path in ("/v1", "/v1/", "/v1/nothing/at/all", "/nothing", "/"):
            await api.get(path, 404)
        refused = await api.call("PUT", "/v1/jobs", 405)
        assert refused.headers["allow"] == "GET, HEAD, POST"
        assert (await api.call("POST", "/healthz", 405)).headers["allow"] == "GET, HEAD"
        assert (await api.call("GET", "/v1/jobs/x/cancel", 405)).headers["allow"] == "POST"


async def test_a_request_keeps_its_id_if_that_is_harmless(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        mine = await api.call("GET", "/v1/nothing", 404, headers={"x-request-id": "My-id_1"})
        assert mine.headers["x-request-id"] == "My-id_1"
        for bad in ("", "a b", "x" * 65, "<script>"):
            minted = await api.call("GET", "/v1/nothing", 404, headers={"x-request-id": bad})
            assert minted.headers["x-request-id"].startswith("req_")


async def test_a_head_is_a_get_without_the_body(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        got, head = await api.call("GET", "/v1/jobs", 200), await api.call("HEAD", "/v1/jobs", 200)
        assert head.content == b""
        assert head.headers["content-length"] == got.headers["content-length"]


async def test_health_needs_no_key_and_readiness_needs_the_database(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        api.http.headers.pop("authorization")
        assert await api.get("/healthz") == {"status": "ok"}
        assert (await api.get("/readyz"))["checks"] == [{"name": "database", "status": "ok"}]
        (tmp_path / "test.db").rename(tmp_path / "gone.db")
        api.rt.store._reader_engine.dispose()
        (tmp_path / "test.db").mkdir()
        broken = await api.http.get("/readyz")
        assert broken.status_code == 503
        assert broken.headers["retry-after"]
        assert broken.json()["checks"] == [{"name": "database", "status": "failing"}]
        assert await api.get("/healthz") == {"status": "ok"}
        ours = await api.call("GET", "/v1/jobs", 503, headers={"authorization": f"Bearer {ADMIN}"})
        assert ours.headers["retry-after"]


async def test_every_problem_has_a_page(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        problem = await api.get("/v1/nothing", 404)
        page = await api.http.get(problem["type"].removeprefix(api.rt.base))
        assert page.status_code == 200
        assert (await api.http.get("/errors/none")).status_code == 404


async def test_accounts_tell_how_they_are_and_never_their_keys(tmp_path: Path) -> None:
    async with calling(tmp_path, accounts=TWO) as api:
        await api.open("dream", state=JobState.PROCESSING)
        page = await api.get("/v1/accounts?limit=1")
        assert (page["has_more"], page["next_cursor"], page["data"][0]["name"]) == (True, "dream", "dream")
        assert page["data"][0]["in_flight"] == 1
        (other,) = (await api.get("/v1/accounts?after=dream"))["data"]
        assert other["capabilities"] == sorted(api.rt.vendors["main"].capabilities)
        one = await api.get("/v1/accounts/main")
        wanted = {"in_flight", "pushes", "pushes_missed", "polls", "last_push_at", "paused_until", "capabilities"}
        assert wanted <= one.keys()
        assert "key" not in str(one)
        await api.get("/v1/accounts/nobody", 404)


async def test_the_signing_key_verifies_deliveries_to_callback_urls(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        assert await api.get("/v1/signing-key") == {
            "object": "signing_key", "secret": api.rt.keys.callback_secrets[0]
        }  # fmt: skip
