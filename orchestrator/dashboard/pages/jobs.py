"""The list of jobs: filters, search by any id, and what each job came to."""

from __future__ import annotations

from collections import Counter
from http import HTTPStatus

from starlette.responses import Response

from orchestrator.dashboard import files
from orchestrator.dashboard.api_calls import ApiProblem, Json
from orchestrator.dashboard.findings import Finding, stopped
from orchestrator.dashboard.page import Page

_FILTERS = (
    "status", "account", "model", "external_task_id", "vendor_task_id", "resolved_by",
    "fairness_key", "error", "metadata", "created_after",
)  # fmt: skip
#: Jobs of a page: each row may have an image.
_LIMIT = "50"
#: Names of metadata that are offered for a search.
_NAMES = 5
#: Accounts that are looked at for why jobs wait.
_ALL = {"limit": "200"}


async def ls(page: Page) -> Response:
    """List jobs, newest first. The id of a job in the search field leads to it."""
    wanted = page.query.get("q", "").strip()
    if wanted.startswith("job_") and wanted.removeprefix("job_").isalnum():
        return page.go(f"/jobs/{wanted}")
    fault: ApiProblem | None = None
    try:
        found = await _found(page, wanted)
    except ApiProblem as error:
        if error.status != HTTPStatus.UNPROCESSABLE_ENTITY:
            raise
        fault, found = error, {"data": [], "has_more": False}
    shown = [(job, files.outputs(job), files.pictures(job)) for job in found["data"]]
    is_unknown = bool(wanted) and not fault and "=" not in wanted and not found["data"]
    return page.render(
        "jobs.html",
        HTTPStatus.UNPROCESSABLE_ENTITY if fault else HTTPStatus.OK,
        jobs=found,
        rows=shown,
        stops=await _stops(page, found),
        faults=_messages(fault) if fault else [],
        searches=await _searches(page, wanted) if is_unknown else [],
    )


def _messages(fault: ApiProblem) -> list[tuple[str, str]]:
    """Return the parameters that the API refuses, and why."""
    errors = fault.document.get("errors") or [{"pointer": "", "message": str(fault)}]
    return [(one["pointer"].strip("/"), one["message"]) for one in errors]


async def _searches(page: Page, wanted: str) -> list[str]:
    """Return searches for a text in the metadata, by the names that the newest jobs have."""
    newest = await page.api.get("/v1/jobs", {"limit": _LIMIT})
    names = Counter(name for job in newest["data"] for name in job["metadata"])
    return [f"{name}={wanted}" for name, _ in names.most_common(_NAMES)]


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
