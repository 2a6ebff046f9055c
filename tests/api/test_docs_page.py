"""`/docs` in a real browser: it shows the API, calls it, and asks no other host for anything."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from tests.harness.api_caller import KEY
from tests.harness.browser import browsing
from tests.harness.live import Live, live

if TYPE_CHECKING:
    from playwright.async_api import Browser

pytestmark = [
    pytest.mark.proof,
    pytest.mark.timeout(300),  # Once, Chromium is installed.
    pytest.mark.asyncio(loop_scope="session"),
]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def service(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Live]:
    async with live(tmp_path_factory.mktemp("service")) as it:
        yield it


@pytest.mark.parametrize("width", [360, 1440])
async def test_all_operations_are_shown(chromium: Browser, service: Live, width: int) -> None:
    described = (await service.outside.get(f"{service.url}/openapi.json")).json()
    async with browsing(chromium, service.url, width=width) as tab:
        await tab.page.goto("/docs")
        await tab.page.locator(".opblock").first.wait_for()
        shown = await tab.page.locator(".opblock [data-path]").evaluate_all(
            "(paths) => paths.map((path) => path.dataset.path)"
        )
        assert set(shown) == described["paths"].keys() | described["webhooks"].keys()
        assert await tab.faults() == []


async def test_a_call_is_tried_out_with_a_key(chromium: Browser, service: Live) -> None:
    async with browsing(chromium, service.url) as tab:
        page = tab.page
        await page.goto("/docs")
        await page.get_by_role("button", name="Authorize").first.click()
        await page.locator(".auth-container input").first.fill(KEY)
        await page.locator(".auth-container button", has_text="Authorize").first.click()
        await page.locator(".btn-done").first.click()
        operation = page.locator(".opblock", has=page.locator('[data-path="/v1/accounts"]'))
        await operation.locator("button").first.click()
        await operation.get_by_role("button", name="Try it out").click()
        await operation.get_by_role("button", name="Execute").click()
        answer = operation.locator(".live-responses-table tr.response .response-col_status").first
        assert (await answer.inner_text()).startswith("200")
        assert await tab.faults() == []
