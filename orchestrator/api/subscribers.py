"""Subscribers: made, changed, paused, tried out. A secret is shown once, when it is made."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from starlette.responses import Response

from orchestrator import schemas
from orchestrator.api import problems
from orchestrator.api.endpoint import RequestContext, found, reply
from orchestrator.api.job_submission import checked_url
from orchestrator.api.operation import answer, operation
from orchestrator.api.pagination import PageRequest, listed
from orchestrator.api.requests import Empty, NewSubscriber, Rotation, SubscriberChange
from orchestrator.engine.runtime import Runtime
from orchestrator.events import subscribers
from orchestrator.events.destinations import Destination
from orchestrator.foundation.errors import ConfigError, Conflict
from orchestrator.foundation.signing.standard_webhooks import new_secret
from orchestrator.foundation.states import SubscriberState
from orchestrator.schemas.base import rfc3339_or_none
from orchestrator.schemas.subscribers import subscriber_json


class SubscriberQuery(PageRequest):
    """`GET /v1/subscribers`."""

    prefix = "sub"


@operation("Create a subscriber", answers={201: answer(schemas.NewSubscriber, "Location")})
async def create(call: RequestContext, body: NewSubscriber) -> Response:
    """Its secret is shown here and never again."""
    runtime = call.runtime
    destination = runtime.destinations.get(body.kind)
    if destination is None:
        known = ", ".join(sorted(runtime.destinations))
        raise problems.fault(
            "/kind", "unknown_kind", f"No such kind of destination; there are: {known}"
        )
    _check_address(runtime, destination, body.url)
    _check_options(destination, body.options)
    given = body.model_dump(exclude={"kind"}) | {
        "destination": destination,
        "now": runtime.clock.now(),
    }
    row, secret = subscribers.new(runtime.ids, runtime.keys, **given)
    await runtime.store.write(subscribers.add, row)
    said = subscriber_json(row) | ({"secret": secret} if secret else {})
    return reply(said, 201, {"location": f"{runtime.base}/v1/subscribers/{row['id']}"})


def _check_address(runtime: Runtime, destination: Destination, url: str) -> None:
    checked_url(runtime, "/url", url)
    if destination.secret_address and not (
        url.lower().startswith("https://") or runtime.address_policy.is_internal(url)
    ):
        raise problems.fault(
            "/url", "https_required", f"The address of {destination.kind} is a secret: use https"
        )


def _check_options(destination: Destination, options: Mapping[str, str]) -> None:
    for name, value in options.items():
        try:
            destination.check_options({name: value})
        except ConfigError as error:
            raise problems.fault(f"/options/{name[:64]}", "unknown_option", str(error)) from None


@operation("List subscribers", answers={200: answer(schemas.Page[schemas.Subscriber], "Link")})
async def ls(call: RequestContext, query: SubscriberQuery) -> Response:
    """Newest first."""
    read = partial(subscribers.listing, limit=query.limit + 1, after=query.after)
    return listed(call, await call.runtime.store.read(read), query, subscriber_json)


@operation("Get a subscriber", answers={200: schemas.Subscriber})
async def show(call: RequestContext) -> Response:
    """Its address is shown as far as it is no secret; its headers never are."""
    return reply(subscriber_json(await _row(call)))


async def _row(call: RequestContext) -> Mapping[Any, Any]:
    return found(await call.runtime.store.read(subscribers.get, call.id("sub")), "subscriber")


@operation("Change a subscriber", answers={200: schemas.Subscriber}, refuses=("conflict",))
async def change(call: RequestContext, body: SubscriberChange) -> Response:
    """What is left out stays."""
    given = body.given()
    row, runtime = await _row(call), call.runtime
    destination = runtime.destinations.get(row["kind"])
    if destination is None:
        raise Conflict(f"subscribers of the kind {row['kind']} are supported no more")
    values = {name: value for name, value in given.items() if name not in ("url", "headers")}
    if "url" in given:
        _check_address(runtime, destination, given["url"])
        values |= subscribers.address_columns(runtime.keys, destination, given["url"])
    if "headers" in given:
        values["headers"] = subscribers.encrypted_headers(runtime.keys, given["headers"])
    _check_options(destination, given.get("options", {}))
    return reply(
        subscriber_json(
            found(await runtime.store.write(subscribers.change, row["id"], values), "subscriber")
        )
    )


@operation("Delete a subscriber", answers={204: None})
async def remove(call: RequestContext) -> Response:
    """What it was still owed is dead."""
    runtime = call.runtime
    if not await runtime.store.write(subscribers.remove, call.id("sub"), runtime.clock.now()):
        found(None, "subscriber")
    return Response(status_code=204)


@operation("Test a subscriber", answers={202: schemas.TestEvent})
async def test(call: RequestContext, body: Empty) -> Response:
    """Send an event, `subscriber.test`, to it alone."""
    runtime = call.runtime
    event_id, now = runtime.ids("evt"), runtime.clock.now()
    if not await runtime.store.write(
        subscribers.send_test, runtime.ids, call.id("sub"), event_id, now
    ):
        found(None, "subscriber")
    runtime.notifier.wake("deliver")
    links = {"deliveries": f"{runtime.base}/v1/deliveries?event={event_id}"}
    return reply(
        {"object": "event", "id": event_id, "type": "subscriber.test", "links": links}, 202
    )


@operation("Pause a subscriber", answers={200: schemas.Subscriber})
async def pause(call: RequestContext, body: Empty) -> Response:
    """Its deliveries are held."""
    state = SubscriberState.PAUSED
    row = await call.runtime.store.write(subscribers.hold, call.id("sub"), state, None)
    return reply(subscriber_json(found(row, "subscriber")))


@operation("Resume a subscriber", answers={200: schemas.Subscriber})
async def resume(call: RequestContext, body: Empty) -> Response:
    """What was held flows. One that we disabled is active again."""
    row = await call.runtime.store.write(
        subscribers.resume, call.id("sub"), call.runtime.clock.now()
    )
    shown = subscriber_json(found(row, "subscriber"))
    call.runtime.notifier.wake("deliver")
    return reply(shown)


@operation(
    "Rotate a subscriber's secret", answers={200: schemas.RotatedSubscriber}, refuses=("conflict",)
)
async def rotate(call: RequestContext, body: Rotation) -> Response:
    """The new secret is shown here and never again. Both secrets sign until the grace is over."""
    row, runtime = await _row(call), call.runtime
    secret, now = new_secret(), runtime.clock.now()
    hidden = runtime.keys.encrypt(secret)
    done = await runtime.store.write(subscribers.rotate, row["id"], hidden, body.grace_seconds, now)
    if done is None:
        # Either it has no secret, or it was deleted meanwhile.
        row = await _row(call)
        raise Conflict(f"deliveries to {row['kind']} are not signed, so there is no secret")
    changed, ends = done
    return reply(
        subscriber_json(changed) | {"secret": secret, "previous_expires_at": rfc3339_or_none(ends)}
    )
