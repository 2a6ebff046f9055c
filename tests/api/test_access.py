"""What holds for every call: keys, scopes, problems, request ids; and the calls that are hardly any."""

from __future__ import annotations

import contextlib
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
import structlog

from orchestrator.api.auth.api_keys import Scope
from orchestrator.database.tables import api_key
from orchestrator.foundation.states import JobState
from tests.api.test_support import BODY, PATHS, TWO, calling, is_problem
from tests.harness import databases

pytestmark = pytest.mark.usefixtures("everywhere")


@pytest.mark.parametrize(("method", "path"), PATHS)
async def test_nothing_under_v1_is_served_without_a_key(
    tmp_path: Path, method: str, path: str
) -> None:
    async with calling(tmp_path) as api:
        for headers in (
            {},
            {"authorization": "Bearer orc_" + "b" * 43},
            {"authorization": "Basic x"},
        ):
            api.http.headers.pop("authorization", None)
            refused = await api.call(method, path, 401, headers=headers)
            assert refused.headers["www-authenticate"] == "Bearer"
            assert refused.json()["code"] == "unauthorized"


@pytest.mark.parametrize(("method", "path"), PATHS)
async def test_a_read_key_reads_and_changes_nothing(tmp_path: Path, method: str, path: str) -> None:
    async with calling(tmp_path) as api:
        headers = await api.key(Scope.READ)
        response = await api.http.request(method, path, headers=headers)
        closed = method != "GET" or path in ("/v1/keys", "/v1/keys/x", "/v1/signing-key")
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
        await api.call("DELETE", "/v1/keys/" + api.runtime.ids("key"), 404)
        (listed,) = (await api.get("/v1/keys"))["data"]
        assert listed["revoked_at"]
        assert listed["last_used_at"]
        assert made["key"] not in str(listed)
        short = await api.key(Scope.READ, expires_at=api.clock.now() + timedelta(seconds=60))
        await api.get("/v1/jobs", headers=short)
        api.clock.advance(61)
        await api.get("/v1/jobs", 401, headers=short)
        for bad in ("2020-01-01T00:00:00Z", "9999-12-31T23:59:59-14:00", "2027-01-01", 1):
            refused = await api.post("/v1/keys", 422, {"name": "x", "expires_at": bad})
            assert refused["errors"][0]["pointer"] == "/expires_at"
        zoned = await api.post(
            "/v1/keys", 201, {"name": "x", "expires_at": "2027-01-01T02:00:00+02:00"}
        )
        assert zoned["expires_at"] == "2027-01-01T00:00:00.000Z"


async def test_a_clock_that_is_set_back_makes_no_revoked_key_last(tmp_path: Path) -> None:
    """Another process revoked it: this one believes what it found for seconds, and those are counted by no calendar."""
    async with calling(tmp_path) as api:
        headers = await api.key(Scope.READ)
        await api.get("/v1/jobs", headers=headers)
        await api.run(sa.update(api_key).values(revoked_at=api.clock.now()))
        api.clock.advance(4)
        api.clock.set_back(3600)
        await api.get("/v1/jobs", 401, headers=headers)


async def test_whoever_holds_the_secret_keys_needs_no_key_for_a_minute(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        headers = {
            "authorization": "Bearer orc_pass." + api.runtime.keys.mint_pass(api.clock.now())
        }
        await api.get("/v1/keys", headers=headers)
        api.clock.advance(120)
        await api.get("/v1/keys", 401, headers=headers)


async def test_a_fault_of_ours_is_told_without_the_callers_key_whoever_renders_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Inside another application nobody configured structlog: it then shows every variable of a traceback."""

    async def fail(*_: object) -> None:
        raise ZeroDivisionError

    structlog.reset_defaults()
    async with calling(tmp_path) as api:
        headers = await api.key(Scope.READ)
        with monkeypatch.context() as broken:
            broken.setattr(api.runtime.store, "read", fail)
            await api.get("/v1/jobs", 500, headers=headers)
    said = capsys.readouterr().out
    assert "ZeroDivisionError" in said
    assert headers["authorization"].removeprefix("Bearer ") not in said


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


async def test_health_needs_no_key_and_readiness_a_database_that_takes_writes(
    tmp_path: Path,
) -> None:
    async with calling(tmp_path) as api:
        key = {"authorization": api.http.headers.pop("authorization")}
        assert await api.get("/healthz") == {"status": "ok"}
        assert (await api.get("/readyz"))["checks"] == [{"name": "database", "status": "ok"}]
        stack = contextlib.ExitStack()
        if api.runtime.store.shared:
            stack.enter_context(databases.read_only(api.runtime.settings.database_url))
        else:
            await api.run(sa.text("PRAGMA query_only = ON"))
        api.clock.advance(2)
        broken = await api.http.get("/readyz")
        assert broken.status_code == 503
        assert broken.headers["retry-after"]
        assert broken.json()["checks"] == [{"name": "database", "status": "failing"}]
        assert await api.get("/healthz") == {"status": "ok"}
        refused = await api.call("POST", "/v1/jobs", 503, BODY, headers=key)
        assert refused.headers["retry-after"]
        await api.get("/v1/jobs", headers=key)
        stack.close()


async def test_every_problem_has_a_page(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        problem = await api.get("/v1/nothing", 404)
        page = await api.http.get(problem["type"].removeprefix(api.runtime.base))
        assert page.status_code == 200
        assert (await api.http.get("/errors/none")).status_code == 404


async def test_accounts_tell_how_they_are_and_never_their_keys(tmp_path: Path) -> None:
    async with calling(tmp_path, accounts=TWO) as api:
        await api.open("dream", state=JobState.PROCESSING)
        page = await api.get("/v1/accounts?limit=1")
        assert (page["has_more"], page["next_cursor"], page["data"][0]["name"]) == (
            True,
            "dream",
            "dream",
        )
        assert page["data"][0]["in_flight"] == 1
        (other,) = (await api.get("/v1/accounts?after=dream"))["data"]
        assert other["capabilities"] == sorted(api.runtime.vendors["main"].capabilities)
        one = await api.get("/v1/accounts/main")
        wanted = {
            "in_flight",
            "pushes",
            "pushes_missed",
            "polls",
            "last_push_at",
            "paused_until",
            "capabilities",
        }
        assert wanted <= one.keys()
        assert "key" not in str(one)
        await api.get("/v1/accounts/nobody", 404)


async def test_the_signing_key_verifies_deliveries_to_callback_urls(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        assert await api.get("/v1/signing-key") == {
            "object": "signing_key", "secret": api.runtime.keys.callback_secrets[0]
        }  # fmt: skip
