"""Timeouts that share a timer: never early, at most a grain late, and nothing is left behind."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, TypeVarTuple

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.foundation import timeouts as module
from orchestrator.foundation.timeouts import GRAIN, Timeouts

Ts = TypeVarTuple("Ts")
Main = Callable[[Timeouts], Coroutine[Any, Any, None]]
#: How far a loop's clock and a timer may be apart by rounding.
ROUNDING = 1e-6


class _Skipping(selectors.DefaultSelector):
    """Virtual time: what the loop would sleep is added to its clock."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "every task waits and no timer is armed"
        self.now += max(timeout, 0)
        return super().select(0)


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop in virtual time that counts the timers armed on it."""

    def __init__(self) -> None:
        self._skipping = _Skipping()
        self.timers = 0
        super().__init__(self._skipping)

    def time(self) -> float:
        return self._skipping.now

    def call_at(
        self,
        when: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        self.timers += 1
        return super().call_at(when, callback, *args, context=context)


def run(main: Main, timeouts: Timeouts | None = None) -> VirtualLoop:
    """Run `main` on a loop in virtual time, and return the loop."""
    loop = VirtualLoop()
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(main(timeouts or Timeouts()))
    return loop


async def took(timeouts: Timeouts, seconds: float) -> float:
    """Return the seconds until a wait on nothing is ended."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(TimeoutError):
        async with timeouts.within(seconds):
            await asyncio.Event().wait()
    return loop.time() - began


@pytest.mark.parametrize("seconds", [2, 2.01, 15, 30])
@pytest.mark.parametrize("before", [0, 0.1, 7.77])
def test_a_long_timeout_ends_at_its_time_or_up_to_a_grain_later(
    seconds: float, before: float
) -> None:
    async def main(timeouts: Timeouts) -> None:
        async with timeouts.within(60):
            await asyncio.sleep(before)
            assert seconds - ROUNDING <= await took(timeouts, seconds) <= seconds + GRAIN + ROUNDING

    run(main)


@pytest.mark.parametrize("seconds", [0, 0.1, 1.99])
def test_a_short_timeout_ends_at_its_time(seconds: float) -> None:
    async def main(timeouts: Timeouts) -> None:
        assert await took(timeouts, seconds) == pytest.approx(seconds, abs=ROUNDING)

    run(main)


@given(waits=st.lists(st.tuples(st.floats(0, 20), st.floats(2, 20)), max_size=30))
def test_overlapping_timeouts_are_independent(waits: list[tuple[float, float]]) -> None:
    async def delayed(timeouts: Timeouts, start: float, seconds: float) -> float:
        await asyncio.sleep(start)
        return await took(timeouts, seconds) - seconds

    async def main(timeouts: Timeouts) -> None:
        late = await asyncio.gather(*(delayed(timeouts, *wait) for wait in waits))
        assert all(-ROUNDING <= by <= GRAIN + ROUNDING for by in late)

    run(main)


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_timeout_ends_on_real_event_loops(
    loop: Callable[[], asyncio.AbstractEventLoop], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends and not early, in whole milliseconds as in uvloop; a busy machine may be late."""
    monkeypatch.setattr(module, "_SHARED_FROM", 0)
    monkeypatch.setattr(module, "GRAIN", 0.01)
    with asyncio.Runner(loop_factory=loop) as runner:
        assert runner.run(took(Timeouts(), 0.05)) >= 0.049


async def test_a_body_that_ends_in_time_returns_or_raises_unchanged() -> None:
    timeouts = Timeouts()
    async with timeouts.within(5):
        await asyncio.sleep(0)
    for error in (LookupError("mine"), TimeoutError("mine")):
        with pytest.raises(type(error), match="mine"):
            async with timeouts.within(5):
                raise error


def test_a_task_continues_after_a_timeout() -> None:
    async def main(timeouts: Timeouts) -> None:
        await took(timeouts, 5)
        task = asyncio.current_task()
        assert task
        assert task.cancelling() == 0
        await asyncio.sleep(1)

    run(main)


def test_cancelling_the_task_raises_cancelled_error_not_timeout_error() -> None:
    async def main(timeouts: Timeouts) -> None:
        task = asyncio.create_task(took(timeouts, 5))
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()

    run(main)


def test_cancelling_what_is_awaited_raises_cancelled_error_not_timeout_error() -> None:
    async def main(timeouts: Timeouts) -> None:
        inner = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(1, inner.cancel)
        with pytest.raises(asyncio.CancelledError):
            async with timeouts.within(5):
                await inner

    run(main)


@pytest.mark.parametrize(("outer", "inner"), [(20, 5), (5, 20), (20, 1), (1, 20)])
def test_of_two_nested_timeouts_the_shorter_ends_first(outer: float, inner: float) -> None:
    async def main(timeouts: Timeouts) -> None:
        ended = []
        with pytest.raises(TimeoutError) if outer < inner else pytest.raises(LookupError):
            async with timeouts.within(outer):
                try:
                    async with timeouts.within(inner):
                        await asyncio.Event().wait()
                except TimeoutError:
                    ended.append("inner")
                raise LookupError("the outer timeout went on")
        assert ended == (["inner"] if inner < outer else [])

    run(main)


def test_thousands_of_timeouts_share_one_timer() -> None:
    async def main(timeouts: Timeouts) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        gate = asyncio.Event()

        async def wait() -> None:
            async with timeouts.within(15):
                await gate.wait()

        waiting = [asyncio.create_task(wait()) for _ in range(5000)]
        await asyncio.sleep(0)
        assert len(timeouts._until) == 5000
        assert loop.timers == 1
        gate.set()
        await asyncio.gather(*waiting)
        assert loop.timers == 1

    run(main)


def test_thousands_of_timeouts_end_together() -> None:
    async def main(timeouts: Timeouts) -> None:
        waits = await asyncio.gather(*(took(timeouts, 15) for _ in range(2000)))
        late = [seconds - 15 for seconds in waits]
        assert min(late) >= 0
        assert max(late) <= GRAIN

    assert run(main).timers <= 15 / GRAIN + 1


@pytest.mark.parametrize("ending", ["in time", "late", "cancelled"])
def test_nothing_is_left_behind_by_waits_that_have_ended(ending: str) -> None:
    async def main(timeouts: Timeouts) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        if ending == "in time":
            async with timeouts.within(5):
                await asyncio.sleep(1)
        elif ending == "late":
            await took(timeouts, 5)
        else:
            task = asyncio.create_task(took(timeouts, 5))
            await asyncio.sleep(1)
            task.cancel()
            await asyncio.wait([task])
        assert not timeouts._until
        await asyncio.sleep(GRAIN)
        armed = loop.timers
        # The one timer more is this sleep's own: nobody looks any more.
        await asyncio.sleep(60)
        assert loop.timers == armed + 1
        # And whoever comes later is watched over again.
        assert 5 - ROUNDING <= await took(timeouts, 5) <= 5 + GRAIN + ROUNDING

    run(main)


def test_a_second_loop_may_use_timeouts_that_are_idle() -> None:
    async def main(timeouts: Timeouts) -> None:
        assert 5 - ROUNDING <= await took(timeouts, 5) <= 5 + GRAIN + ROUNDING
        await asyncio.sleep(GRAIN)

    timeouts = Timeouts()
    for _ in range(2):
        run(main, timeouts)


def test_a_second_loop_may_use_timeouts_whose_timer_was_armed_on_the_first() -> None:
    """The first loop ends while the timer is armed."""

    async def brief(timeouts: Timeouts) -> None:
        async with timeouts.within(15):
            await asyncio.sleep(1)

    async def late(timeouts: Timeouts) -> None:
        assert 5 - ROUNDING <= await took(timeouts, 5) <= 5 + GRAIN + ROUNDING

    timeouts = Timeouts()
    run(brief, timeouts)
    run(late, timeouts)
