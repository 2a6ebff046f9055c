"""Browsers: cross-origin requests, and event streams that are opened with a ticket."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from orchestrator.api.auth import tickets
from orchestrator.foundation.errors import ConfigError
from orchestrator.foundation.logs import masked
from orchestrator.foundation.settings import Settings
from orchestrator.foundation.settings.types import _origin
from orchestrator.foundation.states import EventType
from tests.harness.api_caller import until
from tests.harness.followers import Follower, Service, serving

APP = "https://app.example"


@pytest.fixture
async def it(tmp_path: Path) -> AsyncIterator[Service]:
    async with serving(tmp_path, cors_origins=[APP]) as service:
        yield service


async def ticket(http: httpx.AsyncClient, **body: object) -> str:
    response = await http.post("/v1/events/tickets", json=body)
    assert response.status_code == 201, response.text
    text: str = response.json()["ticket"]
    return text


async def test_a_ticket_opens_one_stream_of_its_types_and_nothing_else(it: Service) -> None:
    async with it.caller() as http, httpx.AsyncClient(base_url=it.url) as anonymous:
        text = await ticket(http, types=["job.failed"])
        client = Follower(it.url, query=f"ticket={text}&types=job.*", key={})
        for path in ("/v1/events", "/v1/jobs", "/v1/events/tickets"):
            assert (await anonymous.get(f"{path}?ticket={text}")).status_code == 401
        async with client.following():
            await it.say({"n": 1})
            (failed,) = await it.say({"n": 2}, kind=EventType.JOB_FAILED)
            await client.hears(failed)
            assert client.ids == [failed]
            again = await anonymous.get(f"/v1/events/stream?ticket={text}")
            assert (again.status_code, again.json()["code"]) == (401, "unauthorized")


async def test_forged_and_expired_tickets_get_the_same_answer(
    it: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with it.caller() as http, httpx.AsyncClient(base_url=it.url) as anonymous:
        text = await ticket(http, seconds=1)
        now = it.runtime.clock.now()
        monkeypatch.setattr(it.runtime.clock, "now", lambda: now.replace(year=now.year + 1))
        answers = set()
        for wrong in (text, text[:-1], "x", "a.b", it.runtime.keys.mint_pass(now)):
            response = await anonymous.get("/v1/events/stream", params={"ticket": wrong})
            answers.add((response.status_code, response.json()["detail"]))
        assert len(answers) == 1
        assert answers.pop()[0] == 401
        for seconds in (0, 3601, 1.5):
            refused = await http.post("/v1/events/tickets", json={"seconds": seconds})
            assert refused.status_code == 422


async def test_a_ticket_and_its_stream_end_with_the_key(it: Service) -> None:
    async with it.caller() as http:
        made = (await http.post("/v1/keys", json={"name": "page", "scope": "read"})).json()
        headers = {"authorization": f"Bearer {made['key']}"}
        async with httpx.AsyncClient(base_url=it.url, headers=headers) as reader:
            used, unused = await ticket(reader), await ticket(reader)
        async with Follower(it.url, query=f"ticket={used}", key={}).following() as client:
            assert (await http.delete(f"/v1/keys/{made['id']}")).status_code == 204
            await until(lambda: client.ends)
        async with httpx.AsyncClient(base_url=it.url) as anonymous:
            refused = await anonymous.get(f"/v1/events/stream?ticket={unused}")
            assert refused.status_code == 401


async def test_used_tickets_are_remembered_within_bounds(
    it: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tickets, "_MAX_USED", 2)
    async with it.caller() as http, httpx.AsyncClient(base_url=it.url) as anonymous:
        texts = [await ticket(http, seconds=each) for each in (3600, 3600, 3600)]
        for text, status in zip(texts, (200, 200, 429), strict=True):
            query = {"ticket": text}
            async with anonymous.stream("GET", "/v1/events/stream", params=query) as response:
                assert response.status_code == status


def test_a_ticket_is_masked_in_logs() -> None:
    line = masked("GET /v1/events/stream?types=job.*&ticket=abc.def&x=1")
    assert line == "GET /v1/events/stream?types=job.*&ticket=***&x=1"


async def test_pages_of_named_origins_may_call_the_api_without_cookies(it: Service) -> None:
    async with httpx.AsyncClient(base_url=it.url) as browser:
        asks = {
            "access-control-request-method": "POST",
            "access-control-request-headers": "authorization, idempotency-key, content-type",
        }
        preflight = await browser.options("/v1/jobs", headers={"origin": APP, **asks})
        assert preflight.status_code == 200
        assert preflight.headers["access-control-allow-origin"] == APP
        assert "POST" in preflight.headers["access-control-allow-methods"]
        for origin in ("https://evil.example", "null", APP + ".evil.example", APP + ":8443"):
            for path in ("/v1/jobs", "/v1/events/stream"):
                refused = await browser.get(path, headers={"origin": origin})
                assert "access-control-allow-origin" not in refused.headers
        error = await browser.get("/v1/jobs", headers={"origin": APP})
        assert error.status_code == 401
        assert error.headers["access-control-allow-origin"] == APP
        assert "access-control-allow-credentials" not in error.headers
        assert "Retry-After" in error.headers["access-control-expose-headers"]
        health = await browser.get("/healthz", headers={"origin": APP})
        assert "access-control-allow-origin" not in health.headers


async def test_without_origins_no_page_may_call_the_api(tmp_path: Path) -> None:
    async with serving(tmp_path) as it, httpx.AsyncClient(base_url=it.url) as browser:
        response = await browser.get("/v1/jobs", headers={"origin": APP})
        assert not [name for name in response.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    "wrong",
    ["*", "https://*.example", "https://a.example/", "https://a.example/x", "a.example", "null",
     "https://A.example", "ftp://a.example", ""],
)  # fmt: skip
def test_an_origin_of_the_settings_is_one_origin(wrong: str) -> None:
    with pytest.raises(ValueError, match="must be an origin"):
        _origin(wrong)
    with pytest.raises((ValueError, ConfigError)):
        Settings(cors_origins=[wrong])
