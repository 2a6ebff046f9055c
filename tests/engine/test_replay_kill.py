"""Kill -9 in the middle of a bulk replay: the next process goes on exactly there."""

from __future__ import annotations

import random
import signal
from collections import Counter
from pathlib import Path

import httpx
import pytest

from orchestrator.app import build
from orchestrator.database.bulk import bulk_insert
from orchestrator.database.tables import delivery, event
from orchestrator.events import subscribers
from orchestrator.schemas.events import event_body
from orchestrator.simulator import Subscriber
from tests.harness import databases
from tests.harness.api_caller import KEY, Json, eventually
from tests.harness.audit import ServiceDatabase
from tests.harness.processes import Replica
from tests.harness.runtime import settings

pytestmark = pytest.mark.long

#: Dead deliveries; how many of them are made due a second; and attempts at once.
MANY, RATE, PLACES = 2000, 1000, 32

_EVENTS = bulk_insert(event, "id", "sequence", "type", "source", "body", "created_at")
_DELIVERIES = bulk_insert(
    delivery, "id", "event_id", "subscriber_id", "state", "lease", "tries", "created_at", "done_at"
)


async def buried(folder: Path, database: str, url: str) -> tuple[list[str], str]:
    """Leave a subscriber and its dead deliveries in a database; return their events' ids, and the secret."""
    runtime = build(
        settings(folder, database_url=database, secret_keys=["k" * 40]), rng=random.Random(1)
    )
    now, ids, about = (
        runtime.clock.now(),
        runtime.ids.many("dlv", MANY),
        runtime.ids.many("evt", MANY),
    )
    row, secret = subscribers.new(
        runtime.ids, runtime.keys, destination=runtime.destinations["webhook"], url=url, types=["job.*"], description="", headers={},
        options={}, rate_limit=None, max_in_flight=PLACES, now=now,
    )  # fmt: skip
    events = [
        {"id": one, "sequence": 1, "type": "job.succeeded", "source": "push", "created_at": now,
         "body": event_body("job.succeeded", now, one, 1, {"id": one})}
        for one in about
    ]  # fmt: skip
    dead = [
        {"id": one, "event_id": of, "subscriber_id": row["id"], "state": "dead", "lease": 10, "tries": 10,
         "created_at": now, "done_at": now}
        for one, of in zip(ids, about, strict=True)
    ]  # fmt: skip
    runtime.store.start()
    try:
        await runtime.store.write(subscribers.add, row)
        await runtime.store.write(_EVENTS, events)
        await runtime.store.write(_DELIVERIES, dead)
    finally:
        await runtime.submission_client.aclose()
        await runtime.http_client.aclose()
        runtime.store.close()
    assert secret is not None
    return about, secret


@pytest.mark.parametrize("kind", databases.KINDS)
async def test_a_bulk_replay_goes_on_where_its_process_was_killed(
    tmp_path: Path, kind: str
) -> None:
    database = databases.url(kind, tmp_path)
    async with Subscriber() as consumer:
        events, secret = await buried(tmp_path, database, consumer.url)
        consumer.secrets.append(secret)
        it = Replica(tmp_path, {}, database=database)
        headers = {"authorization": f"Bearer {KEY}"}
        try:
            async with httpx.AsyncClient(base_url=it.url, headers=headers, timeout=10) as http:
                await it.start()
                await it.ready(http)
                path = (await http.post("/v1/replays", json={"rate": RATE})).headers["location"]

                async def has_come(far: int) -> Json | None:
                    now: Json = (await http.get(path)).json()
                    return now if now["replayed"] >= far else None

                begun = await eventually(lambda: has_come(MANY // 2), "it is under way")
                await it.stop(signal.SIGKILL)
                assert begun["count"] == MANY > begun["replayed"]
                books = ServiceDatabase(database)
                # What was made due and how far the replay says it has come are one transaction's.
                (row,) = books.rows("SELECT replayed FROM replay")
                assert (
                    MANY
                    > row["replayed"]
                    == MANY - books.count("SELECT state FROM delivery")["dead"]
                )
                await it.start()
                await it.ready(http)
                ended = await eventually(lambda: has_come(MANY), "it is done", 60)
                assert (ended["status"], ended["count"], ended["replayed"]) == ("done", MANY, MANY)

                async def delivered() -> bool:
                    return (
                        len({one.webhook_id for one in consumer.received}) == MANY
                        and not (await http.get("/v1/deliveries?status=pending&limit=1")).json()[
                            "data"
                        ]
                    )

                await eventually(delivered, "all of it is delivered", 60)
        finally:
            if it.child is not None:
                await it.stop()
        heard = Counter(one.webhook_id for one in consumer.received)
        assert heard.keys() == set(events)
        assert all(one.verified for one in consumer.received)
        # Twice came only what was under way when the process died: its word was lost, and at least once is owed.
        assert sum(heard.values()) - MANY <= PLACES
        assert max(heard.values()) <= 2
        # Each delivery was made due once: one more attempt is on record, and it is the one that arrived.
        assert books.count("SELECT state FROM delivery") == {"delivered": MANY}
        tried = books.rows("SELECT n, count(*) AS times FROM attempt GROUP BY n")
        assert [(one["n"], one["times"]) for one in tried] == [(11, MANY)]
        assert books.count("SELECT tries FROM delivery") == {"11": MANY}
    databases.drop(database)
