"""The list of jobs: filters, search by any id, and what each job came to."""

from __future__ import annotations

from starlette.responses import Response

from orchestrator.dashboard import files
from orchestrator.dashboard.api_calls import Json
from orchestrator.dashboard.findings import Finding, stopped
from orchestrator.dashboard.page import Page

_FILTERS = (
    "status", "account", "model", "external_task_id", "vendor_task_id", "resolved_by", "error",
    "metadata", "created_after",
)  # fmt: skip
#: Jobs of a page: each row may have an image.
_LIMIT = "50"
#: Accounts that are looked at for why jobs wait.
_ALL = {"limit": "200"}


async def ls(page: Page) -> Response:
    """List jobs, newest first. The id of a job in the search field leads to it."""
    wanted = page.query.get("q", "").strip()
    if wanted.startswith("job_") and wanted.removeprefix("job_").isalnum():
        return page.go(f"/jobs/{wanted}")
    found = await _found(page, wanted)
    shown = [(job, files.outputs(job), files.pictures(job)) for job in found["data"]]
    return page.render("jobs.html", jobs=found, rows=shown, stops=await _stops(page, found))


async def _stops(page: Page, found: Json) -> dict[str, Finding | None]:
    """Return why queued jobs wait, by account, where that is their account's state."""
    waiting = {job["account"] for job in found["data"] if job["status"] == "queued"}
    now, stops = page.renderer.now(), dict[str, Finding | None].fromkeys(waiting)
    for account in (await page.api.get("/v1/accounts", _ALL))["data"] if waiting else []:
        stops[account["name"]] = stopped(account, now)
    return stops


async def _found(page: Page, wanted: str) -> Json:
    """Return jobs with an external id, or else with a vendor's id; all without either.

    `name=text` is an entry of the metadata.
    """
    if not wanted:
        return await page.list("/v1/jobs", *_FILTERS, limit=_LIMIT)
    if "=" in wanted:
        return await page.list("/v1/jobs", *_FILTERS, limit=_LIMIT, metadata=wanted)
    found = await page.list("/v1/jobs", *_FILTERS, limit=_LIMIT, external_task_id=wanted)
    if found["data"]:
        return found
    return await page.list("/v1/jobs", *_FILTERS, limit=_LIMIT, vendor_task_id=wanted)
