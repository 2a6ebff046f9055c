"""Ticks go on whoever sets the clock, what was missed is one run, and an end of them is noticed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta, tzinfo

import pytest
from apscheduler.schedulers import base

from orchestrator.engine.ticker import BEAT, STOPPED, Every, Pulse, Ticker
from orchestrator.foundation.clock import EPOCH, SystemClock
from tests.harness.api_caller import until
from tests.harness.runtime import ManualClock

#: Seconds between the ticks of these tests.
STEP = 0.02


class SetClock(datetime):
    """The clock of the system, `ahead` by what it was set; read as `datetime.now` reads it."""

    ahead = timedelta()

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
        shown = datetime.now(UTC) + cls.ahead
        return shown if tz is None else tz.fromutc(shown.replace(tzinfo=tz))


@pytest.fixture
async def ticks(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[float]]:
    """The times of the ticks of a running scheduler."""
    monkeypatch.setattr(base, "datetime", SetClock)
    monkeypatch.setattr(SetClock, "ahead", timedelta())
    ticker, clock, seen = Ticker(SystemClock(), random.Random(1)), SystemClock(), list[float]()

    async def tick() -> None:
        seen.append(clock.monotonic())

    ticker.every(STEP, "tick", tick)
    await ticker.start()
    await until(lambda: len(seen) > 2, "ticks come")
    yield seen
    ticker.stop()
    # The scheduler shuts down in a callback.
    await asyncio.sleep(0)


@pytest.mark.parametrize("days", [-30.0, -1 / 24, 3.0, 30.0])
async def test_ticks_go_on_evenly_when_the_clock_is_set(
    ticks: list[float], days: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SetClock, "ahead", timedelta(days=days))
    before = len(ticks)
    await until(lambda: len(ticks) >= before + 10, "ticks go on", seconds=5)
    passed = ticks[before + 9] - ticks[before]
    assert passed >= 9 * STEP * 0.8, "none is caught up with"
    assert passed < 2


def test_what_was_missed_is_one_run_and_the_next_keeps_its_distance() -> None:
    every = Every(1, random.Random(1))
    now = EPOCH + timedelta(days=30)
    assert every.get_next_fire_time(EPOCH, now) == now + timedelta(seconds=1)
    late = EPOCH + timedelta(seconds=1.3)
    assert every.get_next_fire_time(EPOCH + timedelta(seconds=1), late) == EPOCH + timedelta(
        seconds=2
    )


def test_replicas_do_not_tick_together() -> None:
    waits = {
        Every(30, random.Random(seed)).get_next_fire_time(None, EPOCH) - EPOCH for seed in range(9)
    }
    assert len(waits) == 9
    assert all(timedelta(seconds=30) <= wait <= timedelta(seconds=35) for wait in waits)


def test_the_lag_grows_while_no_tick_comes() -> None:
    clock = ManualClock()
    pulse = Pulse(clock)
    clock.advance(100)
    assert (pulse.lag, pulse.stopped) == (0.0, False), "it has not begun"
    pulse.beat()
    clock.advance(BEAT + 0.5)
    pulse.beat()
    assert pulse.lag == pytest.approx(0.5)
    found = []
    for _ in range(2):
        clock.advance(BEAT + STOPPED / 2)
        found.append((pulse.lag, pulse.stopped))
    assert found == [(STOPPED / 2, False), (STOPPED + BEAT, True)]
    pulse.beat()
    assert not pulse.stopped
