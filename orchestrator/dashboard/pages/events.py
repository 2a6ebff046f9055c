"""Events: the log, and one event with its body and its deliveries."""

from __future__ import annotations

from starlette.responses import Response

from orchestrator.dashboard.page import Page
from orchestrator.foundation.ids import is_id
from orchestrator.foundation.states import EventType

#: Groups of types that are offered besides the types themselves.
_GLOBS = ("job.*", "account.*", "subscriber.*")
_TYPES = (*_GLOBS, *map(str, EventType))


async def ls(page: Page) -> Response:
    """List events, newest first; an id in the search field leads to its event."""
    if is_id(wanted := page.query.get("job", "").strip(), "evt"):
        return page.go(f"/events/{wanted}")
    events = await page.list("/v1/events", "type", "job", limit="30")
    return page.render("events.html", events=events, types=_TYPES)


async def show(page: Page) -> Response:
    """Show one event: the body that is sent, and to whom it was."""
    event = await page.api.get(f"/v1/events/{page.id()}")
    deliveries = await page.api.get("/v1/deliveries", {"event": event["id"], "limit": 100})
    return page.render("event.html", event=event, deliveries=deliveries)


async def replay(page: Page) -> Response:
    """Send an event again to every subscriber that is owed it."""
    back = f"/events/{page.id()}"
    return await page.act(f"/v1/events/{page.id()}/replay", back, "event.replay.done", {})
