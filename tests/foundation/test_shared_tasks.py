"""Callers that wait for the same thing share one task, which ends with the last of them."""

from __future__ import annotations

import asyncio

import pytest

from orchestrator.foundation.shared_tasks import SharedTasks


class Work:
    """Tasks that end when they are told to."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.canceled: list[str] = []
        self.end = asyncio.Event()

    async def run(self, key: str) -> None:
        self.started.append(key)
        try:
            await self.end.wait()
        except asyncio.CancelledError:
            self.canceled.append(key)
            raise


async def settled() -> None:
    """Return when every task has gone as far as it can without time."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_one_task_for_each_key_and_all_return_with_it() -> None:
    work, shared = Work(), SharedTasks[str]()
    waiting = [asyncio.create_task(shared.wait(key, work.run)) for key in "aab"]
    await settled()
    assert work.started == ["a", "b"]
    work.end.set()
    await asyncio.gather(*waiting)
    # What has ended is not waited for again.
    await shared.wait("a", work.run)
    assert work.started == ["a", "b", "a"]
    assert not shared._shared


async def test_the_task_is_canceled_with_the_last_that_waits() -> None:
    work, shared = Work(), SharedTasks[str]()
    waiting = [asyncio.create_task(shared.wait("a", work.run)) for _ in range(2)]
    await settled()
    waiting[0].cancel()
    await settled()
    assert work.canceled == []
    waiting[1].cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    await settled()
    assert work.canceled == ["a"]
    assert not shared._shared


async def test_an_error_reaches_all() -> None:
    shared = SharedTasks[str]()

    async def fail(key: str) -> None:
        await asyncio.sleep(0)
        raise OSError(key)

    waiting = [asyncio.create_task(shared.wait("a", fail)) for _ in range(2)]
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(result) for result in results] == [OSError, OSError]
    with pytest.raises(OSError, match="a"):
        await shared.wait("a", fail)
