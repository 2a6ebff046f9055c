"""Kill -9 in the middle of a bulk replay: the next process continues exactly there."""

from __future__ import annotations

import random
import signal
from collections import Counter
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from orchestrator.app import build
from orchestrator.database.bulk import bulk_insert
from orchestrator.database.tables import delivery, event, job
from orchestrator.events import subscribers
from orchestrator.foundation.clock import after
from orchestrator.schemas.events import event_body
from orchestrator.simulator import Subscriber
from tests.harness import databases
from tests.harness.api_caller import KEY, Json, eventually
from tests.harness.audit import ServiceDatabase
from tests.harness.processes import Replica
from tests.harness.runtime import settings

pytestmark = pytest.mark.long

#: Dead deliveries; how many of them are made due a second; and attempts in progress.
MANY, RATE, SLOTS = 1000, 500, 32

_EVENTS = bulk_insert(event, "id", "sequence", "type", "source", "body", "created_at")
_DELIVERIES = bulk_insert(
    delivery, "id", "event_id", "subscriber_id", "state", "lease", "tries", "created_at", "done_at"
)


async def add_dead_deliveries(folder: Path, database: str, url: str) -> tuple[list[str], str]:
    """Write a subscriber and its dead deliveries; return the ids of the events, and the secret."""
    runtime = build(
        settings(folder, database_url=database, secret_keys=["k" * 40]), rng=random.Random(1)
    )
    now, ids, event_ids = (
        runtime.clock.now(),
        runtime.ids.many("dlv", MANY),
        runtime.ids.many("evt", MANY),
    )
    row, secret = subscribers.new(
        runtime.ids, runtime.keys, destination=runtime.destinations["webhook"], url=url,
        types=["job.*"], description="", headers={}, options={}, rate_limit=None,
        max_in_flight=SLOTS, now=now,
    )  # fmt: skip
    events = [
        {"id": event_id, "sequence": 1, "type": "job.succeeded", "source": "push",
         "created_at": now, "body": event_body("job.succeeded", now, event_id, 1, {"id": event_id})}
        for event_id in event_ids
    ]  # fmt: skip
    dead = [
        {"id": delivery_id, "event_id": event_id, "subscriber_id": row["id"], "state": "dead",
         "lease": 10, "tries": 10, "created_at": now, "done_at": now}
        for delivery_id, event_id in zip(ids, event_ids, strict=True)
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
    return event_ids, secret


@pytest.mark.parametrize("kind", databases.KINDS)
async def test_a_bulk_replay_continues_where_its_process_was_killed(
    tmp_path: Path, kind: str
) -> None:
    database = databases.url(kind, tmp_path)
    async with Subscriber() as consumer:
        events, secret = await add_dead_deliveries(tmp_path, database, consumer.url)
        consumer.secrets.append(secret)
        it = Replica(tmp_path, {}, database=database)
        headers = {"authorization": f"Bearer {KEY}"}
        try:
            async with httpx.AsyncClient(base_url=it.url, headers=headers, timeout=10) as http:
                await it.start()
                await it.ready(http)
                path = (await http.post("/v1/replays", json={"rate": RATE})).headers["location"]

                async def reached(count: int) -> Json | None:
                    now: Json = (await http.get(path)).json()
                    return now if now["replayed"] >= count else None

                begun = await eventually(lambda: reached(MANY // 2), "the replay is half done")
                await it.stop(signal.SIGKILL)
                assert begun["count"] == MANY > begun["replayed"]
                reader = ServiceDatabase(database)
                # A slice and the progress of the replay are one transaction.
                (row,) = reader.rows("SELECT replayed FROM replay")
                assert (
                    MANY
                    > row["replayed"]
                    == MANY - reader.count("SELECT state FROM delivery")["dead"]
                )
                await it.start()
                await it.ready(http)
                ended = await eventually(lambda: reached(MANY), "the replay is done", 60)
                assert (ended["status"], ended["count"], ended["replayed"]) == ("done", MANY, MANY)

                async def delivered() -> bool:
                    return (
                        len({each.webhook_id for each in consumer.received}) == MANY
                        and not (await http.get("/v1/deliveries?status=pending&limit=1")).json()[
                            "data"
                        ]
                    )

                await eventually(delivered, "all events are delivered", 60)
        finally:
            if it.child is not None:
                await it.stop()
        received = Counter(each.webhook_id for each in consumer.received)
        assert received.keys() == set(events)
        assert all(each.verified for each in consumer.received)
        # Only attempts in progress at the kill are repeated: their results were lost.
        assert sum(received.values()) - MANY <= SLOTS
        assert max(received.values()) <= 2
        # Each delivery was made due once: exactly one attempt was added, and it arrived.
        assert reader.count("SELECT state FROM delivery") == {"delivered": MANY}
        tried = reader.rows("SELECT n, count(*) AS times FROM attempt GROUP BY n")
        assert [(row["n"], row["times"]) for row in tried] == [(11, MANY)]
        assert reader.count("SELECT tries FROM delivery") == {"11": MANY}
    databases.drop(database)


#: Failed jobs, and how many of them are retried a second.
FAILED, RETRIES = 120, 40


async def add_failed_jobs(folder: Path, database: str, accounts: Json) -> list[str]:
    """Write failed jobs; return their ids."""
    values = {"database_url": database, "secret_keys": ["k" * 40], "accounts": accounts}
    runtime = build(settings(folder, **values), rng=random.Random(1))
    now, ids = runtime.clock.now(), runtime.ids.many("job", FAILED)
    rows = [
        {"id": job_id, "external_task_id": job_id, "account": "main", "vendor": "agentsflare",
         "model": "kling-v3", "capability": "text2video", "input": {"prompt": "a cat"},
         "metadata": {}, "api_key": "key", "state": "failed", "attempt": 1, "tries": 0, "asks": 0,
         "misses": 0, "lease": 0, "version": 3, "sequence": 1, "created_at": now,
         "finished_at": now, "deadline_at": after(now, 3600)}
        for job_id in ids
    ]  # fmt: skip
    runtime.store.start()
    try:
        await runtime.store.write(lambda tx: tx.execute(sa.insert(job), rows) and None)
    finally:
        await runtime.submission_client.aclose()
        await runtime.http_client.aclose()
        runtime.store.close()
    return ids


@pytest.mark.proof
@pytest.mark.parametrize("kind", databases.KINDS)
async def test_no_job_is_retried_twice_or_never_though_the_process_was_killed(
    tmp_path: Path, kind: str
) -> None:
    database = databases.url(kind, tmp_path)
    accounts: Json = {
        # New jobs stay queued: they are not what this is about.
        "main": {"vendor": "agentsflare", "api_key": "k", "rate_limit": 0.01}
    }
    failed = await add_failed_jobs(tmp_path, database, accounts)
    it = Replica(tmp_path, accounts, database=database)
    headers = {"authorization": f"Bearer {KEY}"}
    try:
        async with httpx.AsyncClient(base_url=it.url, headers=headers, timeout=10) as http:
            await it.start()
            await it.ready(http)
            body = {"jobs": {"again": True}, "rate": RETRIES}
            path = (await http.post("/v1/replays", json=body)).headers["location"]

            async def reached(count: int) -> Json | None:
                now: Json = (await http.get(path)).json()
                return now if now["replayed"] >= count else None

            begun = await eventually(lambda: reached(FAILED // 3), "a third is retried")
            await it.stop(signal.SIGKILL)
            assert begun["replayed"] < FAILED
            reader = ServiceDatabase(database)
            made = "SELECT retry_of FROM job WHERE retry_of IS NOT NULL"
            (row,) = reader.rows("SELECT replayed FROM replay")
            assert FAILED > row["replayed"] == len(reader.rows(made))
            await it.start()
            await it.ready(http)
            ended = await eventually(lambda: reached(FAILED), "all are retried", 60)
            assert (ended["status"], ended["failed"]) == ("done", 0)
    finally:
        if it.child is not None:
            await it.stop()
    assert sorted(row["retry_of"] for row in reader.rows(made)) == failed
    databases.drop(database)
