"""Waiters are woken in their order, a few per iteration of the loop."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from orchestrator.foundation.wait_queue import AT_ONCE, WaitQueue


class Waiters:
    """Tasks that wait, and the numbers of those that were woken."""

    def __init__(self, queue: WaitQueue, count: int) -> None:
        self.woken: list[int] = []
        self.tasks = [asyncio.create_task(self._wait(queue, number)) for number in range(count)]

    async def _wait(self, queue: WaitQueue, number: int) -> None:
        await queue.wait()
        self.woken.append(number)


async def waiting(queue: WaitQueue, count: int) -> Waiters:
    """Return waiters that wait."""
    waiters = Waiters(queue, count)
    await asyncio.sleep(0)
    return waiters


async def test_all_are_woken_in_their_order_and_others_get_the_loop_between() -> None:
    queue = WaitQueue()
    waiters = await waiting(queue, 5 * AT_ONCE)
    queue.wake()
    seen = [0]
    while len(waiters.woken) < 5 * AT_ONCE:
        await asyncio.sleep(0)
        seen.append(len(waiters.woken))
    assert waiters.woken == list(range(5 * AT_ONCE))
    steps = [after - before for before, after in itertools.pairwise(seen)]
    assert max(steps) <= AT_ONCE


async def test_who_waits_again_is_not_woken_again_by_the_same_news() -> None:
    queue, times = WaitQueue(), 0

    async def follow() -> None:
        nonlocal times
        while True:
            await queue.wait()
            times += 1

    tasks = [asyncio.create_task(follow()) for _ in range(2 * AT_ONCE)]
    await asyncio.sleep(0)
    queue.wake()
    for _ in range(20):
        await asyncio.sleep(0)
    assert times == 2 * AT_ONCE
    for task in tasks:
        task.cancel()


async def test_news_while_others_are_being_woken_reach_all() -> None:
    queue = WaitQueue()
    first = await waiting(queue, 2 * AT_ONCE)
    queue.wake()
    second = await waiting(queue, 3)
    queue.wake()
    await asyncio.wait_for(asyncio.gather(*first.tasks, *second.tasks), 5)


async def test_a_canceled_waiter_leaves_nothing_behind() -> None:
    queue = WaitQueue()
    waiters = await waiting(queue, 3 * AT_ONCE)
    waiters.tasks[0].cancel()
    queue.wake()
    # The last ones are to be woken, and are canceled before.
    waiters.tasks[-1].cancel()
    results = await asyncio.gather(*waiters.tasks, return_exceptions=True)
    assert [number for number, result in enumerate(results) if result] == [0, 3 * AT_ONCE - 1]
    assert len(waiters.woken) == 3 * AT_ONCE - 2
    assert not queue._waiting
    assert not queue._due


async def test_a_wake_without_waiters_is_not_kept() -> None:
    queue = WaitQueue()
    queue.wake()
    waiters = await waiting(queue, 1)
    await asyncio.sleep(0)
    assert waiters.woken == []
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(waiters.tasks[0], 0.01)
