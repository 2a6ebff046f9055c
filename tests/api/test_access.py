"""Keys, scopes and request ids; probes, accounts and the signing key."""

from __future__ import annotations

import contextlib
import re
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
import structlog

from orchestrator.api.auth.api_keys import Scope
from orchestrator.database.tables import account_state, api_key
from orchestrator.foundation.clock import DisciplinedClock, after, rfc3339
from orchestrator.foundation.masking import OPERATOR_PREFIX
from orchestrator.foundation.states import HoldReason, JobState
from orchestrator.jobs import holds
from orchestrator.jobs.holds import Refusal
from tests.api.test_support import BODY, TWO, calling
from tests.harness import databases

pytestmark = pytest.mark.usefixtures("everywhere")


async def test_a_write_key_may_not_touch_keys(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        headers = await api.key(Scope.WRITE)
        await api.call("GET", "/v1/signing-key", 200, headers=headers)
        await api.call("POST", "/v1/keys", 403, {"name": "x"}, headers=headers)


async def test_a_key_is_invalid_after_its_expiry_and_its_revocation(tmp_path: Path) -> None:
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


async def test_setting_the_clock_back_does_not_prolong_a_revoked_key(tmp_path: Path) -> None:
    """Another process revoked it; the cache of this one expires by the monotonic clock."""
    async with calling(tmp_path) as api:
        headers = await api.key(Scope.READ)
        await api.get("/v1/jobs", headers=headers)
        await api.run(sa.update(api_key).values(revoked_at=api.clock.now()))
        api.clock.advance(4)
        api.clock.set_back(3600)
        await api.get("/v1/jobs", 401, headers=headers)


async def test_an_operator_pass_replaces_a_key_for_a_minute(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        headers = {
            "authorization": "Bearer orc_pass." + api.runtime.keys.mint_pass(api.clock.now())
        }
        await api.get("/v1/keys", headers=headers)
        api.clock.advance(120)
        await api.get("/v1/keys", 401, headers=headers)


async def test_an_internal_error_is_logged_without_the_callers_key_by_any_renderer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An embedding application may not configure structlog, which then prints all variables."""

    async def fail(*_: object) -> None:
        raise ZeroDivisionError

    structlog.reset_defaults()
    async with calling(tmp_path) as api:
        headers = await api.key(Scope.READ)
        with monkeypatch.context() as broken:
            broken.setattr(api.runtime.store, "read", fail)
            await api.get("/v1/jobs", 500, headers=headers)
    written = capsys.readouterr().out
    assert "ZeroDivisionError" in written
    assert headers["authorization"].removeprefix("Bearer ") not in written


async def test_a_safe_request_id_is_kept(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        mine = await api.call("GET", "/v1/nothing", 404, headers={"x-request-id": "My-id_1"})
        assert mine.headers["x-request-id"] == "My-id_1"
        for bad in ("", "a b", "x" * 65, "<script>"):
            minted = await api.call("GET", "/v1/nothing", 404, headers={"x-request-id": bad})
            assert minted.headers["x-request-id"].startswith("req_")


async def test_head_is_get_without_the_body(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        got, head = await api.call("GET", "/v1/jobs", 200), await api.call("HEAD", "/v1/jobs", 200)
        assert head.content == b""
        assert head.headers["content-length"] == got.headers["content-length"]


async def test_probes_need_no_key_and_readiness_needs_a_writable_database(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        key = {"authorization": api.http.headers.pop("authorization")}
        assert await api.get("/healthz") == {"status": "ok"}
        assert (await api.get("/readyz"))["checks"] == [
            {"name": "database", "status": "ok"},
            {"name": "ticks", "status": "ok"},
        ]
        stack = contextlib.ExitStack()
        if api.runtime.store.shared:
            stack.enter_context(databases.read_only(api.runtime.settings.database_url))
        else:
            await api.run(sa.text("PRAGMA query_only = ON"))
        api.clock.advance(2)
        broken = await api.http.get("/readyz")
        assert broken.status_code == 503
        assert broken.headers["retry-after"]
        assert broken.json()["checks"][0] == {"name": "database", "status": "failing"}
        assert await api.get("/healthz") == {"status": "ok"}
        refused = await api.call("POST", "/v1/jobs", 503, BODY, headers=key)
        assert refused.headers["retry-after"]
        await api.get("/v1/jobs", headers=key)
        stack.close()


async def test_a_process_whose_ticks_have_stopped_is_not_ready(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        api.runtime.pulse.beat()
        api.clock.advance(60)
        broken = await api.http.get("/readyz")
        assert broken.status_code == 503
        assert [check["status"] for check in broken.json()["checks"]] == ["ok", "failing"]
        metrics = (await api.call("GET", "/metrics", 200)).text
        (lag,) = re.findall(r"^orchestrator_scheduler_lag_seconds (\S+)", metrics, re.MULTILINE)
        assert float(lag) >= 59
        api.runtime.pulse.beat()
        await api.call("GET", "/readyz", 200)


async def test_an_operator_is_admitted_after_the_clock_was_set(tmp_path: Path) -> None:
    """The command line makes its pass by the clock of the system, and the service keeps its own."""
    async with calling(tmp_path) as api:
        clock = api.runtime.clock
        assert isinstance(clock, DisciplinedClock)
        for behind in (0, 3600):
            own = clock.own.now() - timedelta(seconds=behind)
            operator = OPERATOR_PREFIX + api.runtime.keys.mint_pass(own)
            key = {"authorization": f"Bearer {operator}"}
            await api.call("GET", "/v1/jobs", 401 if behind else 200, headers=key)
        api.clock.wall = lambda: own  # type: ignore[method-assign]
        await api.call("GET", "/v1/jobs", 200, headers=key)


async def test_every_problem_has_a_page(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        problem = await api.get("/v1/nothing", 404)
        page = await api.http.get(problem["type"].removeprefix(api.runtime.base))
        assert page.status_code == 200
        assert (await api.http.get("/errors/none")).status_code == 404


async def test_a_held_account_and_its_queued_jobs_show_why(tmp_path: Path) -> None:
    async with calling(tmp_path, accounts=TWO) as api:
        now = api.clock.now()
        queued, other = await api.open(), await api.open("dream")
        running = await api.open(state=JobState.PROCESSING)
        refusal = Refusal(HoldReason.EXHAUSTED, "the vendor answered 402", probe=False)
        ids, rng = api.runtime.ids, api.runtime.rng
        await api.runtime.store.write(holds.refused, ids, rng, "main", refusal, now)
        held = (await api.get("/v1/accounts/main"))["held"]
        assert (held["reason"], held["message"]) == ("exhausted", "the vendor answered 402")
        assert held["next_check_at"] > held["since"] == rfc3339(now)
        assert (await api.get("/v1/accounts/dream"))["held"] is None
        shown = {job["id"]: job["held"] for job in (await api.get("/v1/jobs"))["data"]}
        assert shown == {queued["id"]: held, other["id"]: None, running["id"]: None}
        assert (await api.get(f"/v1/jobs/{queued['id']}"))["held"] == held


async def test_a_pause_that_is_over_is_not_shown(tmp_path: Path) -> None:
    async with calling(tmp_path, accounts=TWO) as api:
        for seconds, is_shown in ((60, True), (-60, False)):
            until = after(api.clock.now(), seconds)
            await api.run(account_state.update().values(paused_until=until))
            assert bool((await api.get("/v1/accounts/main"))["paused_until"]) is is_shown


async def test_accounts_show_their_state_and_never_their_credentials(tmp_path: Path) -> None:
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
        main = await api.get("/v1/accounts/main")
        wanted = {
            "in_flight",
            "pushes",
            "pushes_missed",
            "polls",
            "last_push_at",
            "paused_until",
            "capabilities",
        }
        assert wanted <= main.keys()
        assert "key" not in str(main)
        await api.get("/v1/accounts/nobody", 404)


async def test_the_signing_key_verifies_deliveries_to_callback_urls(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        assert await api.get("/v1/signing-key") == {
            "object": "signing_key", "secret": api.runtime.keys.callback_secrets[0]
        }  # fmt: skip
