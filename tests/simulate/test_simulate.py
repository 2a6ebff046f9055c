"""The seeded simulator: it finds nothing in the product, finds whatever is planted, and does the same thing twice."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulate.planted import PLANTED
from tests.simulate.run import simulate

pytestmark = pytest.mark.long

#: A taste: `make simulate` runs hundreds, and as many as one likes.
SLICES, SLICE = 6, 4
#: Seeds in which a planted fault must be found, from the one on that found it first.
ENOUGH = 300
#: The first seed, counted from 1, that finds each: as many runs as it took. Another product may need another seed.
FIRST_SEEDS = {
    "bookkeeping ignores the lease": 20,
    "a claim does not move due_at": 1,
    "the lease is shorter than the deadline": 47,
    "a claim that has run out still submits": 16,
    "the account's limit is not looked at": 1,
    "the intent is not committed before the request": 1,
    "a lost answer is sent again at once": 4,
    "one not-found is enough to send again": 109,
    "a rank may fall": 1,
    "a final state may change": 1,
    "expired is for ever": 15,
    "a success without output is believed": 4,
    "answers are matched by position": 54,
    "the event is written in another transaction": 1,
    "paused subscribers are owed nothing": 4,
    "delivered is written before it is sent": 1,
    "a failed delivery is never due again": 1,
    "each attempt has a webhook-id of its own": 1,
    "a kept push is not applied again": 10,
    "a push is acknowledged before it is durable": 1,
    "a required signature may be missing": 64,
    "a callback token is good for every account": 4,
    "the idempotency key is ignored": 1,
    "a silent vendor is never asked": 1,
}
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("slice_", range(SLICES))
def test_nothing_goes_wrong_whatever_goes_wrong(slice_: int) -> None:
    for seed in range(1 + slice_ * SLICE, 1 + (slice_ + 1) * SLICE):
        result = simulate(seed)
        told = "\n".join(result.trace)
        assert result.violation is None, (
            f"{told}\n{result.violation}\nagain: make simulate SEED={seed}"
        )


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_fault_is_found(name: str) -> None:
    for seed in range(FIRST_SEEDS[name], FIRST_SEEDS[name] + ENOUGH):
        with PLANTED[name]():
            found = simulate(seed).violation
        if found is not None:
            assert simulate(seed).violation is None, "it is wrong without it too"
            return
    raise AssertionError(f"{ENOUGH} seeds do not find it: {name}")


@pytest.mark.parametrize("seed", [2, 3])
def test_a_seed_is_one_run_in_this_process_and_in_any_other(seed: int) -> None:
    first = simulate(seed)
    assert (simulate(seed).digest, simulate(seed).steps) == (first.digest, first.steps)
    command = [sys.executable, "-m", "tests.simulate", "--seed", str(seed)]
    environment = {**os.environ, "PYTHONHASHSEED": "1"}
    said = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    ).stdout
    assert said.splitlines()[-1] == f"trace {first.digest}"


def test_two_seeds_are_two_runs() -> None:
    assert simulate(1).digest != simulate(2).digest
