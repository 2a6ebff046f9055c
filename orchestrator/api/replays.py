"""Replays: deliveries made due again or jobs retried, in bulk; or one event sent again."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import sqlalchemy as sa
from starlette.responses import Response

from orchestrator import schemas
from orchestrator.api import problems
from orchestrator.api.endpoint import RequestContext, or_not_found, reply
from orchestrator.api.events import find_event
from orchestrator.api.idempotency import idempotency_key
from orchestrator.api.operation import ResponseSpec, operation, returns
from orchestrator.api.pagination import PageRequest, page_of
from orchestrator.api.replay_requests import EventReplay, NewReplay, Replay
from orchestrator.api.requests import Empty
from orchestrator.database.bulk import insert
from orchestrator.database.store import Tx
from orchestrator.database.tables import delivery, subscriber
from orchestrator.database.tables import replay as table
from orchestrator.database.tables.rows import EventRow, ReplayRow, fetch
from orchestrator.engine import replay
from orchestrator.engine.runtime import Runtime
from orchestrator.events import subscribers
from orchestrator.events.subscriptions import matches
from orchestrator.foundation.clock import rfc3339
from orchestrator.foundation.errors import Conflict
from orchestrator.foundation.ids import Ids
from orchestrator.foundation.states import DeliveryState, EventType, ReplayState, SubscriberState
from orchestrator.jobs.intake import JobIntake
from orchestrator.schemas.base import Json
from orchestrator.schemas.deliveries import host_of
from orchestrator.schemas.replays import capped, replay_count_json, replay_json

_STARTED = returns(
    schemas.Replay,
    "Location",
    "Idempotent-Replayed",
    description="Started; `status` shows whether it is done already",
)
_COUNTED = returns(schemas.ReplayCount, description="Only counted: `dry_run`")
_RESPONSES: Mapping[int | str, ResponseSpec] = {202: _STARTED, 200: _COUNTED}


class ReplayQuery(PageRequest):
    """`GET /v1/replays`."""

    prefix = "rpl"

    status: ReplayState | None = None


@operation(
    "Begin a replay",
    responses=_RESPONSES,
    problems=("idempotency_key_reused",),
    request_headers=("Idempotency-Key",),
)
async def create(context: RequestContext, body: NewReplay) -> Response:
    """Make deliveries in one state (by default dead) due again: of one subscriber or all, of one
    event or all. Or retry `jobs`: each is a new render to pay for, and of a chain of retries only
    the newest is retried.

    It selects what exists when it is requested, each once. A small replay is done when it is
    answered; a large one continues in the background and survives a restart. With `dry_run` it is
    only counted, with a sample. Repeat a request with its `Idempotency-Key` if no response came.
    """
    runtime = context.runtime
    if body.subscriber is not None:
        await _check_subscriber(runtime, body.subscriber)
    if body.event is not None and await runtime.store.read(find_event, body.event) is None:
        message = "No such event; GET /v1/events lists them"
        raise problems.invalid_field("/event", "unknown_event", message)
    return await _begin(context, body, body.subscriber, body.event)


@operation(
    "Replay to a subscriber",
    responses=_RESPONSES,
    problems=("idempotency_key_reused",),
    request_headers=("Idempotency-Key",),
)
async def of_subscriber(context: RequestContext, body: Replay) -> Response:
    """Deliveries of a time span in one state; with `missed` events that it was never owed."""
    subscriber_id = context.id("sub")
    found = await context.runtime.store.read(subscribers.get, subscriber_id)
    or_not_found(found, "subscriber")
    return await _begin(context, body, subscriber_id, None)


async def _check_subscriber(runtime: Runtime, subscriber_id: str) -> None:
    """Raise a 422 `Problem` for an unknown subscriber."""
    if await runtime.store.read(subscribers.get, subscriber_id) is None:
        message = "No such subscriber; GET /v1/subscribers lists them"
        raise problems.invalid_field("/subscriber", "unknown_subscriber", message)


async def _begin(
    context: RequestContext, body: Replay, subscriber_id: str | None, event_id: str | None
) -> Response:
    runtime = context.runtime
    draft = replay.new(
        runtime.ids,
        api_key=context.caller.id,
        now=runtime.clock.now(),
        subscriber_id=subscriber_id,
        event_id=event_id,
        idempotency_key=idempotency_key(context),
        jobs=body.jobs.stored() if isinstance(body, NewReplay) and body.jobs else None,
        **body.model_dump(exclude={"subscriber", "event", "jobs", "dry_run"}),
    )
    if body.dry_run:
        return reply(await runtime.store.read(_preview, draft))
    counted = await runtime.store.read(replay.counted, draft)
    step = await runtime.store.write(replay.begin, runtime.assemble(JobIntake), counted)
    row = step.row
    headers = {"location": f"{runtime.base}/v1/replays/{row['id']}"}
    if step.replayed:
        return reply(replay_json(row), 202, headers | {"idempotent-replayed": "true"})
    replay.announce(step, runtime.notifier, runtime.metrics)
    if row["state"] == ReplayState.RUNNING:
        runtime.notifier.wake("replay")
    return reply(replay_json(row), 202, headers)


def _preview(tx: Tx, row: ReplayRow) -> Json:
    """Return what a replay would be about. A subscriber is shown with its host."""
    preview = replay.preview(tx, row)
    owners = [share.owner for share in preview.shares]
    known = sa.select(subscriber.c.id, subscriber.c.shown).where(subscriber.c.id.in_(owners))
    hosts = {found.id: host_of(found.shown) for found in tx.execute(known)}
    counted = replay_count_json(preview.row)
    return counted | {
        "renders": 0 if row["jobs"] is None else counted["count"],
        "subscribers": [
            {"subscriber": share.owner, "host": hosts.get(share.owner), "count": capped(share.rows)}
            for share in preview.shares
            if row["jobs"] is None
        ],
        "accounts": [
            {"account": share.owner, "count": capped(share.rows)}
            for share in preview.shares
            if row["jobs"] is not None
        ],
        "sample": [
            {**one._asdict(), "created_at": rfc3339(one.created_at)} for one in preview.sample
        ],
    }


@operation("List replays", responses={200: returns(schemas.Page[schemas.Replay], "Link")})
async def ls(context: RequestContext, query: ReplayQuery) -> Response:
    """Newest first."""
    return page_of(context, await context.runtime.store.read(_select, query), query, replay_json)


def _select(tx: Tx, query: ReplayQuery) -> list[ReplayRow]:
    chosen = sa.select(table).order_by(table.c.id.desc()).limit(query.limit + 1)
    if query.status is not None:
        chosen = chosen.where(table.c.state == query.status)
    if query.after is not None:
        chosen = chosen.where(table.c.id < query.after)
    return fetch(tx, ReplayRow, chosen)


@operation("Get a replay", responses={200: schemas.Replay})
async def show(context: RequestContext) -> Response:
    """Its progress."""
    row = await context.runtime.store.read(replay.find, context.id("rpl"))
    return reply(replay_json(or_not_found(row, "replay")))


@operation("Cancel a replay", responses={200: schemas.Replay}, problems=("conflict",))
async def cancel(context: RequestContext, body: Empty) -> Response:
    """Make nothing more due. Deliveries already due are sent, and jobs already retried go on."""
    runtime = context.runtime
    result = await runtime.store.write(replay.cancel, context.id("rpl"), runtime.clock.now())
    row, ended = or_not_found(result, "replay")
    if not ended:
        raise Conflict(f"{row['id']} is {row['state']}; only a running replay can be canceled")
    return reply(replay_json(row))


@operation("Replay an event", responses={202: schemas.EventReplay})
async def of_event(context: RequestContext, body: EventReplay) -> Response:
    """To every subscriber that was owed it, and to active ones created since; or to one of them."""
    event_id, runtime = context.id("evt"), context.runtime
    if body.subscriber is not None:
        await _check_subscriber(runtime, body.subscriber)
    count = await runtime.store.write(
        _replay_event, runtime.ids, event_id, body.subscriber, runtime.clock.now()
    )
    or_not_found(count, "event")
    runtime.notifier.wake("deliver")
    result = {"object": "replay", "event": event_id, "subscriber": body.subscriber, "count": count}
    return reply(result, 202)


def _replay_event(tx: Tx, ids: Ids, event_id: str, only: str | None, now: datetime) -> int | None:
    """Unit of work: make an event's deliveries due, and create missing ones; return how many.

    None: there is no such event.
    """
    row = find_event(tx, event_id)
    if row is None:
        return None
    every = sa.select(subscriber.c.id)
    active = every.where(subscriber.c.state == SubscriberState.ACTIVE)
    receivers = active if only is None else every.where(subscriber.c.id == only)
    _create_missing(tx, ids, row, receivers, now)
    is_active = delivery.c.subscriber_id.in_(active)
    values = {
        "state": sa.case((is_active, DeliveryState.PENDING.value), else_=DeliveryState.HELD.value),
        "due_at": sa.case((is_active, sa.literal(now, delivery.c.due_at.type)), else_=sa.null()),
        "done_at": None,
    }
    wanted = sa.and_(delivery.c.event_id == event_id, delivery.c.subscriber_id.in_(every))
    if only is not None:
        wanted = sa.and_(wanted, delivery.c.subscriber_id == only)
    return tx.execute(sa.update(delivery).where(wanted).values(**values)).rowcount


def _create_missing(
    tx: Tx, ids: Ids, event: EventRow, receivers: sa.Select[tuple[str]], now: datetime
) -> None:
    """Create deliveries to receivers that want the event's type and have none of it.

    A test event is for one subscriber alone.
    """
    subscribed = receivers.where(subscriber.c.callback_origin.is_(None))
    fresh = [
        {"id": ids("dlv"), "event_id": event["id"], "subscriber_id": subscriber_id,
         "state": DeliveryState.PENDING, "due_at": now, "lease": 0, "tries": 0, "created_at": now}
        for subscriber_id, types in tx.execute(subscribed.add_columns(subscriber.c.types))
        if matches(tuple(types), event["type"]) and event["type"] != EventType.TEST
    ]  # fmt: skip
    if fresh:
        tx.execute(insert(tx.dialect.name, delivery).on_conflict_do_nothing(), fresh)
