"""Pushes wait for deliveries only where the event loop is the cause, and never for long."""

from __future__ import annotations

import asyncio
import time

import pytest

from orchestrator.engine.push_pacing import LATELY, LONGEST, PLACES, PushPacing


@pytest.fixture
async def pacing() -> PushPacing:
    return PushPacing()


async def burst(pacing: PushPacing, *, busy: float) -> None:
    """Let pushes come two at a time, while something occupies the loop."""
    for _ in range(10):
        await pacing.turn()
        await pacing.turn()
        # A loop that is busy is what this is about.
        time.sleep(busy)  # noqa: ASYNC251
        await asyncio.sleep(0.001)


def attempts(pacing: PushPacing, exchange: float, whole: float) -> None:
    for _ in range(50):
        pacing.attempted(exchange, whole)


async def is_held(pacing: PushPacing) -> bool:
    waiting = asyncio.create_task(pacing.turn())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    held = not waiting.done()
    waiting.cancel()
    return held


async def behind(pacing: PushPacing) -> None:
    """A busy loop, attempts that take longer here than at the subscriber, deliveries behind."""
    await burst(pacing, busy=0.012)
    attempts(pacing, exchange=0.005, whole=0.05)
    pacing.claimed(0.2, is_all=False)


async def test_pushes_wait_while_deliveries_are_behind_and_go_on_together(
    pacing: PushPacing,
) -> None:
    await behind(pacing)
    waiting = [asyncio.create_task(pacing.turn()) for _ in range(10)]
    await asyncio.sleep(0)
    assert not any(one.done() for one in waiting)
    pacing.claimed(0.01, is_all=False)
    await asyncio.sleep(0.001)
    assert all(one.done() for one in waiting)
    assert not await is_held(pacing)


async def test_they_go_on_once_nothing_else_is_due(pacing: PushPacing) -> None:
    await behind(pacing)
    assert await is_held(pacing)
    pacing.claimed(5.0, is_all=True)
    assert not await is_held(pacing)


async def test_they_never_wait_longer_than_a_moment(pacing: PushPacing) -> None:
    await behind(pacing)
    began = time.monotonic()
    await pacing.turn()
    assert LONGEST / 2 < time.monotonic() - began < LONGEST + 2


async def test_a_slow_subscriber_holds_up_no_push(pacing: PushPacing) -> None:
    await burst(pacing, busy=0.012)
    attempts(pacing, exchange=0.5, whole=0.55)
    pacing.claimed(0.2, is_all=False)
    assert not await is_held(pacing)


async def test_deliveries_that_keep_up_hold_up_no_push(pacing: PushPacing) -> None:
    await burst(pacing, busy=0.012)
    attempts(pacing, exchange=0.005, whole=0.05)
    pacing.claimed(0.01, is_all=False)
    assert not await is_held(pacing)


async def test_a_loop_that_has_time_holds_up_no_push(pacing: PushPacing) -> None:
    await burst(pacing, busy=0.0)
    attempts(pacing, exchange=0.001, whole=0.05)
    # Whatever else this machine does.
    pacing._late = min(pacing._late, 0.0)
    pacing.claimed(0.2, is_all=False)
    assert not await is_held(pacing)


async def test_a_push_that_is_given_up_takes_no_turn_of_others(pacing: PushPacing) -> None:
    await behind(pacing)
    given_up, other = (asyncio.create_task(pacing.turn()) for _ in range(2))
    await asyncio.sleep(0)
    given_up.cancel()
    pacing.claimed(0.0, is_all=True)
    await asyncio.wait_for(other, 1)
    assert given_up.cancelled() or given_up.done()


async def test_nothing_looks_at_the_loop_while_pushes_are_rare(pacing: PushPacing) -> None:
    await pacing.turn()
    await asyncio.sleep(0.02)
    await pacing.turn()
    assert pacing._looks is None


class Pushes:
    """Pushes that are processed until they are let go."""

    def __init__(self, pacing: PushPacing, count: int) -> None:
        self._pacing, self._end = pacing, asyncio.Event()
        self.inside = self.most = self.done = 0
        self.tasks = [asyncio.create_task(self._process()) for _ in range(count)]

    async def _process(self) -> None:
        async with self._pacing.place():
            self.inside += 1
            self.most = max(self.most, self.inside)
            await self._end.wait()
            # A commit.
            await asyncio.sleep(0)
            self.inside -= 1
            self.done += 1

    async def end(self) -> None:
        self._end.set()
        await asyncio.wait_for(asyncio.gather(*self.tasks, return_exceptions=True), 10)


async def test_so_many_pushes_are_stored_at_once_while_deliveries_are_made(
    pacing: PushPacing,
) -> None:
    pacing.claimed(0.0, is_all=True)
    pushes = Pushes(pacing, 4 * PLACES)
    await asyncio.sleep(0.001)
    assert pushes.inside == PLACES
    await pushes.end()
    assert (pushes.most, pushes.done) == (PLACES, 4 * PLACES)


async def test_any_number_is_stored_at_once_while_none_are(pacing: PushPacing) -> None:
    pacing._claimed_at = asyncio.get_running_loop().time() - 2 * LATELY
    pushes = Pushes(pacing, 4 * PLACES)
    await asyncio.sleep(0.001)
    assert pushes.inside == 4 * PLACES
    await pushes.end()


async def test_a_place_that_is_given_up_goes_to_the_next(pacing: PushPacing) -> None:
    pacing.claimed(0.0, is_all=True)
    pushes = Pushes(pacing, 3 * PLACES)
    await asyncio.sleep(0.001)
    # Some that are processed, and some that wait.
    for task in pushes.tasks[::2]:
        task.cancel()
    await asyncio.sleep(0.001)
    assert pushes.inside - PLACES // 2 == PLACES
    pacing.claimed(0.0, is_all=True)
    await pushes.end()
    assert pushes.done == len(pushes.tasks[1::2])
    assert pacing._inside == 0


async def test_a_push_waits_for_a_place_no_longer_than_a_moment(pacing: PushPacing) -> None:
    pacing.claimed(0.0, is_all=True)
    stuck = Pushes(pacing, PLACES)
    await asyncio.sleep(0.001)
    began = time.monotonic()
    async with pacing.place():
        assert LONGEST / 2 < time.monotonic() - began < LONGEST + 2
    await stuck.end()


async def test_no_push_overtakes_one_that_waits(pacing: PushPacing) -> None:
    pacing.claimed(0.0, is_all=True)
    stuck = Pushes(pacing, PLACES)
    await asyncio.sleep(0.001)
    first = Pushes(pacing, 1)
    await asyncio.sleep(0.001)
    assert first.inside == 0
    pacing._claimed_at -= 2 * LATELY
    later = Pushes(pacing, 1)
    await asyncio.sleep(0.001)
    assert first.inside == later.inside == 1
    for pushes in (stuck, first, later):
        await pushes.end()
