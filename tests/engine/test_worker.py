"""The worker of a stage: it fills its limit, wakes for due work, and stops cleanly."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest
from structlog.testing import capture_logs

from orchestrator.engine.worker import Claimed, Worker
from orchestrator.foundation.errors import Unavailable


class ListStage:
    """A stage over a list: items wait in `queue`, are in progress until `finish`, end in `done`."""

    def __init__(self, *queue: str, limit: int = 3, lane: int = 99) -> None:
        self.queue = list(queue)
        self.lane = lane
        self.in_progress: dict[str, asyncio.Future[None]] = {}
        self.done: list[str] = []
        self.returned: list[str] = []
        self.claims = 0
        self.peak = 0
        self.full = False
        self.on_take: Callable[[], Awaitable[None]] | None = None
        self.worker = Worker[str]("list", self, limit=limit)

    async def take(self, room: int) -> Claimed[str]:
        self.claims += 1
        if self.on_take:
            await self.on_take()
        share = min(room, self.lane - len(self.in_progress))
        taken, self.queue = self.queue[:share], self.queue[share:]
        self.in_progress |= {item: asyncio.get_running_loop().create_future() for item in taken}
        self.peak = max(self.peak, len(self.in_progress))
        return Claimed(taken, more=bool(self.queue), full=self.full)

    async def work(self, item: str) -> None:
        try:
            await self.in_progress[item]
            self.done.append(item)
        finally:
            del self.in_progress[item]

    async def give_back(self, items: Sequence[str]) -> None:
        self.returned += items
        for item in items:
            del self.in_progress[item]

    def finish(self, item: str, error: BaseException | None = None) -> None:
        if error is None:
            self.in_progress[item].set_result(None)
        else:
            self.in_progress[item].set_exception(error)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Run the event loop until the condition is true."""
        for _ in range(100_000):
            if condition():
                return
            await asyncio.sleep(0)
        raise TimeoutError("the condition never came true")

    async def settle(self) -> None:
        """Run the event loop until only `finish` or `wake` could change anything."""
        for _ in range(50):
            await asyncio.sleep(0)


def items(count: int) -> list[str]:
    return [f"p{n}" for n in range(count)]


async def test_a_worker_fills_its_limit_and_claims_the_rest_without_a_tick() -> None:
    stage = ListStage(*items(8))
    stage.worker.start()
    stage.worker.wake()
    for item in items(8):
        await stage.until(lambda item=item: item in stage.in_progress)  # type: ignore[misc]
        assert stage.worker.busy <= 3
        stage.finish(item)
    await stage.until(lambda: len(stage.done) == 8)
    assert stage.peak == 3
    await stage.worker.stop(1)


async def test_items_held_back_by_a_lanes_limit_are_claimed_when_an_item_ends() -> None:
    stage = ListStage(*items(6), limit=5, lane=2)
    stage.worker.start()
    stage.worker.wake()
    for item in items(6):
        await stage.until(lambda item=item: item in stage.in_progress)  # type: ignore[misc]
        stage.finish(item)
    await stage.until(lambda: len(stage.done) == 6)
    assert stage.peak == 2
    await stage.worker.stop(1)


async def test_an_idle_worker_claims_only_when_it_is_woken() -> None:
    stage = ListStage()
    stage.worker.start()
    await stage.settle()
    assert stage.claims == 0
    stage.worker.wake()
    await stage.until(lambda: stage.claims == 1)
    await stage.settle()
    assert stage.claims == 1
    await stage.worker.stop(1)


async def test_a_wake_during_a_claim_is_not_lost() -> None:
    stage = ListStage()

    async def arrives() -> None:
        if stage.claims == 1:
            stage.worker.wake()
        else:
            stage.queue = ["late"] if stage.claims == 2 else []

    stage.on_take = arrives
    stage.worker.start()
    stage.worker.wake()
    await stage.until(lambda: "late" in stage.in_progress)
    stage.finish("late")
    await stage.worker.stop(1)
    assert stage.done == ["late"]


@pytest.mark.parametrize(("full", "claims"), [(True, 2), (False, 1)])
async def test_a_free_slot_causes_a_claim_only_if_the_last_claim_was_full(
    full: bool, claims: int
) -> None:
    stage = ListStage()
    stage.full = full
    stage.worker.start()
    stage.worker.wake()
    await stage.until(lambda: stage.claims == 1)
    await stage.settle()
    stage.worker.make_room()
    await stage.settle()
    assert stage.claims == claims
    await stage.worker.stop(1)


async def test_a_slot_freed_during_a_claim_causes_another_claim() -> None:
    stage = ListStage()

    async def makes_room() -> None:
        if stage.claims == 1:
            stage.worker.make_room()

    stage.on_take = makes_room
    stage.worker.start()
    stage.worker.wake()
    await stage.until(lambda: stage.claims == 2)
    await stage.settle()
    assert stage.claims == 2
    await stage.worker.stop(1)


@pytest.mark.parametrize("error", [Unavailable("no database"), LookupError("a bug")])
async def test_a_claim_that_fails_is_logged_and_the_next_claim_works(error: Exception) -> None:
    stage = ListStage("p0")

    async def fails() -> None:
        stage.on_take = None
        raise error

    stage.on_take = fails
    stage.worker.start()
    with capture_logs() as logs:
        stage.worker.wake()
        await stage.until(lambda: bool(logs))
    assert logs[0]["stage"] == "list"
    stage.worker.wake()
    await stage.until(lambda: "p0" in stage.in_progress)
    stage.finish("p0")
    await stage.worker.stop(1)
    assert stage.done == ["p0"]


@pytest.mark.parametrize("error", [Unavailable("no database"), LookupError("a bug")])
async def test_an_item_that_fails_does_not_affect_another(error: Exception) -> None:
    stage = ListStage("bad", "good")
    stage.worker.start()
    with capture_logs() as logs:
        stage.worker.wake()
        await stage.until(lambda: len(stage.in_progress) == 2)
        stage.finish("bad", error)
        stage.finish("good")
        await stage.until(lambda: stage.worker.busy == 0)
    assert stage.done == ["good"]
    assert "lease will bring it back" in logs[0]["event"]
    await stage.worker.stop(1)


async def test_stopping_lets_items_in_progress_end() -> None:
    stage = ListStage("p0", "p1")
    stage.worker.start()
    stage.worker.wake()
    await stage.until(lambda: len(stage.in_progress) == 2)
    stopping = asyncio.ensure_future(stage.worker.stop(5))
    await stage.settle()
    assert not stopping.done()
    stage.queue.append("too late")
    stage.finish("p0")
    stage.finish("p1")
    await stopping
    assert sorted(stage.done) == ["p0", "p1"]
    assert stage.queue == ["too late"]


async def test_stopping_cancels_late_items_and_does_not_give_them_back() -> None:
    """The request may have been sent: only the lease may bring the item back."""
    stage = ListStage("p0")
    stage.worker.start()
    stage.worker.wake()
    await stage.until(lambda: "p0" in stage.in_progress)
    await stage.worker.stop(0.01)
    assert (stage.done, stage.returned, stage.worker.busy) == ([], [], 0)


async def test_items_claimed_while_stopping_are_given_back() -> None:
    stage, gate = ListStage("p0"), asyncio.Event()

    async def waits() -> None:
        await gate.wait()

    stage.on_take = waits
    stage.worker.start()
    stage.worker.wake()
    await stage.until(lambda: stage.claims == 1)
    stopping = asyncio.ensure_future(stage.worker.stop(5))
    await stage.settle()
    gate.set()
    await stopping
    assert (stage.returned, stage.done) == (["p0"], [])


async def test_a_worker_that_never_started_can_stop() -> None:
    await ListStage().worker.stop(1)
