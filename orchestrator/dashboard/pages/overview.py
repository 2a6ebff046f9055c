"""The overview: what is wrong now, in sentences, then the accounts and the newest failures."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from starlette.responses import Response

from orchestrator.dashboard import histories
from orchestrator.dashboard.findings import ACCOUNT_EVENTS, INGRESS_EVENTS, Facts, condition, found
from orchestrator.dashboard.page import Page

#: Entries of a list that are judged.
_MOST = 50
_FAILURES_SHOWN = 10
#: The lists of `Facts` by name: where each is read.
_LISTS: Mapping[str, tuple[str, dict[str, str | int]]] = {
    "accounts": ("/v1/accounts", {"limit": 200}),
    "failed": ("/v1/jobs", {"status": "failed,expired", "limit": _MOST}),
    "queued": ("/v1/jobs", {"status": "queued", "limit": _MOST}),
    "stuck": ("/v1/events", {"type": "job.stuck", "limit": _MOST}),
    "account_events": ("/v1/events", {"type": ACCOUNT_EVENTS, "limit": _MOST}),
    "ingress": ("/v1/events", {"type": INGRESS_EVENTS, "limit": 1}),
    "subscribers": ("/v1/subscribers", {"limit": 200}),
    "callbacks": ("/v1/subscribers", {"callbacks": "true", "failing": "true", "limit": _MOST}),
    "dead": ("/v1/deliveries", {"status": "dead", "limit": _MOST}),
}


async def show(page: Page) -> Response:
    """Show what needs attention, accounts, who reports results, and the newest failures."""
    query = {"hours": page.query.get("hours")}
    stats, facts = await asyncio.gather(page.api.get("/v1/stats", query), _facts(page))
    now = page.renderer.now()
    accounts = facts.accounts["data"]
    return page.render(
        "overview.html",
        findings=found(facts, now),
        stats=stats,
        history=histories.read(stats),
        hours=histories.HOURS,
        accounts=[(row, condition(row, now)) for row in accounts],
        failed=facts.failed["data"][:_FAILURES_SHOWN],
        in_flight=sum(row["in_flight"] for row in accounts),
        room=sum(row["max_in_flight"] for row in accounts),
    )


async def _facts(page: Page) -> Facts:
    """Return what findings are judged from."""
    read = page.api.get
    lists = await asyncio.gather(*(read(path, query) for path, query in _LISTS.values()))
    facts = dict(zip(_LISTS, lists, strict=True))
    has_receivers = bool(facts["subscribers"]["data"] or facts["callbacks"]["data"])
    if not has_receivers:
        hosts = await read("/v1/subscribers", {"callbacks": "true", "limit": 1})
        has_receivers = bool(hosts["data"])
    return Facts(**facts, has_receivers=has_receivers)


async def home(page: Page) -> Response:
    """Lead to the overview: below an address with a slash at its end its links would not hold."""
    return page.go("")
