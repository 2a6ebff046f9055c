"""Deliveries: the list, dead letters first, and one delivery with every attempt at it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from orchestrator.dashboard.api_calls import ApiProblem, Json
from orchestrator.dashboard.delivery_faults import fault_of
from orchestrator.dashboard.page import Page
from orchestrator.dashboard.receiver_health import any_moving

_FILTERS = ("status", "subscriber", "event")
#: Fields of an event in the log that are not in the body that is sent.
_OF_THE_LOG = ("object", "job", "source")


async def ls(page: Page) -> Response:
    """List deliveries, newest first; without a filter the newest dead ones stand before all."""
    found = await page.list("/v1/deliveries", *_FILTERS)
    dead: Json | None = None
    if not page.query.keys() & {*_FILTERS, "after"}:
        dead = await page.list("/v1/deliveries", status="dead", limit="10")
    return page.render("deliveries.html", deliveries=found, dead=dead, fault_of=fault_of)


async def show(page: Page) -> Response:
    """Show one delivery: what is sent to whom, each attempt, and how its signature is checked."""
    delivery = await page.api.get(f"/v1/deliveries/{page.id()}")
    event = await page.api.get(f"/v1/events/{delivery['event']}")
    receiver = await receiver_of(page, delivery)
    return page.render(
        "delivery.html",
        delivery=delivery,
        body=body_of(event),
        receiver=receiver,
        fault_of=fault_of,
        any_moving=any_moving,
    )


async def receiver_of(page: Page, delivery: Mapping[str, Any]) -> Json | None:
    """Return the subscriber of a delivery, or None if it was deleted."""
    try:
        return await page.api.get(f"/v1/subscribers/{delivery['subscriber']}")
    except ApiProblem as error:
        if error.status != 404:
            raise
        return None


def body_of(event: Json) -> Json:
    """Return the body that subscribers get of an event in the log."""
    return {name: value for name, value in event.items() if name not in _OF_THE_LOG}


async def resend(page: Page) -> Response:
    """Make one attempt now."""
    delivery = page.id()
    return await page.act(
        f"/v1/deliveries/{delivery}/retry", f"/deliveries/{delivery}", "delivery.resend.done"
    )
