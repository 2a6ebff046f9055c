"""What must be true at the end: everything has ended, everybody was told, and it agrees with what vendors know."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

from orchestrator.foundation.states import FINAL, JobState
from tests.simulate.agenda import virtual
from tests.simulate.books import JobRow
from tests.simulate.dialects import FAILED, SUCCEEDED
from tests.simulate.invariants import ASKABLE

if TYPE_CHECKING:
    from tests.simulate.world import World

#: Seconds after its deadline, or after calm has come, in which a job must be final (13).
SLACK = 300.0
#: Seconds of calm in which the vendor's verdict on a job must be known, pushed or not (15).
KNOWN_WITHIN = 400.0


def unfinished(world: World) -> list[tuple[str, str]]:
    """Return what has not ended: jobs, or things that jobs may come of, and deliveries."""
    books = world.checker.books
    jobs = [
        ("job", f"{row.id} ({row.state})") for row in books.jobs.values() if row.state not in FINAL
    ]
    callers = [("job", f"caller {one.number}") for one in world.callers if not one.done]
    studios = [("job", f"{one.account}'s work") for one in world.studios.values() if one.busy]
    owed = [
        ("delivery", f"{row.id} ({row.state})")
        for row in books.deliveries.values()
        if row.state in _OWED
    ]
    return jobs + callers + studios + owed


_OWED = ("pending", "held")


def wrong(world: World) -> list[str]:
    """Return what is not as it must be."""
    return [*_jobs(world), *_deliveries(world)]


def _jobs(world: World) -> Iterator[str]:
    for row in world.checker.books.jobs.values():
        assert row.finished_at is not None
        late = virtual(row.finished_at) - max(virtual(row.deadline_at), world.plan.calm_at)
        if late > SLACK and row.state == JobState.EXPIRED:
            yield f"13: {row.id} expired {late} s late"
        yield from (f"{row.id}: {complaint}" for complaint in _truth(world, row))


def _truth(world: World, row: JobRow) -> Iterator[str]:
    """A render's one verdict becomes its job's, unless somebody let go of the job before."""
    renders = world.studios[row.account].of(row.external_task_id)
    if len(renders) != 1 or row.state == JobState.CANCELED:
        return
    render, code = renders[0], json.loads(row.error)["code"] if row.error else None
    if render.turned:
        return
    known = row.account in ASKABLE or row.vendor_task_id is not None
    time_left = virtual(row.deadline_at) - max(render.changed_at, world.plan.calm_at)
    if row.state == JobState.EXPIRED and known and time_left > KNOWN_WITHIN:
        yield f"15: {row.account} had ended it {time_left} s before it expired"
    if (
        row.state == JobState.FAILED
        and render.verdict == SUCCEEDED
        and code not in ("output_missing", "submit_unknown")
    ):
        yield f"it failed with {code}, and {row.account} made it"
    if row.state == JobState.SUCCEEDED and render.verdict == FAILED:
        yield f"it succeeded, and {row.account} failed it"


def _deliveries(world: World) -> Iterator[str]:
    """What is delivered was taken; what is dead had its chances."""
    for row in world.checker.books.deliveries.values():
        if row.state == "dead" and row.tries == 0:
            yield f"14: {row.id} is dead and was never tried"
    told = world.checker.completions()
    for job in world.checker.books.jobs:
        if told[job] != 1:
            yield f"2: {told[job]} completions of {job}"
