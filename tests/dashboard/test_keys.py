"""API keys: a new one is shown once, a revoked one is worth nothing, and admins alone see them."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from orchestrator.api.auth.api_keys import Scope
from orchestrator.dashboard.translations import catalogue
from tests.harness.readers import Dashboard, dashboard

_ = catalogue("en").text
NEW = {"name": "<b>shop</b>", "scope": "write"}


@pytest_asyncio.fixture
async def pages(tmp_path: Path) -> AsyncIterator[Dashboard]:
    async with dashboard(tmp_path) as found:
        yield found


async def test_a_new_key_is_shown_once_and_works(pages: Dashboard) -> None:
    given = NEW | {"expires_on": "2026-12-24", "rate_limit": "30"}
    async with pages.reader(Scope.ADMIN) as admin:
        text = await admin.send("/keys", 201, **given)
        (key,) = re.findall(r"orc_[\w-]{40,}", text)
        later = await admin.see("/keys")
        raw = (await admin.http.get("/dashboard/keys")).text
    assert key not in later
    assert "<b>shop" not in raw
    made = (await pages.api.get("/v1/keys"))["data"][0]
    assert made["name"] == NEW["name"]
    assert (made["scope"], made["rate_limit"]) == ("write", 30)
    assert made["expires_at"].startswith("2026-12-24T00:00:00")
    headers = {"authorization": f"Bearer {key}"}
    await pages.api.get("/v1/jobs", headers=headers)


@pytest.mark.parametrize(
    "wrong",
    [{"name": ""}, {"scope": "root"}, {"expires_on": "2020-01-01"}, {"expires_on": "soon"},
     {"rate_limit": "-1"}, {"rate_limit": "\u0663"}],
)  # fmt: skip
async def test_a_form_that_is_refused_keeps_what_was_typed(
    pages: Dashboard, wrong: dict[str, str]
) -> None:
    async with pages.reader(Scope.ADMIN) as admin:
        before = len((await pages.api.get("/v1/keys"))["data"])
        text = await admin.send("/keys", 422, **(NEW | wrong))
        assert _("key.fault") in text
        assert f'value="{(NEW | wrong)["name"]}"' in text
        assert len((await pages.api.get("/v1/keys"))["data"]) == before


async def test_a_revoked_key_is_worth_nothing(pages: Dashboard) -> None:
    made = await pages.api.post("/v1/keys", 201, {"name": "ops", "scope": "read"})
    async with pages.reader(Scope.ADMIN) as admin:
        assert _("notice.key.revoke.done") in await admin.send(f"/keys/{made['id']}/revoke")
        assert _("status.revoked") in await admin.see("/keys")
        await admin.send("/keys/key_nope/revoke", 404)
    await pages.api.get("/v1/jobs", 401, headers={"authorization": f"Bearer {made['key']}"})


@pytest.mark.parametrize("scope", [Scope.READ, Scope.WRITE])
async def test_keys_are_for_admins(pages: Dashboard, scope: Scope) -> None:
    made = await pages.api.post("/v1/keys", 201, {"name": "ops", "scope": "read"})
    async with pages.reader(scope) as reader:
        await reader.see("/keys", 403)
        await reader.send("/keys", 403, **NEW)
        await reader.send(f"/keys/{made['id']}/revoke", 403)
        assert "dashboard/keys" not in await reader.see("/jobs")
    assert (await pages.api.get(f"/v1/keys/{made['id']}"))["revoked_at"] is None
