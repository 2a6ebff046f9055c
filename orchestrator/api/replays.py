"""Replays: deliveries made due again in bulk, or one event to all who were owed it."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from starlette.responses import Response

from orchestrator import schemas
from orchestrator.api import problems
from orchestrator.api.endpoint import RequestContext, found, reply
from orchestrator.api.events import find
from orchestrator.api.operation import answer, operation
from orchestrator.api.pagination import PageRequest, Row, listed, newest
from orchestrator.api.requests import Empty, EventReplay, NewReplay, Replay
from orchestrator.database.bulk import insert
from orchestrator.database.store import Tx
from orchestrator.database.tables import delivery, subscriber
from orchestrator.database.tables import replay as table
from orchestrator.engine import replay
from orchestrator.events import subscribers
from orchestrator.events.outbox import matches
from orchestrator.foundation.errors import Conflict
from orchestrator.foundation.ids import Ids
from orchestrator.foundation.states import DeliveryState, EventType, ReplayState, SubscriberState
from orchestrator.schemas.deliveries import replay_json

_STARTED = answer(
    schemas.Replay, "Location", says="Begun; `status` tells whether it is done already"
)
_COUNTED = answer(schemas.ReplayCount, says="Only counted: `dry_run`")


class ReplayQuery(PageRequest):
    """`GET /v1/replays`."""

    prefix = "rpl"

    status: ReplayState | None = None


@operation("Begin a replay", answers={202: _STARTED, 200: _COUNTED})
async def create(call: RequestContext, body: NewReplay) -> Response:
    """Make due again what is in one state, by default dead: of one subscriber or all, of one event or all.

    It is about what there was when it was asked for, each once. A small one is done when it is answered; a large one
    goes on whatever becomes of this process. With `dry_run` it is only counted.
    """
    reads = call.runtime.store.read
    if body.subscriber is not None and await reads(subscribers.get, body.subscriber) is None:
        raise problems.fault(
            "/subscriber",
            "unknown_subscriber",
            "No such subscriber; GET /v1/subscribers lists them",
        )
    if body.event is not None and await reads(find, body.event) is None:
        raise problems.fault("/event", "unknown_event", "No such event; GET /v1/events lists them")
    return await _begun(call, body, body.subscriber, body.event)


@operation("Replay to a subscriber", answers={202: _STARTED, 200: _COUNTED})
async def of_subscriber(call: RequestContext, body: Replay) -> Response:
    """What it did not get, or got, in a span of time; or with `missed` what it was never owed."""
    subscriber_id = call.id("sub")
    found(await call.runtime.store.read(subscribers.get, subscriber_id), "subscriber")
    return await _begun(call, body, subscriber_id, None)


async def _begun(
    call: RequestContext, body: Replay, subscriber_id: str | None, event_id: str | None
) -> Response:
    runtime = call.runtime
    given = body.model_dump(exclude={"subscriber", "event", "dry_run"})
    draft = replay.new(
        runtime.ids,
        api_key=call.caller.id,
        now=runtime.clock.now(),
        subscriber_id=subscriber_id,
        event_id=event_id,
        **given,
    )
    row = await runtime.store.read(replay.counted, draft)
    if body.dry_run:
        return reply(replay_json(row | {"id": None}))
    shown = replay_json(await runtime.store.write(replay.begin, runtime.ids, row))
    runtime.notifier.wake("deliver")
    if shown["status"] == ReplayState.RUNNING:
        runtime.notifier.wake("replay")
    return reply(shown, 202, {"location": f"{runtime.base}/v1/replays/{row['id']}"})


@operation("List replays", answers={200: answer(schemas.Page[schemas.Replay], "Link")})
async def ls(call: RequestContext, query: ReplayQuery) -> Response:
    """Newest first."""
    return listed(call, await call.runtime.store.read(_select, query), query, replay_json)


def _select(tx: Tx, query: ReplayQuery) -> list[Row]:
    chosen = sa.select(table)
    if query.status is not None:
        chosen = chosen.where(table.c.state == query.status)
    return newest(tx, chosen, table.c.id, query)


@operation("Get a replay", answers={200: schemas.Replay})
async def show(call: RequestContext) -> Response:
    """How far it has come."""
    return reply(
        replay_json(found(await call.runtime.store.read(replay.find, call.id("rpl")), "replay"))
    )


@operation("Cancel a replay", answers={200: schemas.Replay}, refuses=("conflict",))
async def cancel(call: RequestContext, body: Empty) -> Response:
    """Make nothing more due. What was made due is delivered."""
    runtime = call.runtime
    row, ended = found(
        await runtime.store.write(replay.cancel, call.id("rpl"), runtime.clock.now()), "replay"
    )
    if not ended:
        raise Conflict(f"{row['id']} is {row['state']}; only a running replay can be canceled")
    return reply(replay_json(row))


@operation("Replay an event", answers={202: schemas.EventReplay})
async def of_event(call: RequestContext, body: EventReplay) -> Response:
    """To everyone who was owed it, and to active subscribers who joined since; or to one of them alone."""
    event_id, runtime = call.id("evt"), call.runtime
    if (
        body.subscriber is not None
        and await runtime.store.read(subscribers.get, body.subscriber) is None
    ):
        raise problems.fault(
            "/subscriber",
            "unknown_subscriber",
            "No such subscriber; GET /v1/subscribers lists them",
        )
    count = await runtime.store.write(
        _event, runtime.ids, event_id, body.subscriber, runtime.clock.now()
    )
    found(count, "event")
    runtime.notifier.wake("deliver")
    return reply(
        {"object": "replay", "event": event_id, "subscriber": body.subscriber, "count": count}, 202
    )


def _event(tx: Tx, ids: Ids, event_id: str, only: str | None, now: datetime) -> int | None:
    """Unit of work: owe an event, again or for the first time; return to how many."""
    row = find(tx, event_id)
    if row is None:
        return None
    everyone = sa.select(subscriber.c.id)
    active = everyone.where(subscriber.c.state == SubscriberState.ACTIVE)
    _to_newcomers(
        tx, ids, row, active if only is None else everyone.where(subscriber.c.id == only), now
    )
    flows = delivery.c.subscriber_id.in_(active)
    again = {
        "state": sa.case((flows, DeliveryState.PENDING.value), else_=DeliveryState.HELD.value),
        "due_at": sa.case((flows, sa.literal(now, delivery.c.due_at.type)), else_=sa.null()),
        "done_at": None,
    }
    wanted = sa.and_(delivery.c.event_id == event_id, delivery.c.subscriber_id.in_(everyone))
    if only is not None:
        wanted = sa.and_(wanted, delivery.c.subscriber_id == only)
    return tx.execute(sa.update(delivery).where(wanted).values(**again)).rowcount


def _to_newcomers(
    tx: Tx, ids: Ids, event: Row, people: sa.Select[tuple[str]], now: datetime
) -> None:
    """Owe an event to those who want its type and are not owed it yet. A test is for one subscriber alone."""
    standing = people.where(subscriber.c.callback_origin.is_(None)).add_columns(subscriber.c.types)
    fresh = [
        {"id": ids("dlv"), "event_id": event["id"], "subscriber_id": to, "state": DeliveryState.PENDING, "due_at": now,
         "lease": 0, "tries": 0, "created_at": now}
        for to, types in tx.execute(standing)
        if matches(tuple(types), event["type"]) and event["type"] != EventType.TEST
    ]  # fmt: skip
    if fresh:
        tx.execute(insert(tx.dialect.name, delivery).on_conflict_do_nothing(), fresh)
