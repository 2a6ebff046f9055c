"""Final checks: all work has ended, events are delivered, states agree with vendors."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

from orchestrator.foundation.states import FINAL, JobState
from tests.simulate.committed_rows import JobRow
from tests.simulate.dialects import FAILED, SUCCEEDED
from tests.simulate.invariants import QUERYABLE
from tests.simulate.next_due import virtual_time

if TYPE_CHECKING:
    from tests.simulate.world import World

#: Seconds after its deadline, or after the calm phase begins, within which a job must be final
#: (13).
SLACK = 300.0
#: Seconds of calm within which a vendor's final state must be known, with or without a push (15).
KNOWN_WITHIN = 400.0


def unfinished(world: World) -> list[tuple[str, str]]:
    """Return unfinished work as (kind, description): jobs, callers, vendor tasks and deliveries."""
    committed = world.checker.committed
    jobs = [
        ("job", f"{row.id} ({row.state})")
        for row in committed.jobs.values()
        if row.state not in FINAL
    ]
    callers = [("job", f"caller {caller.number}") for caller in world.callers if not caller.done]
    gateways = [
        ("job", f"{gateway.account}'s renders and pushes")
        for gateway in world.gateways.values()
        if gateway.open_tasks
    ]
    owed = [
        ("delivery", f"{row.id} ({row.state})")
        for row in committed.deliveries.values()
        if row.state in _OWED
    ]
    return jobs + callers + gateways + owed


_OWED = ("pending", "held")


def violations(world: World) -> list[str]:
    """Return every violated final check."""
    return [*_jobs(world), *_deliveries(world), *world.checker.learned.forgotten()]


def _jobs(world: World) -> Iterator[str]:
    for row in world.checker.committed.jobs.values():
        assert row.finished_at is not None
        late = virtual_time(row.finished_at) - max(
            virtual_time(row.deadline_at), world.plan.calm_at
        )
        if late > SLACK and row.state == JobState.EXPIRED:
            yield f"13: {row.id} expired {late} s after its deadline"
        yield from (f"{row.id}: {violation}" for violation in _agrees_with_vendor(world, row))


def _agrees_with_vendor(world: World, row: JobRow) -> Iterator[str]:
    """Check that a job ended like its only render, unless it was canceled."""
    renders = world.gateways[row.account].of(row.external_task_id)
    if len(renders) != 1 or row.state == JobState.CANCELED:
        return
    render, code = renders[0], json.loads(row.error)["code"] if row.error else None
    if render.contradicted:
        return
    known = row.account in QUERYABLE or row.vendor_task_id is not None
    time_left = virtual_time(row.deadline_at) - max(render.changed_at, world.plan.calm_at)
    if row.state == JobState.EXPIRED and known and time_left > KNOWN_WITHIN:
        yield f"15: {row.account} ended it {time_left} s before it expired"
    if (
        row.state == JobState.FAILED
        and render.verdict == SUCCEEDED
        and code not in ("output_missing", "submit_unknown")
    ):
        yield f"it failed with {code}, and {row.account} rendered it"
    if row.state == JobState.SUCCEEDED and render.verdict == FAILED:
        yield f"it succeeded, and its render at {row.account} failed"


def _deliveries(world: World) -> Iterator[str]:
    """Check that dead deliveries were attempted, and that each job has one completion."""
    for row in world.checker.committed.deliveries.values():
        if row.state == "dead" and row.tries == 0:
            yield f"14: {row.id} is dead without an attempt"
    types = world.checker.completions()
    for job in world.checker.committed.jobs:
        if types[job] != 1:
            yield f"2: {types[job]} completions of {job}"
