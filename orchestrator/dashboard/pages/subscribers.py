"""Subscribers: the list with the hosts of callback URLs, one with its health, and what it can do.

A secret is in the answer to the form that made it, and on no other page.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

from starlette.responses import Response

from orchestrator.dashboard.api_calls import ApiProblem, Json
from orchestrator.dashboard.delivery_faults import fault_of
from orchestrator.dashboard.fields import number, pairs, words
from orchestrator.dashboard.page import Page
from orchestrator.dashboard.receiver_health import any_moving, health_of
from orchestrator.foundation.states import SubscriberState

#: The lists of the page by the value of the filter `callbacks`: subscribers, hosts of callbacks.
_LISTS = {"false": ("false",), "true": ("true",)}
_NEWEST = 50
#: Held deliveries that are counted.
_HELD = 200
_PLAIN = ("test", "pause", "resume")
_FIELDS = (
    "url", "kind", "types", "description", "max_in_flight", "rate_limit", "headers", "options",
)  # fmt: skip
_NOT_ALLOWED = {"title": "Forbidden", "detail": "a new subscriber needs a key of the scope write"}


async def ls(page: Page) -> Response:
    """List subscribers and the hosts of jobs' callback URLs, newest first, or one of the two."""
    chosen = _LISTS.get(page.query.get("callbacks", ""), ("false", "true"))
    lists = {
        name: await page.list("/v1/subscribers", "failing", callbacks=name, backlog="true")
        for name in chosen
    }
    return page.render("subscribers.html", lists=lists)


async def show(page: Page) -> Response:
    """Show one subscriber, and how its newest deliveries went."""
    receiver = await page.api.get(f"/v1/subscribers/{page.id()}", {"backlog": "true"})
    wanted = {"subscriber": receiver["id"], "limit": _NEWEST}
    newest = await page.api.get("/v1/deliveries", wanted)
    return page.render(
        "subscriber.html",
        receiver=receiver,
        held=await _held(page, receiver),
        deliveries=newest,
        health=health_of(newest["data"]),
        fault_of=fault_of,
        any_moving=any_moving,
    )


async def _held(page: Page, receiver: Json) -> str:
    """Return how many deliveries wait for `resume`, up to `_HELD`: none if it is active."""
    if receiver["status"] == SubscriberState.ACTIVE:
        return "0"
    wanted = {"subscriber": receiver["id"], "status": "held", "limit": _HELD}
    found = await page.api.get("/v1/deliveries", wanted)
    return f"{len(found['data'])}{'+' if found['has_more'] else ''}"


async def act(page: Page) -> Response:
    """Test, pause, resume or delete a subscriber, or give it a new secret."""
    action, receiver = page.id("action"), page.id()
    path, back = f"/v1/subscribers/{receiver}", f"/subscribers/{receiver}"
    if action in _PLAIN:
        return await page.act(f"{path}/{action}", back, f"subscriber.{action}.done")
    if action == "delete":
        await page.api.delete(path)
        return page.go("/subscribers", "subscriber.delete.done")
    if action == "rotate":
        grace = number(page.text("grace_seconds") or "86400")
        rotated = await page.api.post(f"{path}/rotate-secret", {"grace_seconds": grace})
        return page.render("secret.html", receiver=rotated)
    raise ApiProblem(404, {"title": "Not found", "detail": "there is no such action"})


async def new(page: Page) -> Response:
    """Show the form for a new subscriber."""
    if not page.may("write"):
        raise ApiProblem(HTTPStatus.FORBIDDEN, _NOT_ALLOWED)
    return page.render("subscriber_new.html", given={}, problem=None)


async def create(page: Page) -> Response:
    """Create a subscriber, and show its secret; one of an unsigned kind has none."""
    given = {name: text for name in _FIELDS if (text := page.text(name))}
    try:
        made = await page.api.post("/v1/subscribers", _body(given))
    except ApiProblem as error:
        if error.status not in (HTTPStatus.UNPROCESSABLE_ENTITY, HTTPStatus.CONFLICT):
            raise
        return page.render("subscriber_new.html", error.status, given=given, problem=error.document)
    if made.get("secret") is None:
        return page.go(f"/subscribers/{made['id']}", "subscriber.create.done")
    return page.render("secret.html", receiver=made)


def _body(given: Mapping[str, str]) -> Json:
    """Return the body of a new subscriber from the fields of its form."""
    body: Json = {name: given[name] for name in ("url", "kind", "description") if name in given}
    body |= {name: number(given[name]) for name in ("max_in_flight", "rate_limit") if name in given}
    if "types" in given:
        body["types"] = words(given["types"])
    for name, separator in (("headers", ":"), ("options", "=")):
        if name in given:
            body[name] = pairs(given[name], separator)
    return body
