"""One performance of the demo: submit everything, watch, and judge what was promised against what happened."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence

from orchestrator import __version__
from orchestrator.cli.demo.show import Glance, Show
from orchestrator.cli.demo.stage import Play, Stage, staged
from orchestrator.cli.terminal import Record
from orchestrator.cli.wait import is_final
from orchestrator.foundation import logs
from orchestrator.simulator.sample_jobs import SAMPLE_JOBS

__all__ = ["Play", "run"]

#: Seconds after which whatever is missing is missing for good.
_LIMIT = 85.0
_LOOK = 0.3


def run(play: Play) -> tuple[Record, list[str]]:
    """Return the summary of one performance, and what was promised and not kept."""
    logs.configure("console", logging.ERROR)
    return asyncio.run(perform(play))


async def perform(play: Play) -> tuple[Record, list[str]]:
    """Return the summary of one performance, and what was promised and not kept."""
    began = time.monotonic()
    async with staged(play) as stage:
        listeners = await _subscribe(stage)
        labels: dict[str, str] = {}
        show = Show(labels, len(listeners))
        show.say(f"orchestrator {__version__} · demo · {stage.url} · data in a temporary folder")
        show.say(
            f"{len(SAMPLE_JOBS)} jobs, {play.drop_push:.0%} of the pushes will be lost; nothing is left behind afterwards"
        )
        with show.running():
            for number, (_, label, order) in enumerate(SAMPLE_JOBS):
                key = f"demo-{play.seed}-{number}"
                job = await stage.api.post("/v1/jobs", order, **{"idempotency-key": key})
                labels[job["id"]] = label
            glance = await _watch(stage, show, began, len(listeners))
        # A delivery counts as arrived at our end first; a duplicate of it would still be on its way.
        await stage.world.idle()
        broken = broken_promises(glance, stage, play, len(listeners))
        return {**summary_of(glance, stage), **details_of(glance, stage, listeners)}, broken


async def _subscribe(stage: Stage) -> dict[str, str]:
    """Subscribe the simulated receiver twice: to webhooks, and as a Slack channel. Return the kind of each id."""
    hook = await stage.api.post("/v1/subscribers", {"kind": "webhook", "url": stage.subscriber.url})
    stage.subscriber.secrets.append(hook["secret"])
    slack = await stage.api.post(
        "/v1/subscribers", {"kind": "slack", "url": stage.subscriber.slack_url}
    )
    return {hook["id"]: "webhook", slack["id"]: "slack"}


async def _watch(stage: Stage, show: Show, began: float, listeners: int) -> Glance:
    """Look until every job is final and everybody knows, or the time is up."""
    while True:
        jobs, deliveries = (
            await stage.api.every("/v1/jobs"),
            await stage.api.every("/v1/deliveries"),
        )
        glance = Glance(jobs, deliveries, time.monotonic() - began)
        show.look(glance)
        settled = sum(one["status"] in ("delivered", "dead") for one in deliveries)
        if all(map(is_final, jobs)) and settled >= len(jobs) * listeners:
            return glance
        if glance.seconds > _LIMIT:
            return glance
        await asyncio.sleep(_LOOK)


def summary_of(glance: Glance, stage: Stage) -> Record:
    """Return what the contract promises of `demo --json`."""
    states = Counter(job["status"] for job in glance.jobs)
    deliveries = Counter(one["status"] for one in glance.deliveries)
    vendors = sorted({job["vendor"] for job in glance.jobs})
    return {
        "jobs": len(glance.jobs),
        "succeeded": states["succeeded"],
        "failed": states["failed"],
        "resolved_by": _by(glance.jobs),
        "by_vendor": {vendor: _of(vendor, glance) for vendor in vendors},
        "deliveries": {"delivered": deliveries["delivered"], "dead": deliveries["dead"]},
        "verified_signatures": sum(seen.verified for seen in stage.subscriber.received),
        "duplicate_completions": sum(
            times - 1 for times in stage.subscriber.completions().values()
        ),
        "seconds": round(glance.seconds, 1),
    }


def details_of(glance: Glance, stage: Stage, kinds: Mapping[str, str]) -> Record:
    """Return what explains the summary: deliveries by kind of subscriber, and vendors that have no pushes."""
    arrived = [
        kinds[one["subscriber"]] for one in glance.deliveries if one["status"] == "delivered"
    ]
    pushing = {push.vendor for push in stage.world.pushes}
    return {
        "delivered_by_kind": {kind: arrived.count(kind) for kind in kinds.values()},
        "without_pushes": sorted({job["vendor"] for job in glance.jobs} - pushing),
    }


def _of(vendor: str, glance: Glance) -> Record:
    mine = [job for job in glance.jobs if job["vendor"] == vendor]
    states = Counter(job["status"] for job in mine)
    return {
        "jobs": len(mine),
        "succeeded": states["succeeded"],
        "failed": states["failed"],
        "resolved_by": _by(mine),
    }


def _by(jobs: Sequence[Record]) -> Record:
    return {
        "push": 0,
        "poll": 0,
        **Counter(job["resolved_by"] for job in jobs if job["resolved_by"]),
    }


def broken_promises(glance: Glance, stage: Stage, play: Play, listeners: int) -> list[str]:
    """Return every promise that was not kept, in words."""
    world, subscriber = stage.world, stage.subscriber
    summary = summary_of(glance, stage)
    planned = sum(render.outcome == "failed" for render in world.renders)
    told = summary["resolved_by"]
    completions = subscriber.completions()
    unfinished = [
        f"{job['id']} ({job['account']}) is {job['status']}"
        for job in glance.jobs
        if not is_final(job)
    ]
    owed = summary["jobs"] * listeners
    checks = {
        f"{summary['failed']} jobs failed, {planned} were planned to": summary["failed"] == planned,
        f"{summary['jobs']} of {len(SAMPLE_JOBS)} jobs exist": summary["jobs"] == len(SAMPLE_JOBS),
        "not every job succeeded or failed": summary["succeeded"] + summary["failed"]
        == summary["jobs"],
        f"{summary['deliveries']['delivered']} of {owed} deliveries arrived": summary["deliveries"][
            "delivered"
        ]
        == owed,
        f"{summary['deliveries']['dead']} deliveries were given up": summary["deliveries"]["dead"]
        == 0,
        "somebody heard of a completion twice": summary["duplicate_completions"] == 0,
        "a job's completion was never heard": all(
            completions[job["id"]] == 1 for job in glance.jobs
        ),
        "a signature did not verify": all(seen.verified for seen in subscriber.received),
        "not every job was told to Slack": len(subscriber.slack) >= summary["jobs"],
        "no push was believed": told["push"] > 0 or play.drop_push > 0.9,
        "no poll caught anything": told["poll"] > 0,
        f"a render was paid for twice: {world.double_renders()}": not world.double_renders(),
    }
    strayed = [f"{found.vendor} {found.path}: {found.what}" for found in world.violations]
    return [*unfinished, *strayed, *(promise for promise, kept in checks.items() if not kept)]
