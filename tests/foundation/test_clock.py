"""The arithmetic of waiting."""

from __future__ import annotations

import random
import time
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.foundation.clock import (
    SETTLED,
    SLEW,
    SUBMIT_SCHEDULE,
    DisciplinedClock,
    SystemClock,
    after,
    backoff,
    epoch_ms,
    from_epoch,
    jittered,
    retry_delay,
    rfc3339,
)
from orchestrator.foundation.settings.delivery import Delivery
from tests.harness.runtime import ManualClock

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
POLICY = Delivery().policy
SCHEDULES = (POLICY.schedule, POLICY.short_schedule, SUBMIT_SCHEDULE)


def test_seconds_and_milliseconds_mean_the_same_instant() -> None:
    assert from_epoch(epoch_ms(NOON) / 1000) == from_epoch(epoch_ms(NOON)) == NOON


def test_milliseconds_do_not_depend_on_the_time_zone() -> None:
    assert epoch_ms(NOON.astimezone(timezone(timedelta(hours=-7)))) == epoch_ms(NOON)


@pytest.mark.parametrize("micro", [0, 1, 999, 1000, 999_999])
def test_times_are_shown_with_three_digits_and_a_z(micro: int) -> None:
    shown = rfc3339(NOON.replace(microsecond=micro))
    assert shown == f"2026-11-20T12:00:00.{micro // 1000:03}Z"


@given(st.floats(0.001, 1e6), st.integers(0, 10**9), st.floats(1.0, 4.0), st.floats(0.001, 1e6))
def test_backoff_never_exceeds_its_limit_nor_overflows(
    first: float, times: int, factor: float, most: float
) -> None:
    assert backoff(first, times, factor=factor, most=most) <= most


def test_backoff_grows_by_its_factor() -> None:
    assert [backoff(15, n, factor=1.5, most=120) for n in range(7)] == [
        15,
        22.5,
        33.75,
        50.625,
        75.9375,
        113.90625,
        120,
    ]


@given(st.floats(0, 1e6), st.integers())
def test_jitter_only_adds(seconds: float, seed: int) -> None:
    assert seconds <= jittered(seconds, random.Random(seed)) <= seconds * 1.2


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_schedule_grows_and_ends(schedule: tuple[float, ...]) -> None:
    rng = random.Random(1)
    waits = [retry_delay(schedule, tries, rng) for tries in range(len(schedule))]
    assert all(
        wait is not None and wait >= planned for wait, planned in zip(waits, schedule, strict=True)
    )
    assert list(schedule) == sorted(schedule)
    assert retry_delay(schedule, len(schedule), rng) is None


def test_the_standard_schedule_is_the_published_one() -> None:
    """Ten attempts, the last of them 75 h 35 m 5 s after the first."""
    assert len(POLICY.schedule) == 10
    assert timedelta(seconds=sum(POLICY.schedule)) == timedelta(hours=75, minutes=35, seconds=5)
    assert POLICY.schedule[:4] == POLICY.short_schedule


async def test_the_system_clock_is_aware_and_never_goes_back() -> None:
    clock = SystemClock()
    wall, ticks = clock.now(), clock.monotonic()
    await clock.sleep(0)
    assert clock.now().tzinfo is UTC
    assert clock.now() >= wall
    assert clock.monotonic() >= ticks
    assert after(wall, 1.5) - wall == timedelta(seconds=1.5)


def test_time_goes_on_evenly_when_the_clock_of_the_system_is_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = SystemClock()
    began = clock.now()
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert 0 <= (clock.now() - began).total_seconds() < 60


def test_the_first_correction_is_made_at_once() -> None:
    own = ManualClock()
    clock = DisciplinedClock(own)
    assert clock.now() == own.now()
    assert clock.correct(-300) == -300
    assert clock.now() == after(own.now(), -300)


@pytest.mark.parametrize("jump", [-3600.0, 3600.0])
def test_what_others_check_follows_a_clock_that_stays_set(jump: float) -> None:
    own = ManualClock()
    clock = DisciplinedClock(own)
    clock.correct(0)
    own.advance(2 * SETTLED)
    clock.correct(jump)
    assert clock.stamp() == clock.now()
    for _ in range(3):
        own.advance(SETTLED / 4)
        clock.correct(jump)
        assert clock.stamp() == clock.now(), "it may be a mistake"
    own.advance(SETTLED / 4)
    assert clock.stamp() == after(own.now(), jump)
    assert abs((clock.now() - clock.stamp()).total_seconds()) > 3000


@pytest.mark.parametrize("jump", [-3600.0, 3600.0])
def test_a_later_correction_is_slewed_and_due_times_keep_their_distance(jump: float) -> None:
    own = ManualClock()
    clock = DisciplinedClock(own)
    clock.correct(5)
    assert clock.correct(5 + jump) == jump
    last = clock.now()
    assert last == after(own.now(), 5)
    for _ in range(100):
        own.advance(10)
        assert (
            10 * (1 - SLEW) - 1e-3 <= (clock.now() - last).total_seconds() <= 10 * (1 + SLEW) + 1e-3
        )
        last = clock.now()
        # Corrections go on every while.
        clock.correct(5 + jump)
    own.advance(3600 / SLEW)
    assert clock.now() == after(own.now(), 5 + jump)
