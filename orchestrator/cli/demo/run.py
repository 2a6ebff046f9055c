"""One run of the demo: submit everything, watch, and check what was promised."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence

from orchestrator import __version__
from orchestrator.cli.client import failure
from orchestrator.cli.demo.show import Show, Snapshot
from orchestrator.cli.demo.stage import Scenario, Stage, staged
from orchestrator.cli.terminal import Record
from orchestrator.client import ClientError
from orchestrator.foundation import logs
from orchestrator.schemas import Job
from orchestrator.simulator.sample_jobs import SAMPLE_JOBS

__all__ = ["Scenario", "run"]

#: Seconds after which what is missing counts as lost.
_LIMIT = 85.0
_LOOK = 0.3


def run(scenario: Scenario) -> tuple[Record, list[str]]:
    """Return the summary of one run, and the promises that were broken."""
    logs.configure("console", logging.ERROR)
    return asyncio.run(_run(scenario))


async def _run(scenario: Scenario) -> tuple[Record, list[str]]:
    began = time.monotonic()
    async with staged(scenario) as stage:
        try:
            return await _played(scenario, stage, began)
        except ClientError as error:
            raise failure(error, stage.client.server) from error


async def _played(scenario: Scenario, stage: Stage, began: float) -> tuple[Record, list[str]]:
    kinds = await _subscribe(stage)
    labels: dict[str, str] = {}
    show = Show(labels, len(kinds))
    server = stage.client.server
    show.say(f"orchestrator {__version__} · demo · {server} · data in a temporary folder")
    show.say(
        f"{len(SAMPLE_JOBS)} jobs, {scenario.drop_push:.0%} of the pushes will be lost;"
        " nothing is left behind afterwards"
    )
    with show.running():
        for number, (_, label, order) in enumerate(SAMPLE_JOBS):
            key = {"idempotency-key": f"demo-{scenario.seed}-{number}"}
            answer = await stage.client.call("POST", "/v1/jobs", json=order, headers=key)
            labels[answer.document["id"]] = label
        snapshot = await _watch(stage, show, began)
    # A delivery is recorded before its simulated duplicate arrives.
    await stage.world.idle()
    broken = broken_promises(snapshot, stage, scenario, len(kinds))
    return {**summary_of(snapshot, stage), **details_of(snapshot, stage, kinds)}, broken


async def _subscribe(stage: Stage) -> dict[str, str]:
    """Subscribe the simulated receiver as a webhook and as Slack. Return the kind of each id."""
    hook = await stage.client.subscribers.create(stage.subscriber.url)
    stage.subscriber.secrets.append(hook.secret or "")
    slack = await stage.client.subscribers.create(stage.subscriber.slack_url, kind="slack")
    return {hook.id: "webhook", slack.id: "slack"}


async def _watch(stage: Stage, show: Show, began: float) -> Snapshot:
    """Watch until every job is final and delivered, or the time is up."""
    while True:
        jobs = [job async for job in stage.client.jobs.list()]
        deliveries = [row async for row in stage.client.deliveries.list()]
        snapshot = Snapshot(jobs, deliveries, time.monotonic() - began)
        show.update(snapshot)
        settled = sum(row.status in ("delivered", "dead") for row in deliveries)
        complete = settled >= len(jobs) * show.subscribers and all(job.is_final for job in jobs)
        if complete or snapshot.seconds > _LIMIT:
            return snapshot
        await asyncio.sleep(_LOOK)


def summary_of(snapshot: Snapshot, stage: Stage) -> Record:
    """Return the part of `demo --json` that the contract promises."""
    deliveries = Counter(str(row.status) for row in snapshot.deliveries)
    vendors = sorted({job.vendor for job in snapshot.jobs})
    completions = stage.subscriber.completions().values()
    return {
        **_counts(snapshot.jobs),
        "by_vendor": {
            vendor: _counts([job for job in snapshot.jobs if job.vendor == vendor])
            for vendor in vendors
        },
        "deliveries": {"delivered": deliveries["delivered"], "dead": deliveries["dead"]},
        "verified_signatures": sum(seen.verified for seen in stage.subscriber.received),
        "duplicate_completions": sum(times - 1 for times in completions),
        "seconds": round(snapshot.seconds, 1),
    }


def _counts(jobs: Sequence[Job]) -> Record:
    states = Counter(str(job.status) for job in jobs)
    resolved = Counter(str(job.resolved_by) for job in jobs if job.resolved_by)
    return {
        "jobs": len(jobs),
        "succeeded": states["succeeded"],
        "failed": states["failed"],
        "resolved_by": {"push": 0, "poll": 0, **resolved},
    }


def details_of(snapshot: Snapshot, stage: Stage, kinds: Mapping[str, str]) -> Record:
    """Return what explains the summary: deliveries per kind, and vendors without pushes."""
    arrived = Counter(
        kinds[row.subscriber] for row in snapshot.deliveries if row.status == "delivered"
    )
    pushing = {push.vendor for push in stage.world.pushes}
    return {
        "delivered_by_kind": {kind: arrived[kind] for kind in kinds.values()},
        "without_pushes": sorted({job.vendor for job in snapshot.jobs} - pushing),
    }


def broken_promises(
    snapshot: Snapshot, stage: Stage, scenario: Scenario, subscribers: int
) -> list[str]:
    """Return a sentence for every broken promise."""
    world, subscriber, jobs = stage.world, stage.subscriber, snapshot.jobs
    summary = summary_of(snapshot, stage)
    planned = sum(render.outcome == "failed" for render in world.renders)
    resolved, deliveries = summary["resolved_by"], summary["deliveries"]
    completions = subscriber.completions()
    total, failed, due = len(jobs), summary["failed"], len(jobs) * subscribers
    checks = {
        f"{failed} jobs failed, {planned} were planned to": failed == planned,
        f"{total} of {len(SAMPLE_JOBS)} jobs exist": total == len(SAMPLE_JOBS),
        "not every job succeeded or failed": summary["succeeded"] + failed == total,
        f"{deliveries['delivered']} of {due} deliveries arrived": deliveries["delivered"] == due,
        f"{deliveries['dead']} deliveries were given up": deliveries["dead"] == 0,
        "a completion was delivered twice": summary["duplicate_completions"] == 0,
        "a job's completion never arrived": all(completions[job.id] == 1 for job in jobs),
        "a signature did not verify": all(seen.verified for seen in subscriber.received),
        "not every job was sent to Slack": len(subscriber.slack) >= total,
        "no push was accepted": resolved["push"] > 0 or scenario.drop_push > 0.9,
        "no poll resolved anything": resolved["poll"] > 0,
        f"a render was paid for twice: {world.double_renders()}": not world.double_renders(),
    }
    return [
        *(f"{job.id} ({job.account}) is {job.status}" for job in jobs if not job.is_final),
        *(f"{found.vendor} {found.path}: {found.what}" for found in world.violations),
        *(promise for promise, kept in checks.items() if not kept),
    ]
