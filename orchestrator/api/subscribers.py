"""Subscribers: created, changed, paused, tested. A secret is shown only when it is created."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field
from starlette.responses import Response

from orchestrator import schemas
from orchestrator.api import subscriber_checks as checks
from orchestrator.api.endpoint import RequestContext, ThingT, or_not_found, reply
from orchestrator.api.fields import Flag
from orchestrator.api.operation import operation, returns
from orchestrator.api.pagination import PageRequest, Query, page_of
from orchestrator.api.requests import Empty, NewSubscriber, Rotation, SubscriberChange
from orchestrator.database.store import Tx
from orchestrator.database.tables.rows import SubscriberRow
from orchestrator.engine.runtime import Runtime
from orchestrator.events import callback_lanes, subscriber_secrets, subscribers
from orchestrator.events.backlog import backlogs
from orchestrator.events.destinations import Destination
from orchestrator.foundation.addresses import canonical
from orchestrator.foundation.errors import Conflict
from orchestrator.foundation.signing.standard_webhooks import new_secret
from orchestrator.foundation.states import SubscriberState
from orchestrator.schemas.base import Json, rfc3339_or_none
from orchestrator.schemas.subscribers import (
    backlog_json,
    callback_json,
    retry_json,
    subscriber_json,
)

Backlog = Annotated[Flag, Field(description="Count what each is owed, as `backlog`.")]


class SubscriberQuery(PageRequest):
    """`GET /v1/subscribers`."""

    prefix = "sub"

    callbacks: Annotated[
        Flag, Field(description="The hosts of jobs' callback URLs instead: of kind `callback`.")
    ] = False
    failing: Annotated[Flag, Field(description="Only those that fail now.")] = False
    backlog: Backlog = False


class OneQuery(Query):
    """`GET /v1/subscribers/{id}`."""

    backlog: Backlog = False


@operation(
    "Create a subscriber",
    responses={201: returns(schemas.NewSubscriber, "Location")},
    problems=("limit_reached",),
)
async def create(context: RequestContext, body: NewSubscriber) -> Response:
    """Its secret is shown only here."""
    runtime = context.runtime
    destination, url = checks.choose(runtime.destinations, body.kind, body.url)
    checks.check_address(runtime.address_policy, destination, url)
    checks.check_options(destination, body.options)
    checks.check_credentials(destination, body.credentials)
    checks.check_installed(destination)
    given = body.model_dump(exclude={"kind"}) | {"url": url}
    if body.max_in_flight is None:
        given["max_in_flight"] = destination.max_in_flight
    row, secret = subscribers.new(
        runtime.ids,
        runtime.keys,
        destination=destination,
        now=runtime.clock.now(),
        api_key=context.caller.id,
        **given,
    )
    hashes = runtime.keys.hashes(canonical(url))
    await runtime.store.write(subscribers.add_within, row, _limits(runtime), hashes)
    shown = _json(runtime, row) | ({"secret": secret} if secret else {})
    return reply(shown, 201, {"location": f"{runtime.base}/v1/subscribers/{row['id']}"})


def _limits(runtime: Runtime) -> subscribers.Limits:
    settings = runtime.settings
    return subscribers.Limits(settings.subscribers_per_key, settings.subscribers_per_address)


def _json(runtime: Runtime, row: SubscriberRow) -> Json:
    """Return a subscriber as JSON, with the names of its credentials and its policy in force."""
    names = subscriber_secrets.credential_names(runtime.keys, row)
    return subscriber_json(row) | {"credentials": names, **_in_force(runtime, row)}


def _in_force(runtime: Runtime, row: SubscriberRow) -> Json:
    policy = runtime.settings.delivery.policy.overridden(row["retry"])
    return {"retry_in_force": retry_json(policy)}


@operation("List subscribers", responses={200: returns(schemas.Page[schemas.Subscriber], "Link")})
async def ls(context: RequestContext, query: SubscriberQuery) -> Response:
    """Newest first."""
    shown = await context.runtime.store.read(_select, context.runtime, query)
    return page_of(context, shown, query, dict)


def _select(tx: Tx, runtime: Runtime, query: SubscriberQuery) -> list[Json]:
    rows = subscribers.listing(
        tx,
        limit=query.limit + 1,
        after=query.after,
        callbacks=query.callbacks,
        failing=query.failing,
    )
    return _shown(tx, runtime, rows, query.backlog)


def _shown(tx: Tx, runtime: Runtime, rows: Sequence[SubscriberRow], backlog: bool) -> list[Json]:
    hosts = [row["id"] for row in rows if row["callback_origin"] is not None]
    health = callback_lanes.callback_health(tx, hosts) if hosts else {}
    shown = [
        _json(runtime, row)
        if row["callback_origin"] is None
        else callback_json(row, health.get(row["id"]))
        | {"credentials": [], **_in_force(runtime, row)}
        for row in rows
    ]
    if not backlog:
        return shown
    owed = backlogs(tx, [row["id"] for row in rows])
    return [one | {"backlog": backlog_json(owed[one["id"]])} for one in shown]


@operation("Get a subscriber", responses={200: schemas.Subscriber})
async def show(context: RequestContext, query: OneQuery) -> Response:
    """Its address is masked where it is secret; headers and credentials are never shown.

    `credentials` has the names of those that are set.
    """
    runtime, subscriber_id = context.runtime, context.id("sub")
    shown = await runtime.store.read(_find, runtime, subscriber_id, query.backlog)
    return reply(or_not_found(shown, "subscriber"))


def _find(tx: Tx, runtime: Runtime, subscriber_id: str, backlog: bool) -> Json | None:
    row = subscribers.find(tx, subscriber_id)
    return None if row is None else _shown(tx, runtime, [row], backlog)[0]


async def _row(context: RequestContext) -> SubscriberRow:
    row = await context.runtime.store.read(subscribers.get, context.id("sub"))
    return await _changeable(context, row)


async def _changeable(context: RequestContext, found: ThingT | None) -> ThingT:
    """Return what a change found. Raises `NotFound`, and `Conflict` for a host of callback URLs."""
    subscriber_id = context.id("sub")
    host = await context.runtime.store.read(subscribers.find, subscriber_id) if not found else None
    if host is not None:
        raise Conflict("it stands for callback URLs, which jobs give; it cannot be changed")
    return or_not_found(found, "subscriber")


@operation(
    "Change a subscriber",
    responses={200: schemas.ChangedSubscriber},
    problems=("conflict", "limit_reached"),
)
async def change(context: RequestContext, body: SubscriberChange) -> Response:
    """Absent fields stay as they are; `headers`, `options` and `credentials` are replaced whole.

    A `url` with another origin drops the stored `headers` and `credentials`, unless the request
    gives new ones; `dropped` says so. What its kind requires is not dropped but refused.
    """
    row, runtime = await _row(context), context.runtime
    destination = runtime.destinations.get(row["kind"])
    if destination is None:
        raise Conflict(f"subscribers of the kind {row['kind']} are no longer supported")
    given = _checked(runtime, destination, row, body.given())
    url = given.pop("url", None)
    if url is None:
        seen = row["address"] if given.keys() & {"headers", "credentials"} else None
        changed = await runtime.store.write(subscribers.change, row["id"], given, seen)
        return await _response(context, changed)
    moved = await runtime.store.write(
        subscribers.move, runtime.keys, row["id"], destination, url, given, _limits(runtime)
    )
    there, dropped = or_not_found(moved, "subscriber")
    return reply(_json(runtime, there) | ({"dropped": dropped} if dropped else {}))


def _checked(
    runtime: Runtime, destination: Destination, row: SubscriberRow, given: Json
) -> dict[str, Any]:
    """Return the columns of a change, and its `url`. Raises a 422 `Problem`."""
    if "options" in given:
        checks.check_options(destination, given["options"])
    if "url" in given:
        given["url"] = checks.without_prefix(destination, given["url"])
        checks.check_address(runtime.address_policy, destination, given["url"])
    has_moved = "url" in given and not subscriber_secrets.has_origin(
        runtime.keys, row, given["url"]
    )
    if "credentials" in given or has_moved:
        secrets = given.get("credentials", {})
        checks.check_credentials(destination, secrets, has_moved=has_moved)
    for name in {"headers", "credentials"} & given.keys():
        given[name] = subscriber_secrets.encrypted(runtime.keys, given[name])
    return given


async def _response(context: RequestContext, row: SubscriberRow | None) -> Response:
    """Return a subscriber as a response. Raises `NotFound` or `Conflict` for None."""
    return reply(_json(context.runtime, await _changeable(context, row)))


@operation("Delete a subscriber", responses={204: None}, problems=("conflict",))
async def remove(context: RequestContext) -> Response:
    """Its pending deliveries become dead."""
    runtime = context.runtime
    now = runtime.clock.now()
    known = await runtime.store.write(subscribers.remove, context.id("sub"), now)
    await _changeable(context, known or None)
    return Response(status_code=204)


@operation("Test a subscriber", responses={202: schemas.TestEvent}, problems=("conflict",))
async def test(context: RequestContext, body: Empty) -> Response:
    """Send an event, `subscriber.test`, to it alone."""
    runtime, to = context.runtime, context.id("sub")
    event_id, now = runtime.ids("evt"), runtime.clock.now()
    known = await runtime.store.write(subscribers.send_test, runtime.ids, to, event_id, now)
    await _changeable(context, known or None)
    runtime.notifier.wake("deliver")
    links = {"deliveries": f"{runtime.base}/v1/deliveries?event={event_id}"}
    shown = {"object": "event", "id": event_id, "type": "subscriber.test", "links": links}
    return reply(shown, 202)


@operation("Pause a subscriber", responses={200: schemas.Subscriber}, problems=("conflict",))
async def pause(context: RequestContext, body: Empty) -> Response:
    """Its deliveries are held."""
    runtime, state = context.runtime, SubscriberState.PAUSED
    row = await runtime.store.write(subscribers.hold, context.id("sub"), state, None)
    return await _response(context, row)


@operation("Resume a subscriber", responses={200: schemas.Subscriber}, problems=("conflict",))
async def resume(context: RequestContext, body: Empty) -> Response:
    """Held deliveries become due. A disabled subscriber is active again."""
    runtime = context.runtime
    row = await runtime.store.write(subscribers.resume, context.id("sub"), runtime.clock.now())
    response = await _response(context, row)
    runtime.notifier.wake("deliver")
    return response


@operation(
    "Rotate a subscriber's secret",
    responses={200: schemas.RotatedSubscriber},
    problems=("conflict",),
)
async def rotate(context: RequestContext, body: Rotation) -> Response:
    """The new secret is shown only here. Both secrets sign until the grace period is over."""
    row, runtime = await _row(context), context.runtime
    secret, now = new_secret(), runtime.clock.now()
    hidden = runtime.keys.encrypt(secret)
    done = await runtime.store.write(subscribers.rotate, row["id"], hidden, body.grace_seconds, now)
    if done is None:
        # Either it has no secret, or it was deleted meanwhile.
        row = await _row(context)
        raise Conflict(f"deliveries to {row['kind']} are not signed, so there is no secret")
    changed, ends = done
    secrets = {"secret": secret, "previous_expires_at": rfc3339_or_none(ends)}
    return reply(_json(runtime, changed) | secrets)
