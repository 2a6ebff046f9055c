"""Jobs: the list, one job with the way it took, and what can be done with it."""

from __future__ import annotations

from starlette.responses import Response

from orchestrator.dashboard import lanes
from orchestrator.dashboard.api_calls import ApiProblem, Json
from orchestrator.dashboard.page import Page

_FILTERS = ("status", "account", "model", "external_task_id", "resolved_by", "created_after")
#: Entries of a timeline that a page shows; a job with more has a link to the rest.
_MOST = 200


async def ls(page: Page) -> Response:
    """List jobs, newest first; an id in the search field leads to its job."""
    wanted = page.query.get("q", "").strip()
    if wanted.startswith("job_"):
        return page.go(f"/jobs/{wanted}")
    fixed = {"external_task_id": wanted} if wanted else {}
    found = await page.list("/v1/jobs", *_FILTERS, **fixed)
    return page.render("jobs.html", jobs=found)


async def show(page: Page) -> Response:
    """Show one job: who reported what, and when, as lanes on a time axis and as a table."""
    job = await page.api.get(f"/v1/jobs/{page.id()}")
    history = await page.api.get(f"/v1/jobs/{page.id()}/timeline", {"limit": _MOST})
    retries = await _retries(page, job)
    drawing = lanes.drawn(job, history["data"])
    return page.render(
        "job.html", job=job, entries=history["data"], drawing=drawing, retries=retries
    )


async def _retries(page: Page, job: Json) -> list[Json]:
    """Return the job that this one repeats, if there is one."""
    if not job["retry_of"]:
        return []
    try:
        return [await page.api.get(f"/v1/jobs/{job['retry_of']}")]
    except ApiProblem:
        # Retention has deleted it.
        return []


async def act(page: Page) -> Response:
    """Refresh, cancel or retry a job."""
    action, job = page.id("action"), page.id()
    if action not in ("refresh", "cancel", "retry"):
        raise ApiProblem(404, {"title": "Not found", "detail": "there is no such action"})
    body = {"again": True} if action == "retry" and page.text("again") else None
    answer = await page.api.post(f"/v1/jobs/{job}/{action}", body)
    return page.go(f"/jobs/{answer.get('id', job)}", f"job.{action}.done")
