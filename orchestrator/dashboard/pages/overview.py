"""The overview: what is wrong now, in sentences, then the accounts and the newest failures."""

from __future__ import annotations

import asyncio

from starlette.responses import Response

from orchestrator.dashboard.findings import Facts, condition, found
from orchestrator.dashboard.page import Page

#: Entries of a list that are judged.
_MOST = 100
_FAILURES_SHOWN = 10


async def show(page: Page) -> Response:
    """Show what needs attention, accounts, and the newest failures."""
    read, now = page.api.get, page.renderer.now()
    facts = Facts(
        *await asyncio.gather(
            read("/v1/accounts", {"limit": 200}),
            read("/v1/jobs", {"status": "failed,expired", "limit": _MOST}),
            read("/v1/jobs", {"status": "queued", "limit": _MOST}),
            read("/v1/events", {"type": "job.stuck", "limit": _MOST}),
            read("/v1/subscribers", {"limit": 200}),
            read("/v1/subscribers", {"callbacks": "true", "failing": "true", "limit": _MOST}),
            read("/v1/deliveries", {"status": "dead", "limit": _MOST}),
        )
    )
    accounts = facts.accounts["data"]
    return page.render(
        "overview.html",
        findings=found(facts, now),
        accounts=[(row, condition(row, now)) for row in accounts],
        failed=facts.failed["data"][:_FAILURES_SHOWN],
        queued=facts.queued,
        dead=facts.dead,
        in_flight=sum(row["in_flight"] for row in accounts),
        room=sum(row["max_in_flight"] for row in accounts),
    )


async def home(page: Page) -> Response:
    """Lead to the overview: below an address with a slash at its end its links would not hold."""
    return page.go("")
