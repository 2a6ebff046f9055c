"""The loop that every stage runs: full but never beyond, awake when there is something, gone when told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest
from structlog.testing import capture_logs

from orchestrator.engine.worker import Claimed, Worker
from orchestrator.foundation.errors import Unavailable


class Bench:
    """A stage over a list: pieces wait in `queue`, are under way until `finish` is called, and end in `done`."""

    def __init__(self, *queue: str, limit: int = 3, lane: int = 99) -> None:
        self.queue = list(queue)
        self.lane = lane
        self.under_way: dict[str, asyncio.Future[None]] = {}
        self.done: list[str] = []
        self.returned: list[str] = []
        self.looks = 0
        self.most = 0
        self.full = False
        self.on_take: Callable[[], Awaitable[None]] | None = None
        self.worker = Worker[str]("bench", self, limit=limit)

    async def take(self, room: int) -> Claimed[str]:
        self.looks += 1
        if self.on_take:
            await self.on_take()
        share = min(room, self.lane - len(self.under_way))
        taken, self.queue = self.queue[:share], self.queue[share:]
        self.under_way |= {piece: asyncio.get_running_loop().create_future() for piece in taken}
        self.most = max(self.most, len(self.under_way))
        return Claimed(taken, more=bool(self.queue), full=self.full)

    async def work(self, piece: str) -> None:
        try:
            await self.under_way[piece]
            self.done.append(piece)
        finally:
            del self.under_way[piece]

    async def give_back(self, pieces: Sequence[str]) -> None:
        self.returned += pieces
        for piece in pieces:
            del self.under_way[piece]

    def finish(self, piece: str, error: BaseException | None = None) -> None:
        if error is None:
            self.under_way[piece].set_result(None)
        else:
            self.under_way[piece].set_exception(error)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Let the loop run until something is so."""
        for _ in range(100_000):
            if condition():
                return
            await asyncio.sleep(0)
        raise TimeoutError("it never came to be so")

    async def settle(self) -> None:
        """Let everything that can happen by itself happen."""
        for _ in range(50):
            await asyncio.sleep(0)


def pieces(count: int) -> list[str]:
    return [f"p{n}" for n in range(count)]


async def test_as_many_as_fit_are_under_way_and_the_rest_follow_without_a_tick() -> None:
    bench = Bench(*pieces(8))
    bench.worker.start()
    bench.worker.wake()
    for piece in pieces(8):
        await bench.until(lambda piece=piece: piece in bench.under_way)  # type: ignore[misc]
        assert bench.worker.busy <= 3
        bench.finish(piece)
    await bench.until(lambda: len(bench.done) == 8)
    assert bench.most == 3
    await bench.worker.stop(1)


async def test_what_a_limit_of_a_lane_held_back_is_looked_for_when_a_piece_ends() -> None:
    bench = Bench(*pieces(6), limit=5, lane=2)
    bench.worker.start()
    bench.worker.wake()
    for piece in pieces(6):
        await bench.until(lambda piece=piece: piece in bench.under_way)  # type: ignore[misc]
        bench.finish(piece)
    await bench.until(lambda: len(bench.done) == 6)
    assert bench.most == 2
    await bench.worker.stop(1)


async def test_a_stage_with_nothing_to_do_looks_only_when_nudged() -> None:
    bench = Bench()
    bench.worker.start()
    await bench.settle()
    assert bench.looks == 0
    bench.worker.wake()
    await bench.until(lambda: bench.looks == 1)
    await bench.settle()
    assert bench.looks == 1
    await bench.worker.stop(1)


async def test_a_nudge_during_a_look_is_not_lost() -> None:
    bench = Bench()

    async def arrives() -> None:
        if bench.looks == 1:
            bench.worker.wake()
        else:
            bench.queue = ["late"] if bench.looks == 2 else []

    bench.on_take = arrives
    bench.worker.start()
    bench.worker.wake()
    await bench.until(lambda: "late" in bench.under_way)
    bench.finish("late")
    await bench.worker.stop(1)
    assert bench.done == ["late"]


@pytest.mark.parametrize(("full", "looks"), [(True, 2), (False, 1)])
async def test_room_is_looked_for_only_where_the_want_of_it_left_something(
    full: bool, looks: int
) -> None:
    bench = Bench()
    bench.full = full
    bench.worker.start()
    bench.worker.wake()
    await bench.until(lambda: bench.looks == 1)
    await bench.settle()
    bench.worker.make_room()
    await bench.settle()
    assert bench.looks == looks
    await bench.worker.stop(1)


async def test_room_that_is_made_during_a_look_is_looked_at_again() -> None:
    bench = Bench()

    async def makes_room() -> None:
        if bench.looks == 1:
            bench.worker.make_room()

    bench.on_take = makes_room
    bench.worker.start()
    bench.worker.wake()
    await bench.until(lambda: bench.looks == 2)
    await bench.settle()
    assert bench.looks == 2
    await bench.worker.stop(1)


@pytest.mark.parametrize("error", [Unavailable("no database"), LookupError("a bug")])
async def test_a_look_that_fails_is_logged_and_the_next_one_works(error: Exception) -> None:
    bench = Bench("p0")

    async def fails() -> None:
        bench.on_take = None
        raise error

    bench.on_take = fails
    bench.worker.start()
    with capture_logs() as logs:
        bench.worker.wake()
        await bench.until(lambda: bool(logs))
    assert logs[0]["stage"] == "bench"
    bench.worker.wake()
    await bench.until(lambda: "p0" in bench.under_way)
    bench.finish("p0")
    await bench.worker.stop(1)
    assert bench.done == ["p0"]


@pytest.mark.parametrize("error", [Unavailable("no database"), LookupError("a bug")])
async def test_a_piece_that_fails_takes_nothing_else_down(error: Exception) -> None:
    bench = Bench("bad", "good")
    bench.worker.start()
    with capture_logs() as logs:
        bench.worker.wake()
        await bench.until(lambda: len(bench.under_way) == 2)
        bench.finish("bad", error)
        bench.finish("good")
        await bench.until(lambda: bench.worker.busy == 0)
    assert bench.done == ["good"]
    assert "lease will bring it back" in logs[0]["event"]
    await bench.worker.stop(1)


async def test_stopping_lets_what_is_under_way_end() -> None:
    bench = Bench("p0", "p1")
    bench.worker.start()
    bench.worker.wake()
    await bench.until(lambda: len(bench.under_way) == 2)
    stopping = asyncio.ensure_future(bench.worker.stop(5))
    await bench.settle()
    assert not stopping.done()
    bench.queue.append("too late")
    bench.finish("p0")
    bench.finish("p1")
    await stopping
    assert sorted(bench.done) == ["p0", "p1"]
    assert bench.queue == ["too late"]


async def test_stopping_cancels_what_does_not_end_in_time_and_returns_nothing_of_it() -> None:
    """It may have been sent: only its lease may bring it back."""
    bench = Bench("p0")
    bench.worker.start()
    bench.worker.wake()
    await bench.until(lambda: "p0" in bench.under_way)
    await bench.worker.stop(0.01)
    assert (bench.done, bench.returned, bench.worker.busy) == ([], [], 0)


async def test_what_is_taken_while_stopping_is_given_back() -> None:
    bench, gate = Bench("p0"), asyncio.Event()

    async def waits() -> None:
        await gate.wait()

    bench.on_take = waits
    bench.worker.start()
    bench.worker.wake()
    await bench.until(lambda: bench.looks == 1)
    stopping = asyncio.ensure_future(bench.worker.stop(5))
    await bench.settle()
    gate.set()
    await stopping
    assert (bench.returned, bench.done) == (["p0"], [])


async def test_a_worker_that_never_began_stops_too() -> None:
    await Bench().worker.stop(1)
