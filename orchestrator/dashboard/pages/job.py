"""One job: the way it took, what came of it, its retries, and what can be done with it."""

from __future__ import annotations

from http import HTTPStatus

from starlette.responses import Response

from orchestrator.dashboard import files, findings, lanes, sentences
from orchestrator.dashboard.api_calls import Api, ApiProblem, Json
from orchestrator.dashboard.forwarding import Forwarded
from orchestrator.dashboard.job_advice import advice_of
from orchestrator.dashboard.page import Page

#: Entries of a timeline that a page shows; a job with more has a link to the later ones.
_MOST = 200
#: Retries of a job that a page shows, the newest.
_RETRIES = 3
_ACTIONS = ("refresh", "cancel", "retry")


async def show(page: Page) -> Response:
    """Show one job: who reported what, and when, as lanes on a time axis and as a table."""
    return await _shown(page)


async def _shown(page: Page, status: int = HTTPStatus.OK, **notes: object) -> Response:
    """Return the page of the job. `notes` are what an action brought, if it was one."""
    job = await page.api.get(f"/v1/jobs/{page.id()}")
    values = await timeline(page.api, job, page.query.get("after"))
    before, after = await _chain(page, job, values["entries"])
    given = {"link": None, "existing": None, "before": before, "after": after, **notes}
    account = await _account(page, job) if job["status"] == "queued" else None
    given["findings"] = findings.of_job(job, values["entries"], account, page.renderer.now())
    return page.render("job.html", status, **values, **given)


async def _account(page: Page, job: Json) -> Json | None:
    """Return the account that a job waits for; None if it is no longer in the settings."""
    try:
        return await page.api.get(f"/v1/accounts/{job['account']}")
    except ApiProblem as error:
        if error.status != HTTPStatus.NOT_FOUND:
            raise
        return None


async def timeline(api: Api, job: Json, after: str | None) -> Json:
    """Return what the templates of a job need: the job, its entries, its lanes and its files."""
    query = {"limit": _MOST, "after": after}
    history = await api.get(f"/v1/jobs/{job['id']}/timeline", query)
    entries = history["data"]
    return {
        "job": job,
        "history": history,
        "entries": entries,
        "drawing": lanes.drawn(job, entries),
        "sentence": sentences.sentence,
        "links": sentences.links,
        "details": sentences.details,
        "tone": lanes.tone,
        "offset": lanes.offset,
        "advice_of": advice_of,
        "outputs": files.outputs(job),
        "pictures": files.pictures(job),
    }


async def _chain(page: Page, job: Json, entries: list[Json]) -> tuple[list[Json], list[Json]]:
    """Return the job that this one repeats, and the newest of those that repeat it."""
    retries = [
        str(one["job"])
        for one in entries
        if one["kind"] == "operator" and one.get("action") == "retry" and one.get("job")
    ]
    before = await _jobs(page, [job["retry_of"]] if job["retry_of"] else [])
    return before, await _jobs(page, retries[-_RETRIES:])


async def _jobs(page: Page, ids: list[str]) -> list[Json]:
    found = []
    for one in ids:
        try:
            found.append(await page.api.get(f"/v1/jobs/{one}"))
        except ApiProblem as error:
            # Retention deletes jobs one by one.
            if error.status != HTTPStatus.NOT_FOUND:
                raise
    return found


async def output(page: Page) -> Response:
    """Stream a file of the job, also one that needs the account's key at the vendor."""
    return Forwarded(page, f"/v1/jobs/{page.id()}/outputs/{page.id('n')}")


async def act(page: Page) -> Response:
    """Refresh, cancel or retry a job. A retry that exists already is shown instead."""
    action, job = page.id("action"), page.id()
    if action not in _ACTIONS:
        raise ApiProblem(404, {"title": "Not found", "detail": "there is no such action"})
    body = {"again": True} if action == "retry" and page.text("again") else None
    try:
        answer = await page.api.post(f"/v1/jobs/{job}/{action}", body)
    except ApiProblem as error:
        if error.code != "already_retried":
            raise
        return await _shown(page, error.status, existing=error.document["job_id"])
    return page.go(f"/jobs/{answer.get('id', job)}", f"job.{action}.done")


async def share(page: Page) -> Response:
    """Make a link that shows this job to readers without a key, and show it."""
    days = page.text("days")
    body = {"days": int(days)} if days.isdecimal() and len(days) < 6 else {}
    link = await page.api.post(f"/v1/jobs/{page.id()}/share", body)
    return await _shown(page, link=link)


async def replay(page: Page) -> Response:
    """Send one event of the job again, to all that were owed it."""
    await page.api.post(f"/v1/events/{page.id('event')}/replay")
    return page.go(f"/jobs/{page.id()}", "job.replay.done")
