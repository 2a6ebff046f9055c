"""Signing in, what a session is worth, and whose forms are taken."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
import pytest_asyncio

from orchestrator.api.auth.api_keys import Scope
from orchestrator.dashboard import session
from orchestrator.dashboard.session import COOKIE, LIFE, AddressLimit
from orchestrator.foundation.signing.secret_keys import Keys, Session
from tests.api.test_support import FlowingClock
from tests.harness.readers import ADMIN, Dashboard, dashboard


@pytest_asyncio.fixture
async def pages(tmp_path: Path) -> AsyncIterator[Dashboard]:
    async with dashboard(tmp_path) as found:
        yield found


async def test_a_page_leads_to_the_form_and_the_form_back_to_it(pages: Dashboard) -> None:
    async with pages.reader(None) as reader:
        response = await reader.http.get("/dashboard/jobs?status=failed")
        assert response.status_code == 303
        form = response.next_request
        assert form is not None
        assert form.url.path == "/dashboard/sign-in"
        shown = (await reader.http.get(str(form.url))).text
        assert "<code>write</code>" in shown
        assert f"({urlsplit(pages.api.runtime.base).netloc})" in shown
        back = dict(form.url.params)["next"]
        entered = await reader.http.post("/dashboard/sign-in", data={"key": ADMIN, "next": back})
        assert entered.next_request is not None
        assert entered.next_request.url.raw_path == b"/dashboard/jobs?status=failed"
        cookie = entered.headers["set-cookie"].lower()
        assert {"httponly", "samesite=strict", f"max-age={int(LIFE.total_seconds())}"} <= {
            part.strip() for part in cookie.split(";")
        }
        assert (await reader.http.get("/dashboard/jobs")).status_code == 200


@pytest.mark.parametrize("elsewhere", ["//evil.example", "/\\evil.example", "https://evil.example",
                                       "/../../evil", "/%2e%2e/x",
                                       "/%5cx", "/a\r\nx: y"])  # fmt: skip
async def test_the_form_leads_nowhere_else(pages: Dashboard, elsewhere: str) -> None:
    async with pages.reader(None) as reader:
        form = {"key": ADMIN, "next": elsewhere}
        response = await reader.http.post("/dashboard/sign-in", data=form)
        assert response.headers["location"] == "../dashboard"


@pytest.mark.parametrize("key", ["", "orc_" + "x" * 40, "Bearer " + ADMIN, "opr_x"])
async def test_a_wrong_key_opens_nothing(pages: Dashboard, key: str) -> None:
    async with pages.reader(None) as reader:
        response = await reader.sign_in(key)
        assert response.status_code == 403
        assert "set-cookie" not in response.headers
        assert key == "" or key not in response.text


async def test_attempts_of_an_address_are_limited(pages: Dashboard) -> None:
    async with pages.reader(None) as reader:
        statuses = [(await reader.sign_in("orc_" + "x" * 40)).status_code for _ in range(11)]
        assert statuses == [403] * 10 + [429]
        refused = await reader.sign_in(ADMIN)
        assert refused.status_code == 429
        assert 1 <= int(refused.headers["retry-after"]) <= 6
        pages.api.clock.advance(7)
        assert (await reader.sign_in(ADMIN)).status_code == 303


async def test_a_session_ends_with_its_key(pages: Dashboard) -> None:
    async with pages.reader() as admin:
        made = await pages.api.post("/v1/keys", 201, {"name": "ops", "scope": "read"})
        async with pages.reader(None) as reader:
            await reader.sign_in(made["key"])
            await reader.see("/jobs")
            await pages.api.call("DELETE", f"/v1/keys/{made['id']}", 204)
            pages.api.clock.advance(1)
            assert (await reader.http.get("/dashboard/jobs")).status_code == 303
        await admin.see("/jobs")


@pytest.mark.parametrize("kind", ["forged", "expired", "of other keys", "of no key"])
async def test_a_cookie_that_is_not_ours_opens_nothing(pages: Dashboard, kind: str) -> None:
    runtime = pages.api.runtime
    async with pages.reader() as admin:
        genuine = admin.http.cookies[COOKIE]
        opened = runtime.keys.read_session(genuine, runtime.clock.now())
    later = runtime.clock.now() + timedelta(hours=1)
    cookie = {
        "forged": genuine[:-2] + ("aa" if genuine[-2:] != "aa" else "bb"),
        "expired": runtime.keys.mint_session(opened, runtime.clock.now()),
        "of other keys": Keys(["another secret" * 3]).mint_session(opened, later),
        "of no key": runtime.keys.mint_session(Session("key_0", "n"), later),
    }[kind]
    async with pages.reader(None) as reader:
        reader.http.cookies.set(COOKIE, cookie)
        assert (await reader.http.get("/dashboard/jobs")).status_code == 303


SITES = [
    ({"sec-fetch-site": "cross-site"}, 403),
    ({"sec-fetch-site": "same-site"}, 403),
    ({"sec-fetch-site": "same-origin"}, 303),
    ({"origin": "https://evil.example"}, 403),
    ({"origin": "null"}, 403),
    ({"origin": "https://dashboard.example"}, 303),
    ({}, 303),
]


@pytest.mark.parametrize(("headers", "status"), SITES)
async def test_only_forms_of_our_pages_are_taken(
    pages: Dashboard, headers: dict[str, str], status: int
) -> None:
    job = await pages.api.open()
    async with pages.reader() as admin:
        opened = pages.api.runtime.keys.read_session(
            admin.http.cookies[COOKIE], pages.api.runtime.clock.now()
        )
        token = pages.api.runtime.keys.mint_form(opened)
        where = f"/dashboard/jobs/{job['id']}/cancel"
        sent = await admin.http.post(where, data={"form_token": token}, headers=headers)
        assert sent.status_code == status
        await admin.sign_in(ADMIN)
        for wrong in ("", "x", token[:-1]):
            other = await admin.http.post(where, data={"form_token": wrong})
            assert other.status_code == 403


async def test_signing_out_ends_the_session_of_the_browser(pages: Dashboard) -> None:
    async with pages.reader() as reader:
        await reader.http.post("/dashboard/sign-out", data={})
        assert (await reader.http.get("/dashboard/jobs")).status_code == 303


async def test_a_key_that_may_only_read_changes_nothing(pages: Dashboard) -> None:
    job = await pages.api.open()
    async with pages.reader(Scope.READ) as reader:
        page = await reader.see(f"/jobs/{job['id']}")
        assert "/cancel" not in page
        runtime = pages.api.runtime
        opened = runtime.keys.read_session(reader.http.cookies[COOKIE], runtime.clock.now())
        form = {"form_token": runtime.keys.mint_form(opened)}
        sent = await reader.http.post(f"/dashboard/jobs/{job['id']}/cancel", data=form)
        assert sent.status_code == 403
    assert (await pages.api.get(f"/v1/jobs/{job['id']}"))["status"] != "canceled"


async def test_a_caller_cannot_claim_a_session(pages: Dashboard) -> None:
    transport = httpx.ASGITransport(pages.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://api") as http:
        for headers in ({"orchestrator.caller": "key_0"}, {"cookie": "orchestrator_session=x"}):
            assert (await http.get("/v1/jobs", headers=headers)).status_code == 401


def test_no_address_is_admitted_while_as_many_are_busy_as_are_remembered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(session, "_MAX_ADDRESSES", 2)
    clock = FlowingClock()
    limit = AddressLimit(clock, burst=1, seconds=60.0)
    assert [limit.admit(address) > 0 for address in ("a", "b", "c", "a")] == [
        False, False, True, True
    ]  # fmt: skip
    clock.advance(61)
    assert limit.admit("c") == 0.0
