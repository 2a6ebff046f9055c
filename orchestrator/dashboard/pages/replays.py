"""Replays: the list, one with its progress, and a new one, which is counted before it begins.

A new one sends deliveries again or retries jobs. Both have a form, whose fields are in the URL of
its preview, so that a preview can be shared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus

from starlette.responses import Response

from orchestrator.dashboard.api_calls import ApiProblem, Json
from orchestrator.dashboard.fields import instant, number, words
from orchestrator.dashboard.page import Page


async def ls(page: Page) -> Response:
    """List replays, newest first."""
    return page.render("replays.html", replays=await page.list("/v1/replays", "status"))


async def show(page: Page) -> Response:
    """Show one replay: what it selects, and how far it is."""
    return page.render("replay.html", replay=await page.api.get(f"/v1/replays/{page.id()}"))


async def cancel(page: Page) -> Response:
    """Stop a replay."""
    replay = page.id()
    return await page.act(
        f"/v1/replays/{replay}/cancel", f"/replays/{replay}", "replay.cancel.done"
    )


@dataclass(frozen=True)
class Form:
    """A form for new replays: its fields, its page, and the request that they are."""

    fields: tuple[str, ...]
    template: str
    body: Callable[[Mapping[str, str]], Json]

    async def preview(self, page: Page) -> Response:
        """Show the form with what it would select now: counts and a sample. Changes nothing."""
        given = {name: page.query[name] for name in self.fields if name in page.query}
        try:
            counted = await page.api.post("/v1/replays", {**self.body(given), "dry_run": True})
        except ApiProblem as error:
            return self._again(page, given, error)
        return page.render(self.template, given=given, counted=counted, problem=None)

    async def begin(self, page: Page) -> Response:
        """Begin a replay, and lead to its progress."""
        given = {name: text for name in self.fields if (text := page.text(name))}
        try:
            started = await page.api.post("/v1/replays", self.body(given))
        except ApiProblem as error:
            return self._again(page, given, error)
        return page.go(f"/replays/{started['id']}", "replay.begin.done")

    def _again(self, page: Page, given: Mapping[str, str], error: ApiProblem) -> Response:
        """Return the form with what is wrong with it. Raises the problem if it is no such one."""
        if error.status != HTTPStatus.UNPROCESSABLE_ENTITY:
            raise error
        values = {"given": given, "counted": None, "problem": error.document}
        return page.render(self.template, error.status, **values)


def _resends(given: Mapping[str, str]) -> Json:
    """Return the body of a replay of deliveries, or of events that a subscriber missed."""
    body: Json = {name: given[name] for name in ("subscriber", "event") if name in given}
    body |= {name: instant(given[name]) for name in ("since", "until") if name in given}
    if given.get("missed"):
        body["missed"] = True
    else:
        body["status"] = given.get("status", "dead")
    if types := words(given.get("types", "")):
        body["types"] = types
    return body | _rate(given)


def _retries(given: Mapping[str, str]) -> Json:
    """Return the body of a replay that retries jobs."""
    as_they_are = ("account", "model", "external_task_id", "error", "metadata")
    jobs: Json = {name: given[name] for name in as_they_are if name in given}
    jobs["status"] = words(given.get("status", "failed"))
    if "created_after" in given:
        jobs["created_after"] = instant(given["created_after"])
    if given.get("again"):
        jobs["again"] = True
    return {"jobs": jobs} | _rate(given)


def _rate(given: Mapping[str, str]) -> Json:
    return {"rate": number(given["rate"])} if "rate" in given else {}


RESENDS = Form(
    ("subscriber", "event", "status", "missed", "types", "since", "until", "rate"),
    "replay_new.html",
    _resends,
)
RETRIES = Form(
    (
        "status", "account", "model", "external_task_id", "error", "metadata", "created_after",
        "again", "rate",
    ),
    "retry_new.html",
    _retries,
)  # fmt: skip
