"""The suite of attacks itself: it detects what is not held."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.attack.arena import Arena, arena
from tests.attack.attack import Attack, Report, Skipped
from tests.attack.run import ATTACKS, execute
from tests.harness.api_caller import eventually

pytestmark = pytest.mark.long


async def test_names_of_attacks_are_unique() -> None:
    names = [attack.name for attack in ATTACKS]
    assert len(names) == len({*names})


async def test_a_service_that_stands_still_is_detected(tmp_path: Path) -> None:
    report = Report()
    async with arena(tmp_path, report, {}) as opened:
        async with opened.observed(latency=0.5) as observer:

            async def stands_still() -> bool:
                return bool((await observer.figures())["latency"] > 0.5)

            opened.child.send_signal(signal.SIGSTOP)
            await eventually(stands_still)
            opened.child.send_signal(signal.SIGCONT)
        assert any("/healthz" in fault for fault in report.broken)


async def _end_it(arena: Arena, _: Report) -> None:
    arena.child.send_signal(signal.SIGKILL)
    await arena.child.wait()


async def _lack(_: Arena, __: Report) -> None:
    raise Skipped("no such machine")


async def _err(_: Arena, __: Report) -> None:
    raise ValueError("of the attack itself")


@pytest.mark.parametrize(
    ("attempt", "word"), [(_end_it, "NOT HELD"), (_err, "NOT HELD"), (_lack, "not run")]
)
async def test_the_verdict_of_an_attack(attempt: object, word: str) -> None:
    assert callable(attempt)
    attack = Attack("x", attempt, {}, timeout=30, patient=False, bare=False)
    assert (await execute(attack)).word == word
