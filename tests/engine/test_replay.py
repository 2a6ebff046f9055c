"""Replays over HTTP and the replayer: each delivery that a replay selects is made due once."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from orchestrator.database.bulk import bulk_insert
from orchestrator.database.store import Tx
from orchestrator.database.tables import delivery, event, subscriber
from orchestrator.database.tables import replay as table
from orchestrator.database.tables.rows import ReplayRow
from orchestrator.engine import replay
from orchestrator.engine.replay import Replayer
from orchestrator.engine.retention import Retention
from orchestrator.engine.worker import Worker
from orchestrator.foundation.clock import rfc3339
from orchestrator.foundation.errors import Unavailable
from orchestrator.foundation.states import DeliveryState
from orchestrator.jobs.intake import JobIntake
from tests.api.test_support import calling, in_doubt, subscribed
from tests.engine.test_account_limits import replicas
from tests.harness.api_caller import Json, eventually
from tests.harness.runtime import Harness

pytestmark = pytest.mark.usefixtures("everywhere")

_EVENTS = bulk_insert(event, "id", "sequence", "type", "source", "body", "created_at")
_DELIVERIES = bulk_insert(
    delivery, "id", "event_id", "subscriber_id", "state", "lease", "tries", "created_at", "done_at"
)  # fmt: skip


async def add_events(h: Harness, count: int, kind: str = "job.succeeded") -> list[str]:
    """Write `count` events without deliveries; return their ids."""
    now, ids = h.clock.now(), h.runtime.ids.many("evt", count)
    rows = [
        {
            "id": event_id,
            "sequence": 1,
            "type": kind,
            "source": "push",
            "body": b'{"data":{}}',
            "created_at": now,
        }
        for event_id in ids
    ]
    await h.runtime.store.write(_EVENTS, rows)
    return ids


async def add_deliveries(
    h: Harness, to: str, count: int, kind: str = "job.succeeded", state: str = "dead"
) -> list[str]:
    """Write events, each with a delivery that has ended; return the ids of the deliveries."""
    events, ids, now = (
        await add_events(h, count, kind),
        h.runtime.ids.many("dlv", count),
        h.clock.now(),
    )
    rows = [
        {"id": delivery_id, "event_id": event_id, "subscriber_id": to, "state": state, "lease": 3,
         "tries": 10, "created_at": now, "done_at": now}
        for delivery_id, event_id in zip(ids, events, strict=True)
    ]  # fmt: skip
    await h.runtime.store.write(_DELIVERIES, rows)
    h.clock.advance(0.01)
    return ids


async def due(h: Harness) -> list[str]:
    return [row["id"] for row in await h.rows(delivery, delivery.c.due_at.is_not(None))]


async def work_off(*group: Harness) -> None:
    """Run the stages of all runtimes concurrently until all replays are done."""

    async def work(h: Harness) -> None:
        stage = h.runtime.assemble(Replayer)
        while claimed := await stage.take(1):
            await stage.work(claimed[0])

    await asyncio.gather(*(work(h) for h in group))


async def test_a_dry_run_counts_and_changes_nothing(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        to = (await subscribed(api))["id"]
        await add_deliveries(api, to, 3)
        for path, body in (
            (f"/v1/subscribers/{to}/replay", {}),
            ("/v1/replays", {"subscriber": to}),
        ):
            counted = await api.post(path, 200, body | {"dry_run": True})
            assert (counted["object"], counted["dry_run"], counted["count"]) == ("replay", True, 3)
            assert "id" not in counted
        assert (await due(api), await api.rows(table)) == ([], [])


@pytest.mark.parametrize(("rows", "is_capped"), [(2, False), (4, True)])
async def test_a_count_ends_at_its_cap_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int, is_capped: bool
) -> None:
    for place in ("engine.replay_contract", "schemas.replays"):
        monkeypatch.setattr(f"orchestrator.{place}.COUNT_CAP", 2)
    async with calling(tmp_path) as api:
        to = (await subscribed(api))["id"]
        await add_deliveries(api, to, rows)
        await add_events(api, rows)
        for body in ({"subscriber": to}, {"subscriber": to, "missed": True}):
            counted = await api.post("/v1/replays", 200, body | {"dry_run": True})
            assert (counted["count"], counted["count_is_capped"]) == (2, is_capped), body
            assert [one["count"] for one in counted["subscribers"]] == [2]
            begun = await api.post("/v1/replays", 202, body)
            found = (begun["count"], begun["count_is_capped"], begun["replayed"])
            assert found == (2, is_capped, rows), "all of them are made due"


async def test_a_small_replay_is_done_when_it_is_answered(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        to = (await subscribed(api))["id"]
        ids = await add_deliveries(api, to, 3)
        answer = await api.call("POST", f"/v1/subscribers/{to}/replay", 202)
        made = answer.json()
        assert (made["status"], made["count"], made["replayed"]) == ("done", 3, 3)
        assert await api.get(answer.headers["location"].removeprefix(api.runtime.base)) == made
        assert await due(api) == ids
        assert {row["tries"] for row in await api.rows(delivery)} == {10}


async def test_a_request_with_the_same_idempotency_key_begins_one_replay(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        to = (await subscribed(api))["id"]
        await add_deliveries(api, to, 3)
        body = {"since": "2026-11-19T00:00:00.123456Z", "types": ["job.*"], "rate": 2}
        keyed = {"headers": {"idempotency-key": "k-1"}}
        every = {"subscriber": to, **body}
        first = await api.call("POST", "/v1/replays", 202, every, **keyed)
        assert "idempotent-replayed" not in first.headers
        for path, same in (("/v1/replays", every), (f"/v1/subscribers/{to}/replay", body)):
            again = await api.call("POST", path, 202, same, **keyed)
            assert again.json() == first.json()
            assert again.headers["location"] == first.headers["location"]
            assert again.headers["idempotent-replayed"] == "true"
        others: list[Json] = [{}, every | {"rate": 3}, {"subscriber": to}, {"jobs": {}}]
        for other in others:
            problem = await api.post("/v1/replays", 422, other, **keyed)
            assert problem["code"] == "idempotency_key_reused"
            assert problem["replay_id"] == first.json()["id"]
        assert len(await api.rows(table)) == 1
        await api.post("/v1/replays", 200, {"dry_run": True}, **keyed)
        for headers in ({"idempotency-key": "k-2"}, {}, {}):
            await api.post("/v1/replays", 202, every, headers=headers)
        assert len(await api.rows(table)) == 4


async def test_a_large_replay_is_done_in_slices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "SLICE", 20)
    async with calling(tmp_path) as api:
        to = (await subscribed(api))["id"]
        ids = await add_deliveries(api, to, 70)
        begun = await api.post("/v1/replays", 202, {})
        assert (begun["status"], begun["count"], begun["replayed"], begun["finished_at"]) == (
            "running",
            70,
            20,
            None,
        )
        assert await due(api) == ids[:20]
        await work_off(api)
        ended = await api.get(f"/v1/replays/{begun['id']}")
        assert (ended["status"], ended["replayed"], bool(ended["finished_at"])) == (
            "done",
            70,
            True,
        )
        assert await due(api) == ids
        assert (await api.get("/v1/replays?status=done"))["data"] == [ended]
        assert (await api.get("/v1/replays?status=running"))["data"] == []


async def test_a_delivery_that_dies_after_the_replay_began_is_not_made_due_by_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "SLICE", 20)
    async with calling(tmp_path) as api:
        to = (await subscribed(api))["id"]
        ids, waiting = (
            await add_deliveries(api, to, 50),
            await add_deliveries(api, to, 5, state="pending"),
        )
        await api.post("/v1/replays", 202, {})
        await add_deliveries(api, to, 5)
        made, stage = await due(api), api.runtime.assemble(Replayer)
        again = {"state": "dead", "due_at": None}
        while claimed := await stage.take(1):
            api.clock.advance(1)
            later = sa.update(delivery).where(delivery.c.id.in_([*made, *waiting]))
            await api.run(later.values(**again, done_at=api.clock.now()))
            await stage.work(claimed[0])
            made += await due(api)
        assert sorted(made) == ids


@pytest.mark.parametrize("missed", [False, True])
async def test_a_replay_excludes_events_newer_than_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missed: bool
) -> None:
    monkeypatch.setattr(replay, "SLICE", 20)
    async with calling(tmp_path) as api:
        to = (await subscribed(api))["id"]
        body = {"subscriber": to} | ({"missed": True} if missed else {"status": "pending"})

        async def more(count: int) -> None:
            await (
                add_events(api, count)
                if missed
                else add_deliveries(api, to, count, state="pending")
            )

        await more(30)
        begun = await api.post("/v1/replays", 202, body)
        await more(5)
        await work_off(api)
        assert (await api.get(f"/v1/replays/{begun['id']}"))["replayed"] == begun["count"] == 30


async def test_a_replay_without_a_key_that_is_begun_again_is_itself(h: Harness) -> None:
    """As a writer does when the confirmation of a commit is lost."""
    await add_deliveries(h, await add_subscriber(h), 3)
    ids, intake = h.runtime.ids, h.runtime.assemble(JobIntake)
    for _ in range(2):
        row = replay.new(ids, api_key="key", now=h.clock.now())
        for _ in range(2):
            step = await h.runtime.store.write(replay.begin, intake, row)
            assert (step.row["id"], step.replayed) == (row["id"], False)


@pytest.mark.parametrize("count", [1, 2])
async def test_replicas_that_work_on_a_replay_concurrently_make_each_delivery_due_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr(replay, "SLICE", 10)
    async with replicas(tmp_path, count) as group:
        first = group[0]
        ids = await add_deliveries(first, await add_subscriber(first), 205)
        row = replay.new(first.runtime.ids, api_key="key", now=first.clock.now())
        counted = await first.runtime.store.read(replay.counted, row)
        await first.runtime.store.write(replay.begin, first.runtime.assemble(JobIntake), counted)
        await work_off(*group)
        (ended,) = await first.rows(table)
        assert (ended["state"], ended["counted"], ended["replayed"], ended["due_at"]) == (
            "done",
            205,
            205,
            None,
        )
        assert await due(first) == ids


async def add_subscriber(h: Harness) -> str:
    """Write a subscriber; return its id."""
    to = h.runtime.ids("sub")
    row = {
        "id": to, "kind": "webhook", "address": "", "shown": "", "secrets": [], "types": ["job.*"],
        "description": "", "options": {}, "max_in_flight": 8, "state": "active",
        "created_at": h.clock.now(),
    }  # fmt: skip
    await h.run(sa.insert(subscriber).values(**row))
    return to


async def test_a_slice_that_runs_twice_makes_nothing_due_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "SLICE", 10)
    async with calling(tmp_path) as api:
        ids = await add_deliveries(api, (await subscribed(api))["id"], 45)
        in_doubt(monkeypatch)
        begun = await api.post("/v1/replays", 202, {})
        assert begun["replayed"] == 10
        await work_off(api)
        (row,) = await api.rows(table)
        assert (row["replayed"], await due(api)) == (45, ids)


async def test_a_replay_selects_the_deliveries_of_its_filter(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        first, second = [(await subscribed(api, types=["*"]))["id"] for _ in range(2)]
        (a,) = await add_deliveries(api, first, 1)
        (b,) = await add_deliveries(api, second, 1, "job.failed")
        (c,) = await add_deliveries(api, first, 1, state="delivered")
        api.clock.advance(7200)
        noon = rfc3339(api.clock.now())
        (d,) = await add_deliveries(api, second, 1)
        about = (await api.rows(delivery, delivery.c.id == b))[0]["event_id"]
        wanted: list[tuple[Json, list[str]]] = [
            ({}, [a, b, d]),
            ({"subscriber": first}, [a]),
            ({"status": "delivered"}, [c]),
            ({"status": "held"}, []),
            ({"types": ["*.failed"]}, [b]),
            ({"since": noon}, [d]),
            ({"until": noon}, [a, b]),
            ({"event": about}, [b]),
            ({"event": about, "subscriber": first}, []),
            ({"types": ["job.*"], "subscriber": second, "until": noon}, [b]),
        ]
        reset = sa.update(delivery).values(due_at=None, done_at=None, state="dead")
        for body, ids in wanted:
            assert (await api.post("/v1/replays", 200, body | {"dry_run": True}))["count"] == len(
                ids
            ), body
            made = await api.post("/v1/replays", 202, body)
            assert (made["count"], made["replayed"]) == (len(ids), len(ids)), body
            assert await due(api) == ids, body
            await api.run(reset.where(delivery.c.id != c))
            await api.run(reset.values(state="delivered").where(delivery.c.id == c))


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"subscriber": "sub_x"}, "/subscriber"),
        ({"event": "evt_x"}, "/event"),
        ({"missed": True}, "/subscriber"),
        ({"status": "lost"}, "/status"),
        ({"rate": 0}, "/rate"),
        ({"rate": 1e-12}, "/rate"),
        ({"types": ["job.exploded"]}, "/types/0"),
        ({"since": "yesterday"}, "/since"),
        ({"since": "2026-11-20T10:00:00Z", "until": "2026-11-20T10:59:59+01:00"}, "/until"),
        ({"colour": "red"}, "/colour"),
    ],
)
async def test_a_wrong_filter_is_refused_with_its_pointer(
    tmp_path: Path, body: Json, pointer: str
) -> None:
    async with calling(tmp_path) as api:
        assert (await api.post("/v1/replays", 422, body))["errors"][0]["pointer"] == pointer


async def test_the_first_and_last_years_are_valid_times(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        await add_deliveries(api, (await subscribed(api))["id"], 1)
        span = {"since": "0001-01-01T00:00:00Z", "until": "9999-12-31T23:59:59Z"}
        assert (await api.post("/v1/replays", 202, span))["count"] == 1


async def test_a_replay_of_missed_events_creates_their_deliveries_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a subscriber that came late or has new types. Test events of others are not missed."""
    monkeypatch.setattr(replay, "SLICE", 4)
    async with calling(tmp_path) as api:
        early = await add_events(api, 3)
        api.clock.advance(7200)
        noon, events = rfc3339(api.clock.now()), await add_events(api, 6)
        await add_events(api, 2, "job.failed")
        await add_events(api, 2, "subscriber.test")
        to = (await subscribed(api, types=["job.succeeded", "subscriber.*"]))["id"]
        path = f"/v1/subscribers/{to}/replay"
        await api.post(path, 422, {"missed": True, "status": "dead"})
        assert (await api.post(path, 200, {"missed": True, "dry_run": True}))["count"] == 9
        begun = await api.post(path, 202, {"missed": True, "since": noon})
        assert (begun["count"], begun["filter"]["missed"], begun["filter"]["status"]) == (
            6,
            True,
            None,
        )
        await work_off(api)
        assert (await api.get(f"/v1/replays/{begun['id']}"))["replayed"] == 6
        owed = await api.rows(delivery)
        assert sorted(row["event_id"] for row in owed) == events
        assert {(row["subscriber_id"], row["state"], row["tries"]) for row in owed} == {
            (to, "pending", 0)
        }
        assert (await api.post("/v1/replays", 202, {"subscriber": to, "missed": True}))[
            "count"
        ] == len(early)
        await work_off(api)
        assert (await api.post(path, 202, {"missed": True}))["count"] == 0


async def test_a_replay_to_a_paused_subscriber_is_held_until_it_resumes(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        to = (await subscribed(api))["id"]
        await api.post(f"/v1/subscribers/{to}/pause", 200)
        await add_deliveries(api, to, 2)
        (missed,) = await add_events(api, 1)
        await api.post("/v1/replays", 202, {})
        await api.post(f"/v1/subscribers/{to}/replay", 202, {"missed": True})
        await api.post(f"/v1/events/{missed}/replay", 202)
        assert [(row["state"], row["due_at"]) for row in await api.rows(delivery)] == [
            ("held", None)
        ] * 3
        await api.post(f"/v1/subscribers/{to}/resume", 200)
        assert len(await due(api)) == 3


async def test_an_event_can_be_replayed_to_a_single_subscriber(tmp_path: Path) -> None:
    """For a paused subscriber it is held. A subscriber to other types does not get it."""
    async with calling(tmp_path) as api:
        active, paused, other = [
            await subscribed(api, types=[kind]) for kind in ("job.*", "job.*", "job.failed")
        ]
        await api.post(f"/v1/subscribers/{paused['id']}/pause", 200)
        (event_id,) = await add_events(api, 1)
        path = f"/v1/events/{event_id}/replay"
        for to, count in ((active, 1), (active, 1), (paused, 1), (other, 0)):
            made = await api.post(path, 202, {"subscriber": to["id"]})
            assert (made["subscriber"], made["count"]) == (to["id"], count)
        owed = {row["subscriber_id"]: row["state"] for row in await api.rows(delivery)}
        assert owed == {active["id"]: "pending", paused["id"]: "held"}
        assert (await api.post(path, 202))["count"] == 2
        refused = await api.post(path, 422, {"subscriber": api.runtime.ids("sub")})
        assert refused["errors"][0]["pointer"] == "/subscriber"


async def test_a_deleted_subscribers_deliveries_stay_dead(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        to = (await subscribed(api))["id"]
        await add_deliveries(api, to, 2)
        await api.call("DELETE", f"/v1/subscribers/{to}", 204)
        assert (await api.post("/v1/replays", 202, {}))["count"] == 0
        assert await due(api) == []


async def test_a_canceled_replay_makes_nothing_more_due(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "SLICE", 10)
    async with calling(tmp_path) as api:
        ids = await add_deliveries(api, (await subscribed(api))["id"], 25)
        path = f"/v1/replays/{(await api.post('/v1/replays', 202, {}))['id']}"
        canceled = await api.post(f"{path}/cancel", 200)
        assert (canceled["status"], canceled["replayed"], bool(canceled["finished_at"])) == (
            "canceled",
            10,
            True,
        )
        await work_off(api)
        assert await due(api) == ids[:10]
        await api.post(f"{path}/cancel", 409)
        assert await api.get(path) == canceled
        for missing in (api.runtime.ids("rpl"), "rpl_x", ids[0]):
            await api.get(f"/v1/replays/{missing}", 404)
            await api.post(f"/v1/replays/{missing}/cancel", 404)


async def test_a_replays_rate_is_kept_without_a_tick(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        await add_deliveries(api, (await subscribed(api))["id"], 40)
        worker = Worker("replay", api.runtime.assemble(Replayer), limit=replay.LIMIT)
        api.runtime.notifier.workers["replay"] = worker
        worker.start()
        started = api.clock.monotonic()
        begun = await api.post("/v1/replays", 202, {"rate": 20})
        assert (begun["replayed"], begun["rate"]) == (20, 20)
        path = f"/v1/replays/{begun['id']}"

        async def done() -> bool:
            return bool((await api.get(path))["replayed"] == 40)

        await eventually(done, "the rest is due")
        await worker.stop(5)
        assert 1 <= api.clock.monotonic() - started < 3


async def test_a_slice_that_fails_is_not_retried_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is still due: without a pause it would use a whole processor and fill the log."""

    def fail(*_: object) -> None:
        raise Unavailable("the disk is full")

    async with calling(tmp_path) as api:
        monkeypatch.setattr(replay, "SLICE", 1)
        await add_deliveries(api, (await subscribed(api))["id"], 3)
        await api.post("/v1/replays", 202, {})
        monkeypatch.setattr(replay, "advance", fail)
        stage = api.runtime.assemble(Replayer)
        (found,) = await stage.take(1)
        started = api.clock.monotonic()
        with pytest.raises(Unavailable):
            await stage.work(found)
        assert api.clock.monotonic() - started >= 1


async def test_a_replay_that_cannot_go_on_does_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    advance = replay.advance

    def broken(tx: Tx, intake: JobIntake, replay_id: str, now: datetime) -> Any:
        if replay_id == first["id"]:
            raise ValueError("a filter of another version")
        return advance(tx, intake, replay_id, now)

    async with calling(tmp_path) as api:
        monkeypatch.setattr(replay, "SLICE", 1)
        await add_deliveries(api, (await subscribed(api))["id"], 3)
        first, other = [await api.post("/v1/replays", 202, {}) for _ in range(2)]
        monkeypatch.setattr(replay, "advance", broken)
        stage = api.runtime.assemble(Replayer)
        with pytest.raises(ValueError, match="another version"):
            await stage.work(first["id"])
        assert await stage.take(1) == [other["id"]]
        (row,) = await api.rows(table, table.c.id == first["id"])
        assert 50 < (row["due_at"] - api.clock.now()).total_seconds() <= 60, "it is tried again"


async def test_a_replay_due_after_the_next_tick_leaves_no_timer(tmp_path: Path) -> None:
    """A host application outlives the service that it embeds."""
    async with calling(tmp_path) as api:
        await add_deliveries(api, (await subscribed(api))["id"], 2)
        await api.post("/v1/replays", 202, {"rate": 0.001})
        stage = api.runtime.assemble(Replayer)
        assert not await stage.take(1)
        assert stage._timer is None


async def test_retention_deletes_old_replays_that_are_done(tmp_path: Path) -> None:
    async with calling(tmp_path) as api:
        done, runs = [(await api.post("/v1/replays", 202, {}))["id"] for _ in range(2)]
        await api.run(
            sa.update(table).where(table.c.id == runs).values(finished_at=None, state="running")
        )
        api.clock.advance(timedelta(days=31).total_seconds())
        await api.runtime.assemble(Retention).run()
        await api.get(f"/v1/replays/{done}", 404)
        await api.get(f"/v1/replays/{runs}")
        assert [row["id"] for row in await api.rows("replay")] == [runs]


async def test_a_slice_reads_its_rows_by_an_index_in_the_order_of_ids(tmp_path: Path) -> None:
    """Nothing is scanned or sorted, of one subscriber or of all.

    Slice and count of dead deliveries use the index of the dead.
    """
    async with calling(tmp_path) as api:
        to = (await subscribed(api))["id"]
        await add_deliveries(api, to, 300, state="delivered")
        await add_deliveries(api, to, 3, state="dead")
        await api.run(sa.text("ANALYZE"))
        intake = api.runtime.assemble(JobIntake)
        states = (DeliveryState.DEAD, DeliveryState.PENDING, DeliveryState.DELIVERED)
        for whose, state in itertools.product((to, None), states):
            row = replay.new(
                api.runtime.ids, api_key="k", now=api.clock.now(), subscriber_id=whose, status=state
            )
            counting, slicing = await api.runtime.store.write(query_plans, intake, row)
            scanned = "(?i)scan delivery|seq scan on delivery|temp b-tree|sort"
            assert not re.search(scanned, slicing), (whose, state, slicing)
            if state is DeliveryState.DEAD:
                assert "ix_delivery_dead" in counting
                assert "ix_delivery_dead" in slicing


async def test_a_slice_of_missed_events_does_not_read_all_deliveries_of_the_subscriber(
    tmp_path: Path,
) -> None:
    """PostgreSQL may hash a subquery: here it would hash all deliveries of the subscriber."""
    async with calling(tmp_path) as api:
        to = (await subscribed(api))["id"]
        await add_deliveries(api, to, 1500, state="delivered")
        await api.run(sa.text("ANALYZE"))
        row = replay.new(
            api.runtime.ids, api_key="key", now=api.clock.now(), subscriber_id=to, missed=True
        )
        intake = api.runtime.assemble(JobIntake)
        plan = (await api.runtime.store.write(query_plans, intake, row, "AS fits"))[0]
        assert re.search("event_id ?=", plan), plan


def query_plans(
    tx: Tx, intake: JobIntake, row: ReplayRow, having: str = "delivery.state"
) -> Sequence[str]:
    """Begin a replay; return the plans of its SELECTs that contain `having`."""
    plans: list[str] = []
    how = "EXPLAIN QUERY PLAN " if tx.dialect.name == "sqlite" else "EXPLAIN "

    def explain(_c: Any, cursor: Any, statement: str, parameters: Any, _x: Any, _m: bool) -> None:
        if statement.startswith("SELECT") and having in statement:
            found = cursor.connection.cursor().execute(how + statement, parameters).fetchall()
            plans.append("\n".join(str(line) for line in found))

    if tx.dialect.name == "postgresql":
        # Otherwise a table this small is scanned.
        tx.execute(sa.text("SET LOCAL enable_seqscan = off"))
    sa.event.listen(tx, "before_cursor_execute", explain)
    replay.begin(tx, intake, replay.counted(tx, row))
    sa.event.remove(tx, "before_cursor_execute", explain)
    return plans
