"""Account checks: one free query to every simulated vendor, and what its answer proves."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from orchestrator import schemas
from orchestrator.app import application
from orchestrator.egress.address_policy import AddressPolicy
from orchestrator.egress.http_client import HttpClient
from orchestrator.egress.transport import GuardedTransport
from orchestrator.foundation.clock import SystemClock
from orchestrator.simulator import SimulatedVendors
from orchestrator.simulator.accounts import SIMULATED, account_settings
from orchestrator.vendors import account_check
from orchestrator.vendors.account_check import CheckResult
from orchestrator.vendors.contract import Vendor
from orchestrator.vendors.registry import bind_vendor
from tests.harness import runtime
from tests.harness.api_caller import KEY, Json
from tests.harness.openapi_contract import CONTRACT_HOOKS

EVERY = [name for name, _ in SIMULATED]
AT = datetime(2026, 11, 20, 10, tzinfo=UTC)


async def check_accounts(folder: Path, *settings: tuple[str, Json]) -> list[CheckResult]:
    """Check accounts with these settings over real sockets."""
    given = runtime.settings(folder, accounts=dict(settings), allow_private=["127.0.0.0/8"])
    client = HttpClient(GuardedTransport(AddressPolicy(given.allow_private)))
    vendors = [bind_vendor(account, SystemClock()) for account in given.accounts.values()]
    checks = (account_check.check_account(vendor, client, SystemClock()) for vendor in vendors)
    try:
        return [*await asyncio.gather(*checks)]
    finally:
        await client.aclose()


def outcomes(found: list[CheckResult]) -> dict[str, tuple[bool, bool | None]]:
    return {result.account: (result.reachable, result.authorized) for result in found}


async def test_every_vendor_proves_that_good_credentials_are_accepted(tmp_path: Path) -> None:
    async with SimulatedVendors() as world:
        found = await check_accounts(
            tmp_path, *((name, account_settings(world.base_url, name)) for name in EVERY)
        )
        assert outcomes(found) == dict.fromkeys(EVERY, (True, True))
        assert not world.renders, "nothing was ordered"
        assert not world.violations, "its document allows the query"
    assert all(result.latency_ms is not None and result.latency_ms < 5000 for result in found)


async def test_every_vendor_proves_that_bad_credentials_are_refused(tmp_path: Path) -> None:
    async with SimulatedVendors() as world:
        wrong = []
        for name in EVERY:
            settings = account_settings(world.base_url, name)
            fault = "secret_key" if "secret_key" in settings else "api_key"
            wrong.append((name, settings | {fault: "not-" + "the-key" * 5}))
        found = await check_accounts(tmp_path, *wrong)
    assert outcomes(found) == dict.fromkeys(EVERY, (True, False))
    assert all(result.status == 401 and result.vendor_message for result in found)
    assert "not-the-key" not in str(found)


async def test_a_wrong_base_url_proves_nothing_about_the_credentials(tmp_path: Path) -> None:
    async with SimulatedVendors() as world:
        wrong = []
        for name in EVERY:
            settings = account_settings(world.base_url, name)
            wrong.append((name, settings | {"base_url": f"{settings['base_url']}/v9"}))
        found = await check_accounts(tmp_path, *wrong)
    assert outcomes(found) == dict.fromkeys(EVERY, (True, None))


async def test_an_absent_vendor_is_not_reachable(tmp_path: Path) -> None:
    base = {"vendor": "dreamto", "api_key": "k", "base_url": "http://127.0.0.1:1"}
    inside = base | {"base_url": "http://10.1.2.3"}
    refused, blocked = await check_accounts(tmp_path, ("main", base), ("inside", inside))
    assert (refused.reachable, refused.authorized, refused.status) == (False, None, None)
    assert "127.0.0.1" in refused.detail
    assert not blocked.reachable
    assert "not a public address" in blocked.detail


async def test_a_hanging_vendor_runs_into_the_deadline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(account_check, "DEADLINE", 0.2)

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        account = {"vendor": "dreamto", "api_key": "k", "base_url": f"http://127.0.0.1:{port}"}
        (found,) = await check_accounts(tmp_path, ("main", account))
    assert not found.reachable
    assert "no answer within 0.2 s" in found.detail


def kling(folder: Path) -> Vendor:
    given = runtime.settings(folder, accounts={"main": {"vendor": "kling", "api_key": "k"}})
    return bind_vendor(given.accounts["main"], SystemClock())


def dreamto(folder: Path) -> Vendor:
    account = {"vendor": "dreamto", "api_key": "k", "base_url": "https://dreamto.test"}
    return bind_vendor(
        runtime.settings(folder, accounts={"main": account}).accounts["main"], SystemClock()
    )


@pytest.mark.parametrize(
    ("bound", "status", "body", "authorized"),
    [
        (kling, 400, {"code": 1201, "message": "Task not found by id/external id"}, True),
        (kling, 401, {"code": 1000, "message": "Authentication failed"}, False),
        (kling, 401, {"code": 1003, "message": "Authorization is not yet valid"}, False),
        (kling, 200, {"code": 1002, "message": "Authorization is invalid"}, False),
        (kling, 429, {"code": 1304, "message": "IP not in whitelist"}, False),
        (kling, 429, {"code": 1101, "message": "Account in arrears"}, True),
        (kling, 429, {"code": 1302, "message": "Rate limit"}, True),
        (kling, 429, None, None),
        (kling, 404, {"code": 1203, "message": "Requested resource does not exist"}, None),
        (kling, 503, {"code": 5001, "message": "Unavailable"}, None),
        (kling, 200, None, None),
        (kling, 302, None, None),
        (kling, 403, None, False),
        (dreamto, 404, {"error": {"message": "job not found"}}, True),
        (dreamto, 410, {"error": {"message": "this task has expired"}}, True),
        (dreamto, 400, {"msg": "找不到该任务"}, True),
        (dreamto, 410, {"error": {"message": "this endpoint is gone"}}, None),
        (dreamto, 404, {"detail": "Not Found"}, None),
        (dreamto, 404, {"error": {"message": "Invalid URL (GET /v1/jobs/1)"}}, None),
        (dreamto, 404, None, None),
        (dreamto, 400, {"error": {"message": "malformed id"}}, True),
        (dreamto, 402, {"error": {"message": "no credit"}}, True),
    ],
)
async def test_what_an_answer_proves_about_the_credentials(
    tmp_path: Path, bound: Any, status: int, body: Any, authorized: bool | None
) -> None:
    answer = httpx.Response(status, json=body) if body else httpx.Response(status, text="<html>")
    client = HttpClient(httpx.MockTransport(lambda _: answer))
    found = await account_check.check_account(bound(tmp_path), client, SystemClock())
    assert (found.reachable, found.authorized, found.status) == (True, authorized, status)
    assert found.detail


async def test_a_wrong_clock_is_part_of_the_result(tmp_path: Path) -> None:
    ahead = format_datetime(SystemClock().now() + timedelta(seconds=90), usegmt=True)
    answer = httpx.Response(
        404, json={"error": {"message": "job not found"}}, headers={"date": ahead}
    )
    found = await account_check.check_account(
        dreamto(tmp_path), HttpClient(httpx.MockTransport(lambda _: answer)), SystemClock()
    )
    assert found.authorized
    assert found.clock_skew_seconds is not None
    assert 88 <= found.clock_skew_seconds <= 91


@pytest.mark.parametrize(
    ("ahead", "skew"), [(0, 0), (0.9, 0), (-0.9, 0), (45, 45), (-45, -45), (3600, 3600)]
)
def test_the_clock_skew_is_measured_to_whole_seconds(ahead: float, skew: float) -> None:
    date = format_datetime((AT + timedelta(seconds=ahead)).replace(microsecond=0), usegmt=True)
    found = account_check.skew({"date": date}, AT, 0.2)
    assert found is not None
    assert abs(found - skew) <= 1
    assert account_check.skew({"date": "soon"}, AT, 0.2) is None
    assert account_check.skew({}, AT, 0.2) is None


async def test_the_api_queries_a_vendor_once_for_concurrent_checks(tmp_path: Path) -> None:
    async with runtime.open_harness(tmp_path, api_keys=[KEY]) as h:
        h.network.answer = lambda _: httpx.Response(
            400, json={"code": 1201, "message": "Task not found by id"}
        )
        transport = httpx.ASGITransport(application(h.runtime))
        headers = {"authorization": f"Bearer {KEY}"}
        async with httpx.AsyncClient(
            transport=transport, base_url="http://test", headers=headers, event_hooks=CONTRACT_HOOKS
        ) as http:
            answers = await asyncio.gather(
                *(http.post("/v1/accounts/main/check") for _ in range(5))
            )
            assert [answer.status_code for answer in answers] == [200] * 5
            assert len(h.network.requests) == 1
            shown = schemas.AccountCheck.model_validate(answers[0].json())
            assert (shown.account, shown.authorized, shown.vendor_code) == ("main", True, 1201)
            h.clock.advance(6)
            await http.post("/v1/accounts/main/check")
            assert len(h.network.requests) == 2
            assert (await http.post("/v1/accounts/unknown/check")).status_code == 404
            assert (await http.post("/v1/accounts/main/check", json={"a": 1})).status_code == 422
            assert (await http.get("/v1/accounts/main/check")).status_code == 405
