"""The rate limit of a key: responses show the remaining quota; without any it is 429."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest

from orchestrator.api.auth import authenticator
from orchestrator.api.auth.api_keys import Scope
from orchestrator.api.auth.rate_limit import RateLimiter
from orchestrator.foundation.clock import after
from tests.api.test_support import ADMIN, BODY, calling
from tests.harness.api_caller import until
from tests.harness.followers import Follower, serving
from tests.harness.runtime import ManualClock

QUOTA = 6


def spent(limiter: RateLimiter, key: str = "key") -> tuple[bool, int]:
    """Spend a request; return whether it is allowed, and what is left."""
    status = limiter.spend(key, QUOTA)
    assert status is not None
    return not status.wait, status.left


def test_a_quota_can_be_used_in_a_burst_and_returns_evenly() -> None:
    clock = ManualClock()
    limiter = RateLimiter(clock)
    assert [spent(limiter) for _ in range(QUOTA + 1)] == [
        (True, left) for left in (5, 4, 3, 2, 1, 0)
    ] + [(False, 0)]
    for _ in range(3):
        clock.advance(9.9)
        assert spent(limiter) == (False, 0)
        clock.advance(0.1)
        assert spent(limiter) == (True, 0)
    clock.advance(60)
    assert spent(limiter) == (True, 5)


def test_a_refused_request_succeeds_after_retry_after() -> None:
    clock = ManualClock()
    limiter = RateLimiter(clock)
    for _ in range(QUOTA):
        limiter.spend("key", QUOTA)
    clock.advance(3.5)
    refused = limiter.spend("key", QUOTA)
    assert refused is not None
    headers = refused.headers()
    assert (headers["retry-after"], headers["ratelimit"]) == ("7", '"default";r=0;t=57')
    clock.advance(7)
    assert spent(limiter)[0]


def test_keys_have_separate_quotas_and_full_ones_are_dropped() -> None:
    clock = ManualClock()
    limiter = RateLimiter(clock)
    for n in range(5000):
        assert spent(limiter, f"key_{n}") == (True, 5)
        clock.advance(0.1)
    assert len(limiter._full_at) <= 4096
    assert spent(limiter, "key_4999") == (True, 4)


@pytest.mark.usefixtures("everywhere")
async def test_every_response_has_the_remaining_quota_and_a_refusal_stores_nothing(
    tmp_path: Path,
) -> None:
    async with calling(tmp_path, api_rate_limit=4) as api:
        for n, (method, path, status) in enumerate(
            [
                ("GET", "/v1/jobs", 200),
                ("GET", "/v1/nothing", 404),
                ("PUT", "/v1/jobs", 405),
                ("POST", "/v1/jobs", 202),
            ]
        ):
            response = await api.call(method, path, status, BODY if status == 202 else None)
            assert response.headers["ratelimit-policy"] == '"default";q=4;w=60'
            assert re.fullmatch(rf'"default";r={3 - n};t=\d+', response.headers["ratelimit"])
        refused = await api.call("POST", "/v1/jobs", 429, BODY, headers={"idempotency-key": "k"})
        assert refused.json()["code"] == "rate_limited"
        assert (
            refused.json()["type"]
            == "https://iana.org/assignments/http-problem-types#quota-exceeded"
        )
        assert refused.headers["ratelimit"].startswith('"default";r=0;')
        assert len(await api.rows("job")) == 1
        api.clock.advance(int(refused.headers["retry-after"]))
        accepted = await api.call("POST", "/v1/jobs", 202, BODY, headers={"idempotency-key": "k"})
        assert "idempotent-replayed" not in accepted.headers
        assert (await api.http.get("/errors/rate_limited")).status_code == 200


async def test_a_key_can_have_its_own_limit_or_none(tmp_path: Path) -> None:
    async with calling(tmp_path, api_rate_limit=9) as api:
        made = [
            await api.post("/v1/keys", 201, {"name": "ci", "rate_limit": limit})
            for limit in (2, 0, None)
        ]
        assert [key["rate_limit"] for key in made] == [2, 0, None]
        narrow, free, usual = ({"authorization": f"Bearer {key['key']}"} for key in made)
        response = await api.call("GET", "/v1/jobs", 200, headers=usual)
        assert response.headers["ratelimit-policy"] == '"default";q=9;w=60'
        for _ in range(20):
            assert "ratelimit" not in (await api.call("GET", "/v1/jobs", 200, headers=free)).headers
        for status in (200, 200, 429):
            await api.call("GET", "/v1/jobs", status, headers=narrow)
        for bad in (-1, 1.5, "many"):
            refused = await api.post("/v1/keys", 422, {"name": "x", "rate_limit": bad})
            assert refused["errors"][0]["pointer"] == "/rate_limit"


async def test_unauthenticated_requests_are_not_counted(tmp_path: Path) -> None:
    async with calling(tmp_path, api_rate_limit=1) as api:
        api.http.headers.pop("authorization")
        for _ in range(3):
            assert "ratelimit" not in (await api.call("GET", "/v1/jobs", 401)).headers
            assert "ratelimit" not in (await api.call("GET", "/healthz", 200)).headers
        await api.call("GET", "/v1/jobs", 200, headers={"authorization": f"Bearer {ADMIN}"})


@pytest.mark.usefixtures("everywhere")
async def test_a_key_is_shown_without_its_secret(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        made = await api.call(
            "POST", "/v1/keys", 201, {"name": "ci", "scope": "read", "rate_limit": 5}
        )
        path = made.headers["location"].removeprefix(api.runtime.base)
        assert await api.get(path) == {
            name: value for name, value in made.json().items() if name != "key"
        }
        await api.get("/v1/jobs", headers={"authorization": f"Bearer {made.json()['key']}"})
        assert (await api.get(path))["last_used_at"]
        await api.call("DELETE", path, 204)
        assert (await api.get(path))["revoked_at"]
        await api.get("/v1/keys/" + api.runtime.ids("key"), 404)
        await api.get(path, 403, headers=await api.key(Scope.WRITE))


@pytest.mark.parametrize("how", ["revoked", "expired"])
async def test_a_stream_ends_with_its_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """A stream of another key goes on meanwhile."""
    # An expiry is found when the cached key is looked up again, a revocation at once.
    monkeypatch.setattr(authenticator, "_CACHED", 0.2 if how == "expired" else 60.0)
    async with serving(tmp_path) as it, it.caller() as http:
        now = it.runtime.clock.now()
        expires = after(now, 0.7) if how == "expired" else now + timedelta(days=1)
        made = (
            await http.post("/v1/keys", json={"name": "x", "expires_at": expires.isoformat()})
        ).json()
        mine, other = (
            Follower(it.url, key={"authorization": f"Bearer {made['key']}"}),
            Follower(it.url),
        )
        async with mine.following(), other.following():
            if how == "revoked":
                await http.delete(f"/v1/keys/{made['id']}")
            await until(lambda: mine.ends == 1, "its stream ends", 8)
            assert other.ends == 0
            await other.hears(*await it.say({"n": 1}))
            assert mine.ids == []
