"""Vendor accounts: the list, and one account with its pushes, latencies, failures and a check."""

from __future__ import annotations

import asyncio
from functools import partial

from starlette.responses import Response

from orchestrator.dashboard import histories
from orchestrator.dashboard.api_calls import Json
from orchestrator.dashboard.findings import (
    ACCOUNT_EVENTS,
    Finding,
    condition,
    of_account,
    refused_count,
    stuck,
    waiting_since,
)
from orchestrator.dashboard.page import Page

#: Queued jobs that are counted, and failed ones that are shown.
_QUEUED, _FAILED = 50, 10
#: Events that are looked at for since when, and for stuck jobs.
_EVENTS = 50


async def ls(page: Page) -> Response:
    """List accounts by name."""
    accounts, now = await page.list("/v1/accounts", limit="200"), page.renderer.now()
    rows = [(row, condition(row, now), refused_count(row)) for row in accounts["data"]]
    return page.render("accounts.html", accounts=accounts, rows=rows)


async def show(page: Page) -> Response:
    """Show one account."""
    return await _shown(page, None)


async def check(page: Page) -> Response:
    """Ask the vendor of an account whether it accepts the credentials, and show what it says."""
    return await _shown(page, await page.api.post(f"/v1/accounts/{page.id('name')}/check"))


async def _shown(page: Page, result: Json | None) -> Response:
    """Return the page of an account, with the result of a check."""
    name = page.id("name")
    account = await page.api.get(f"/v1/accounts/{name}")
    jobs = partial(_jobs, page, name)
    history, failed, queued, findings = await asyncio.gather(
        page.api.get(f"/v1/accounts/{name}/history", {"hours": page.query.get("hours")}),
        jobs("failed,expired", _FAILED),
        jobs("queued", _QUEUED),
        _findings(page, account),
    )
    now = page.renderer.now()
    starts = [begun for job in queued["data"] if (begun := waiting_since(job, now))]
    return page.render(
        "account.html",
        account=account,
        state=condition(account, now),
        findings=findings,
        refused=refused_count(account),
        result=result,
        history=histories.read(history),
        hours=histories.HOURS,
        failed=failed["data"],
        queued=queued,
        oldest=min(starts, default=None),
    )


async def _findings(page: Page, account: Json) -> list[Finding]:
    """Return what is wrong with an account, and the newest job that its vendor lost."""
    events, lost = await asyncio.gather(
        page.api.get("/v1/events", {"type": ACCOUNT_EVENTS, "limit": _EVENTS}),
        page.api.get("/v1/events", {"type": "job.stuck", "limit": _EVENTS}),
    )
    now, mine = page.renderer.now(), account["name"]
    unknown = (one for one in stuck(lost, now) if one.values["account"] == mine)
    return [*of_account(account, now, events["data"]), *unknown]


async def _jobs(page: Page, account: str, status: str, limit: int) -> Json:
    """Return the newest jobs of an account that have one of these statuses."""
    return await page.api.get("/v1/jobs", {"account": account, "status": status, "limit": limit})
