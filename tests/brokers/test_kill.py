"""A broker that is killed in the middle of its events, and comes back: none is lost."""

from __future__ import annotations

import asyncio
import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import pytest

from orchestrator.foundation.states import EventType
from tests.brokers.delivering import STEPS, delivering
from tests.brokers.server import BrokerServer, Received

#: Jobs with one event each, and with one for each step.
JOBS, JOBS_IN_STEPS = 5000, 500
#: Seconds for all of it: retries after 5 seconds, and a lane that has recovered is flushed.
PATIENCE = 90.0


@pytest.mark.proof
async def test_a_broker_killed_under_load_loses_nothing_and_repeats_keep_their_id(
    own_server: BrokerServer, tmp_path: Path
) -> None:
    await received_over_a_kill(own_server, tmp_path, JOBS, STEPS[-1:], ordered=False)


@pytest.mark.proof
async def test_a_broker_killed_under_load_gets_the_events_of_each_job_in_sequence(
    own_server: BrokerServer, tmp_path: Path
) -> None:
    found = await received_over_a_kill(own_server, tmp_path, JOBS_IN_STEPS, STEPS, ordered=True)
    in_sequence = [*range(1, len(STEPS) + 1)]
    assert {job: of for job, of in sequences(found).items() if of != in_sequence} == {}


async def received_over_a_kill(
    server: BrokerServer, folder: Path, jobs: int, steps: Sequence[EventType], *, ordered: bool
) -> list[Received]:
    """Kill the broker when it has a third of the events, and start it again.

    Return what it has in the end, in its order: all of them, and repeats with the same id.
    """
    events = jobs * len(steps)
    server.start()
    await server.prepare()
    async with delivering(folder) as d:
        await d.add(server.kind, server.target(), 64, ordered=ordered)
        await d.publish(jobs, steps)
        await d.until(lambda states: states.get("delivered", 0) >= events // 3, PATIENCE)
        server.kill()
        before = await d.states()
        # Attempts fail meanwhile.
        await asyncio.sleep(1)
        server.start()
        await d.until(lambda states: states.get("delivered", 0) == events, PATIENCE)
        owed, attempts, to = await d.ids(), await d.attempts(), await d.subscriber()
    received = await server.consume()
    found = Counter(one.id for one in received)
    assert events // 3 <= before["delivered"] < events, "it was killed in the middle"
    # A client that retries by itself only takes longer.
    assert any(one["error"] or one["ms"] > 900 for one in attempts), "the outage was seen"
    assert to["state"] == "active"
    assert len(owed) == len(set(owed)) == events
    assert found.keys() == set(owed), "a consumer that drops repeats sees each event once"
    in_doubt = [one for one in attempts if one["error"] is not None]
    assert found.total() - events <= len(in_doubt)
    if server.drops_repeats:
        assert found.total() == events
    return received


def sequences(received: Sequence[Received]) -> dict[str, list[int]]:
    """Return what a consumer that drops repeats sees of each job: `sequence`s, as they came."""
    found: defaultdict[str, list[int]] = defaultdict(list)
    for body in {one.id: one.body for one in received}.values():
        event = json.loads(body)
        found[event["data"]["id"]].append(event["sequence"])
    return found
