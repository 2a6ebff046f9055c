"""The overview: what is wrong now, in sentences, then numbers."""

from __future__ import annotations

from starlette.responses import Response

from orchestrator.dashboard.page import Page


async def show(page: Page) -> Response:
    """Show what needs attention, accounts, and the newest failures."""
    accounts = await page.api.get("/v1/accounts")
    failed = await page.api.get("/v1/jobs", {"status": "failed,expired", "limit": 10})
    dead = await page.api.get("/v1/deliveries", {"status": "dead", "limit": 10})
    return page.render(
        "overview.html", accounts=accounts["data"], failed=failed["data"], dead=dead["data"]
    )


async def home(page: Page) -> Response:
    """Lead to the overview: below an address with a slash at its end its links would not hold."""
    return page.go("")
