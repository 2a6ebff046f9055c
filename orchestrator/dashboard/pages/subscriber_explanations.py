"""Whether a subscriber receives an event, and why not: by an id, or by the body of one."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

from starlette.responses import Response

from orchestrator.dashboard.api_calls import ApiProblem, Json
from orchestrator.dashboard.fields import json_value
from orchestrator.dashboard.page import Page

_SHOWN = (HTTPStatus.UNPROCESSABLE_ENTITY, HTTPStatus.NOT_FOUND)


async def show(page: Page) -> Response:
    """Show the form; with an event in the query, the answer too."""
    given = {"event": page.query["event"]} if "event" in page.query else {}
    return await _answered(page, given)


async def ask(page: Page) -> Response:
    """Answer for the event or the body in the form."""
    return await _answered(page, {name: page.text(name) for name in ("event", "body")})


async def _answered(page: Page, given: Mapping[str, str]) -> Response:
    receiver = await page.api.get(f"/v1/subscribers/{page.id()}")
    question: Json = {name: text for name, text in given.items() if text}
    if "body" in question:
        question["body"] = json_value(question["body"])
    answer = problem = None
    status: int = HTTPStatus.OK
    if question:
        try:
            answer = await page.api.post(f"/v1/subscribers/{receiver['id']}/explain", question)
        except ApiProblem as error:
            if error.status not in _SHOWN:
                raise
            problem, status = error.document, error.status
    return page.render(
        "subscriber_explanation.html",
        status,
        receiver=receiver,
        given=given,
        answer=answer,
        problem=problem,
    )
