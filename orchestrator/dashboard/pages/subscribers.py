"""Subscribers: the list with the hosts of callback URLs, one with its health, and what it can do.

A secret is in the answer to the form that made it, and on no other page.
"""

from __future__ import annotations

from starlette.responses import Response

from orchestrator.dashboard.api_calls import ApiProblem, Json
from orchestrator.dashboard.delivery_faults import fault_of
from orchestrator.dashboard.fields import number
from orchestrator.dashboard.page import Page
from orchestrator.dashboard.receiver_health import any_moving, health_of
from orchestrator.foundation.states import SubscriberState

#: The lists of the page by the value of the filter `callbacks`: subscribers, hosts of callbacks.
_LISTS = {"false": ("false",), "true": ("true",)}
_NEWEST = 50
#: Held deliveries that are counted.
_HELD = 200
_PLAIN = ("test", "pause", "resume")


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
