"""The generators: seeded, and of every operation; and a short run against the service."""

from __future__ import annotations

import random

import pytest

from orchestrator.simulator.accounts import SIMULATED
from tests.hostile.operations import Known, draw
from tests.hostile.run import run


def known() -> Known:
    return Known("orc_" + "k" * 40, "http://127.0.0.1:9", [name for name, _ in SIMULATED])


def test_the_same_seed_draws_the_same_input() -> None:
    one, other = random.Random(7), random.Random(7)
    facts = known()
    assert [draw(one, facts) for _ in range(300)] == [draw(other, facts) for _ in range(300)]


@pytest.mark.proof
async def test_hostile_input_is_never_answered_with_a_500() -> None:
    # Memory is compared by the long run alone, so one document of a kind is enough.
    result = await run(1600, seed=3, dense_at_once=1)
    assert result.faults == []
    assert not result.logged
    operations = " ".join(result.statuses)
    for word in ("POST /v1/jobs", "POST /callbacks", "upload", "subscribers", "stream", "no HTTP"):
        assert word in operations
    assert result.answers["answer of a vendor"] > 0
