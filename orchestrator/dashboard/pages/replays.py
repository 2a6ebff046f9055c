"""Replays: the list, one with its progress, and a new one, which is counted before it begins."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

from starlette.responses import Response

from orchestrator.dashboard.api_calls import ApiProblem, Json
from orchestrator.dashboard.fields import instant, number, words
from orchestrator.dashboard.page import Page

#: The fields of the form. Those of a preview are in the URL, so it can be sent to somebody else.
FIELDS = ("subscriber", "event", "status", "missed", "types", "since", "until", "rate")
#: Those that `GET /v1/deliveries` takes too: with others, a sample of it would mislead.
_LISTED = {"subscriber", "event", "status"}
_SAMPLE = "10"


async def ls(page: Page) -> Response:
    """List replays, newest first."""
    return page.render("replays.html", replays=await page.list("/v1/replays", "status"))


async def show(page: Page) -> Response:
    """Show one replay: what it selects, and how far it is."""
    return page.render("replay.html", replay=await page.api.get(f"/v1/replays/{page.id()}"))


async def new(page: Page) -> Response:
    """Show the form with what it would select now: a count, and a sample. Changes nothing."""
    given = {name: page.query[name] for name in FIELDS if name in page.query}
    try:
        counted = await page.api.post("/v1/replays", {**selection(given), "dry_run": True})
    except ApiProblem as error:
        return _again(page, given, error)
    sample = await _sample(page, given)
    return page.render("replay_new.html", given=given, counted=counted, sample=sample, problem=None)


async def _sample(page: Page, given: Mapping[str, str]) -> list[Json]:
    """Return the newest deliveries of a selection; none where the list has no such filter."""
    if not given.keys() <= _LISTED | {"rate"}:
        return []
    wanted = {"status": "dead", **given, "limit": _SAMPLE}
    wanted.pop("rate", None)
    found: list[Json] = (await page.api.get("/v1/deliveries", wanted))["data"]
    return found


async def begin(page: Page) -> Response:
    """Begin a replay, and lead to its progress."""
    given = {name: text for name in FIELDS if (text := page.text(name))}
    try:
        started = await page.api.post("/v1/replays", selection(given))
    except ApiProblem as error:
        return _again(page, given, error)
    return page.go(f"/replays/{started['id']}", "replay.begin.done")


async def cancel(page: Page) -> Response:
    """Stop a replay."""
    replay = page.id()
    return await page.act(
        f"/v1/replays/{replay}/cancel", f"/replays/{replay}", "replay.cancel.done"
    )


def selection(given: Mapping[str, str]) -> Json:
    """Return the body of a replay from the fields of its form."""
    body: Json = {name: given[name] for name in ("subscriber", "event") if name in given}
    body |= {name: instant(given[name]) for name in ("since", "until") if name in given}
    if given.get("missed"):
        body["missed"] = True
    else:
        body["status"] = given.get("status", "dead")
    if types := words(given.get("types", "")):
        body["types"] = types
    if "rate" in given:
        body["rate"] = number(given["rate"])
    return body


def _again(page: Page, given: Mapping[str, str], error: ApiProblem) -> Response:
    """Return the form with what is wrong with it. Raises the problem if it is of another kind."""
    if error.status != HTTPStatus.UNPROCESSABLE_ENTITY:
        raise error
    values = {"given": given, "counted": None, "sample": list[Json](), "problem": error.document}
    return page.render("replay_new.html", error.status, **values)
