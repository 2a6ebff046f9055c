"""Databases in the state a bench begins with, written through the ledger like everything else."""

from __future__ import annotations

from typing import Any

from orchestrator.app import build
from orchestrator.clock import after
from orchestrator.decide import Heard
from orchestrator.housekeeping import prepare
from orchestrator.report import Report
from orchestrator.runtime import Runtime
from orchestrator.settings import Settings
from orchestrator.states import JobState, Source, SubscriberState
from orchestrator.store import Tx
from orchestrator.subscribers import Values, add, hold, new

_CHUNK = 500


async def jobs(settings: Settings, count: int, **values: Any) -> list[str]:
    """Put `count` submitted jobs of the account `bench` into a database; return their ids."""
    rt = build(settings)
    rt.store.start()
    try:
        await rt.store.write(prepare, ["bench"])
        ids: list[str] = []
        while len(ids) < count:
            chunk = [rt.ids("job") for _ in range(min(_CHUNK, count - len(ids)))]
            await rt.store.write(_submitted, rt, chunk, values)
            ids += chunk
        return ids
    finally:
        rt.store.close()


def _submitted(tx: Tx, rt: Runtime, ids: list[str], values: dict[str, Any]) -> None:
    now = rt.clock.now()
    drafts = [
        {
            "id": job_id, "account": "bench", "vendor": "kling", "model": "kling-v3", "capability": "text2video",
            "input": {"prompt": "A cinematic aerial shot of a futuristic cubic city", "duration": 5}, "metadata": {},
            "external_task_id": job_id, "api_key": "bench", "created_at": now, "due_at": after(now, 3600),
            "deadline_at": after(now, 86400), **values,
        }
        for job_id in ids
    ]  # fmt: skip
    rt.ledger.open(tx, drafts)
    rt.ledger.apply(tx, [Heard(draft["id"], Report(JobState.SUBMITTED), Source.SUBMIT) for draft in drafts])


async def paused_subscriber(settings: Settings) -> None:
    """Add a subscriber that is owed everything and sent nothing: its delivery rows are written all the same."""
    rt = build(settings)
    rt.store.start()
    try:
        await rt.store.write(_paused, rt, _subscriber(rt, "http://127.0.0.1:9/hook"))
    finally:
        rt.store.close()


def _paused(tx: Tx, rt: Runtime, row: Values) -> None:
    add(tx, row)
    hold(tx, row["id"], SubscriberState.PAUSED, "bench", rt.clock.now())


def subscribe(tx: Tx, rt: Runtime, url: str) -> Any:
    """Add a webhook subscriber to the final events of jobs; return its row."""
    row = _subscriber(rt, url)
    add(tx, row)
    return row


def _subscriber(rt: Runtime, url: str) -> Values:
    row, _ = new(
        rt.ids, rt.keys, destination=rt.destinations["webhook"], url=url, types=["job.succeeded", "job.failed"],
        description="bench", headers={}, options={}, rate_limit=None, max_in_flight=32, now=rt.clock.now(),
    )  # fmt: skip
    return row
