"""Subscribers: no delivery is lost while one is held, and all secrets are stored encrypted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest
import sqlalchemy as sa

from orchestrator.database.store import Tx
from orchestrator.database.tables import delivery, event, metadata, subscriber
from orchestrator.database.tables.rows import SubscriberRow
from orchestrator.events import destinations, subscribers
from orchestrator.events.callback_lanes import callback_lane
from orchestrator.events.outbox import NewEvent, publish
from orchestrator.foundation.clock import SystemClock
from orchestrator.foundation.ids import Ids
from orchestrator.foundation.signing.secret_keys import Keys
from orchestrator.foundation.states import EventType, Source, SubscriberState
from tests.api.test_support import calling, in_doubt, subscribed
from tests.harness.runtime import Harness

NOW = datetime(2026, 11, 20, 10, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
IDS = Ids(SystemClock(), Random(1))
KEYS = Keys(["k" * 32])
KINDS = destinations.load()


@pytest.fixture
def tx() -> Iterator[Tx]:
    engine = sa.create_engine("sqlite://")
    with engine.begin() as connection:
        metadata.create_all(connection)
        yield connection
    engine.dispose()


def new(kind: str = "webhook", **values: Any) -> tuple[SubscriberRow, str | None]:
    given: dict[str, Any] = {
        "destination": KINDS[kind], "url": "https://my.app/hook?token=t",
        "types": ["job.*", "subscriber.*"], "description": "", "headers": {}, "options": {},
        "rate_limit": None, "max_in_flight": 8, "now": NOW,
    }  # fmt: skip
    return subscribers.new(IDS, KEYS, **(given | values))


def create(tx: Tx, kind: str = "webhook", **values: Any) -> tuple[SubscriberRow, str | None]:
    row, secret = new(kind, **values)
    subscribers.add(tx, row)
    return row, secret


def publish_events(tx: Tx, count: int = 1) -> None:
    publish(tx, IDS, [NewEvent(EventType.JOB_FAILED, Source.CLOCK, {}) for _ in range(count)], NOW)


def owed(tx: Tx, to: str) -> list[tuple[str, datetime | None, str | None]]:
    columns = (delivery.c.state, delivery.c.due_at, delivery.c.last_error)
    rows = tx.execute(
        sa.select(*columns).where(delivery.c.subscriber_id == to).order_by(delivery.c.id)
    )
    return [(state, due, error) for state, due, error in rows]


def test_address_headers_and_secret_are_encrypted(tx: Tx) -> None:
    row, secret = create(tx, headers={"authorization": "Bearer theirs"})
    assert secret is not None
    stored = str(dict(tx.execute(sa.select(subscriber)).mappings().one()) | {"shown": ""})
    assert not any(word in stored for word in (secret, "theirs", "token=t"))
    assert KEYS.decrypt(row["address"]) == "https://my.app/hook?token=t"
    assert KEYS.decrypt(row["secrets"][0]["key"]) == secret
    assert json.loads(KEYS.decrypt(row["headers"] or "")) == {"authorization": "Bearer theirs"}


async def test_a_rerun_unit_adds_one_subscriber_and_keeps_later_changes(h: Harness) -> None:
    row, _ = new()
    await h.runtime.store.write(subscribers.add, row)
    await h.runtime.store.write(subscribers.hold, row["id"], SubscriberState.PAUSED, None)
    await h.runtime.store.write(subscribers.add, row)
    (kept,) = await h.rows(subscriber)
    assert kept == row | {"state": SubscriberState.PAUSED}


@pytest.mark.usefixtures("everywhere")
async def test_a_subscriber_added_by_a_commit_in_doubt_has_the_secret_that_was_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with calling(tmp_path) as api:
        in_doubt(monkeypatch)
        made = await subscribed(api)
        (row,) = await api.rows(subscriber)
        assert (
            row["id"],
            [api.runtime.keys.decrypt(entry["key"]) for entry in row["secrets"]],
        ) == (made["id"], [made["secret"]])


def test_a_secret_address_is_shown_without_its_path(tx: Tx) -> None:
    row, secret = create(tx, "slack", url="https://hooks.slack.com/services/T/B/x")
    assert secret is None
    assert row["secrets"] == []
    assert row["shown"] == "https://hooks.slack.com/…"


def test_the_lanes_of_callback_urls_are_no_subscriptions(tx: Tx) -> None:
    lane = callback_lane(tx, IDS, KEYS, "https://caller.example/x", NOW)
    made = [create(tx)[0]["id"] for _ in range(3)][::-1]
    assert [row["id"] for row in subscribers.listing(tx, limit=2)] == made[:2]
    assert [row["id"] for row in subscribers.listing(tx, limit=9, after=made[1])] == made[2:]
    assert subscribers.get(tx, lane) is None
    assert not subscribers.remove(tx, lane, NOW)


def test_deliveries_are_held_while_paused_and_due_after(tx: Tx) -> None:
    to = create(tx)[0]["id"]
    publish_events(tx)
    paused = subscribers.hold(tx, to, SubscriberState.PAUSED, None)
    assert paused is not None
    assert paused["state"] == "paused"
    publish_events(tx)
    assert owed(tx, to) == [("held", None, None)] * 2
    active = subscribers.resume(tx, to, LATER)
    assert active is not None
    assert active["state"] == "active"
    assert owed(tx, to) == [("pending", LATER, None)] * 2


def test_the_deliveries_of_a_removed_subscriber_are_dead(tx: Tx) -> None:
    to = create(tx)[0]["id"]
    other = create(tx)[0]["id"]
    publish_events(tx)
    assert subscribers.remove(tx, to, NOW)
    assert owed(tx, to) == [("dead", None, "subscriber_deleted")]
    assert owed(tx, other) == [("pending", NOW, None)]
    assert subscribers.get(tx, to) is None
    assert not subscribers.remove(tx, to, NOW)


def test_disabling_publishes_one_event_to_the_others(tx: Tx) -> None:
    to = create(tx)[0]["id"]
    other = create(tx)[0]["id"]
    for _ in range(2):
        subscribers.disable(tx, IDS, to, "it answered 410", NOW)
    (row,) = tx.execute(sa.select(event)).mappings()
    assert row["type"] == "subscriber.disabled"
    data = json.loads(row["body"])["data"]
    assert (data["id"], data["status"], data["disabled_reason"]) == (
        to,
        "disabled",
        "it answered 410",
    )
    assert owed(tx, to) == []
    assert owed(tx, other) == [("pending", NOW, None)]


def test_disabling_an_unknown_subscriber_publishes_nothing(tx: Tx) -> None:
    subscribers.disable(tx, IDS, "sub_none", "x", NOW)
    assert tx.execute(sa.select(event)).first() is None


def test_a_test_event_goes_to_one_subscriber_only(tx: Tx) -> None:
    to = create(tx, types=["job.failed"])[0]["id"]
    other = create(tx, types=["*"])[0]["id"]
    assert subscribers.send_test(tx, IDS, to, IDS("evt"), NOW)
    assert (len(owed(tx, to)), owed(tx, other)) == (1, [])
    assert not subscribers.send_test(tx, IDS, "sub_none", IDS("evt"), NOW)


@pytest.mark.usefixtures("everywhere")
async def test_a_test_by_a_commit_in_doubt_publishes_one_event(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with calling(tmp_path) as api:
        made = await subscribed(api)
        in_doubt(monkeypatch)
        sent = await api.post(f"/v1/subscribers/{made['id']}/test", 202)
        assert [row["id"] for row in await api.rows(event)] == [sent["id"]]
        assert [row["event_id"] for row in await api.rows(delivery)] == [sent["id"]]


@pytest.mark.usefixtures("everywhere")
async def test_a_rotation_by_a_commit_in_doubt_adds_one_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with calling(tmp_path) as api:
        made = await subscribed(api)
        in_doubt(monkeypatch)
        rotated = await api.post(f"/v1/subscribers/{made['id']}/rotate-secret", 200)
        (row,) = await api.rows(subscriber)
        assert [api.runtime.keys.decrypt(entry["key"]) for entry in row["secrets"]] == [
            rotated["secret"],
            made["secret"],
        ]


def test_a_rotation_keeps_the_old_secret_for_the_grace_and_drops_expired_ones(tx: Tx) -> None:
    row, first = create(tx)
    done = subscribers.rotate(tx, row["id"], KEYS.encrypt("second"), 60, NOW)
    assert done is not None
    changed, ends = done
    assert ends == NOW + timedelta(seconds=60)
    assert [KEYS.decrypt(entry["key"]) for entry in changed["secrets"]] == ["second", first]
    assert changed["secrets"][0]["until"] is None
    again = subscribers.rotate(tx, row["id"], KEYS.encrypt("third"), 3600, LATER)
    assert again is not None
    assert [KEYS.decrypt(entry["key"]) for entry in again[0]["secrets"]] == ["third", "second"]


def test_a_kind_without_secrets_cannot_rotate(tx: Tx) -> None:
    to = create(tx, "slack", url="https://s.example/x")[0]["id"]
    assert subscribers.rotate(tx, to, KEYS.encrypt("new"), 60, NOW) is None
