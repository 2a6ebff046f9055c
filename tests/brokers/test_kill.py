"""A broker that is killed in the middle of its events, and comes back: none is lost."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from tests.brokers.delivering import delivering
from tests.brokers.server import BrokerServer

EVENTS = 5000
#: Seconds for all of it: retries after 5 seconds, and a lane that has recovered is flushed.
PATIENCE = 90.0


@pytest.mark.proof
async def test_a_broker_killed_under_load_loses_nothing_and_repeats_keep_their_id(
    own_server: BrokerServer, tmp_path: Path
) -> None:
    own_server.start()
    await own_server.prepare()
    async with delivering(tmp_path) as d:
        await d.subscribe(own_server, in_flight=64)
        await d.publish(EVENTS)
        await d.until(lambda states: states.get("delivered", 0) >= EVENTS // 3, PATIENCE)
        own_server.kill()
        before = await d.states()
        # Attempts fail meanwhile.
        await asyncio.sleep(1)
        own_server.start()
        await d.until(lambda states: states.get("delivered", 0) == EVENTS, PATIENCE)
        owed, attempts, to = await d.ids(), await d.attempts(), await d.subscriber()
    found = Counter(one.id for one in await own_server.consume())
    assert EVENTS // 3 <= before["delivered"] < EVENTS, "it was killed in the middle"
    # A client that retries by itself only takes longer.
    assert any(one["error"] or one["ms"] > 900 for one in attempts), "the outage was seen"
    assert to["state"] == "active"
    assert len(owed) == len(set(owed)) == EVENTS
    assert found.keys() == set(owed), "a consumer that drops repeats sees each event once"
    in_doubt = [one for one in attempts if one["error"] is not None]
    assert found.total() - EVENTS <= len(in_doubt)
    if own_server.drops_repeats:
        assert found.total() == EVENTS
