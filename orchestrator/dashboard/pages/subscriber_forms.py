"""The forms of a new subscriber and of a change.

A form that is refused keeps what was typed, secrets included: else they would be lost unnoticed.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

from starlette.responses import Response

from orchestrator.dashboard.api_calls import ApiProblem, Json
from orchestrator.dashboard.page import Page
from orchestrator.dashboard.subscriber_form import change_body, defaults_of, new_body, texts_of

_DEFAULT = "webhook"
_NOT_ALLOWED = {"title": "Forbidden", "detail": "subscribers need a key of the scope write"}
#: Problems that the form shows.
_SHOWN = (HTTPStatus.UNPROCESSABLE_ENTITY, HTTPStatus.CONFLICT)


async def new(page: Page) -> Response:
    """Show the form for a new subscriber of the kind in the query."""
    _require_write(page)
    kinds = await _kinds(page)
    return _form(page, kinds, page.query.get("kind", _DEFAULT), {})


async def create(page: Page) -> Response:
    """Create a subscriber, and show its secret; one of an unsigned kind has none."""
    given = _given(page)
    try:
        made = await page.api.post("/v1/subscribers", new_body(given))
    except ApiProblem as error:
        if error.status not in _SHOWN:
            raise
        kinds = await _kinds(page)
        return _form(page, kinds, given.get("kind", _DEFAULT), given, error)
    if made.get("secret") is None:
        return page.go(f"/subscribers/{made['id']}", "subscriber.create.done")
    return page.render("secret.html", receiver=made)


async def edit(page: Page) -> Response:
    """Show the form for a change of a subscriber."""
    _require_write(page)
    receiver = await page.api.get(f"/v1/subscribers/{page.id()}")
    kinds = await _kinds(page)
    defaults = defaults_of(_kind(kinds, receiver["kind"]))
    return _form(page, kinds, receiver["kind"], texts_of(receiver, defaults), receiver=receiver)


async def change(page: Page) -> Response:
    """Change a subscriber: what differs from what it has."""
    path, given = f"/v1/subscribers/{page.id()}", _given(page)
    receiver = await page.api.get(path)
    kinds = await _kinds(page)
    defaults = defaults_of(_kind(kinds, receiver["kind"]))
    try:
        body = change_body(given, texts_of(receiver, defaults))
        changed = await page.api.patch(path, body)
    except ApiProblem as error:
        if error.status not in _SHOWN:
            raise
        return _form(page, kinds, receiver["kind"], given, error, receiver)
    notice = "subscriber.change.dropped" if changed.get("dropped") else "subscriber.change.done"
    return page.go(f"/subscribers/{receiver['id']}", notice)


def _require_write(page: Page) -> None:
    if not page.may("write"):
        raise ApiProblem(HTTPStatus.FORBIDDEN, _NOT_ALLOWED)


def _given(page: Page) -> dict[str, str]:
    """Return the fields of the form that have a text."""
    return {name: text for name in page.form if (text := page.text(name))}


async def _kinds(page: Page) -> list[Json]:
    listed = await page.api.get("/v1/destinations", {"limit": 200})
    kinds: list[Json] = listed["data"]
    return kinds


def _kind(kinds: list[Json], name: str) -> Json:
    """Return a kind; one that is unknown has no fields of its own."""
    unknown = {
        "kind": name, "example": "", "options": {}, "credentials": {}, "installed": True,
        "max_in_flight": None,
    }  # fmt: skip
    return next((one for one in kinds if one["kind"] == name), unknown)


def _form(
    page: Page,
    kinds: list[Json],
    name: str,
    given: Mapping[str, str],
    error: ApiProblem | None = None,
    receiver: Json | None = None,
) -> Response:
    return page.render(
        "subscriber_form.html",
        error.status if error else HTTPStatus.OK,
        kinds=kinds,
        kind=_kind(kinds, name),
        given=given,
        form_problem=error.document if error else None,
        receiver=receiver,
    )
