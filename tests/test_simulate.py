"""The seeded simulator: it finds nothing in the product, finds whatever is planted, and does the same thing twice."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulate.planted import FIRST_SEEDS, PLANTED
from tests.simulate.run import simulate

SLICES, SLICE = 20, 10
#: Seeds in which a planted fault must be found.
ENOUGH = 300
ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("slice_", range(SLICES))
def test_nothing_goes_wrong_whatever_goes_wrong(slice_: int) -> None:
    for seed in range(1 + slice_ * SLICE, 1 + (slice_ + 1) * SLICE):
        result = simulate(seed)
        told = "\n".join(result.trace)
        assert result.violation is None, f"{told}\n{result.violation}\nagain: make simulate SEED={seed}"


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_fault_is_found(name: str) -> None:
    """The search begins where it was found before: after a change of the product, that may be elsewhere."""
    for seed in range(FIRST_SEEDS[name], FIRST_SEEDS[name] + ENOUGH):
        with PLANTED[name]():
            found = simulate(seed).violation
        if found is not None:
            assert simulate(seed).violation is None, "it is wrong without it too"
            return
    raise AssertionError(f"{ENOUGH} seeds do not find it: {name}")


@pytest.mark.parametrize("seed", [2, 3, 5])
def test_a_seed_is_one_run_in_this_process_and_in_any_other(seed: int) -> None:
    first = simulate(seed)
    assert (simulate(seed).digest, simulate(seed).steps) == (first.digest, first.steps)
    for order in ("1", "2"):
        command = [sys.executable, "-m", "tests.simulate", "--seed", str(seed)]
        environment = {**os.environ, "PYTHONHASHSEED": order}
        said = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout
        assert said.splitlines()[-1] == f"trace {first.digest}"


def test_two_seeds_are_two_runs() -> None:
    assert simulate(1).digest != simulate(2).digest
