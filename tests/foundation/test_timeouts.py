"""Waits that share a timer: none ends early, none later than a grain, and nothing of them stays behind."""

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
from orchestrator.foundation.timeouts import GRAIN, Deadlines

Ts = TypeVarTuple("Ts")
Main = Callable[[Deadlines], Coroutine[Any, Any, None]]
#: How far a loop's clock and a timer may be apart by rounding.
ROUNDING = 1e-6


class _Skipping(selectors.DefaultSelector):
    """Lets a loop's time pass in no time: what it would sleep is added to its clock."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "everybody waits, and nothing will ever happen"
        self.now += max(timeout, 0)
        return super().select(0)


class TurnedLoop(asyncio.SelectorEventLoop):
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


def lived(main: Main, deadlines: Deadlines | None = None) -> TurnedLoop:
    """Run `main` on a loop in virtual time, and return the loop."""
    loop = TurnedLoop()
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(main(deadlines or Deadlines()))
    return loop


async def took(deadlines: Deadlines, seconds: float) -> float:
    """Return after how long a wait that nothing else ends was ended."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(TimeoutError):
        async with deadlines.within(seconds):
            await asyncio.Event().wait()
    return loop.time() - began


@pytest.mark.parametrize("seconds", [2, 2.01, 15, 30])
@pytest.mark.parametrize("before", [0, 0.1, 7.77])
def test_a_long_wait_ends_at_its_time_or_a_grain_later(seconds: float, before: float) -> None:
    async def main(deadlines: Deadlines) -> None:
        async with deadlines.within(60):
            await asyncio.sleep(before)
            assert (
                seconds - ROUNDING <= await took(deadlines, seconds) <= seconds + GRAIN + ROUNDING
            )

    lived(main)


@pytest.mark.parametrize("seconds", [0, 0.1, 1.99])
def test_a_short_wait_ends_at_its_time(seconds: float) -> None:
    async def main(deadlines: Deadlines) -> None:
        assert await took(deadlines, seconds) == pytest.approx(seconds, abs=ROUNDING)

    lived(main)


@given(waits=st.lists(st.tuples(st.floats(0, 20), st.floats(2, 20)), max_size=30))
def test_waits_that_begin_and_end_in_any_order_do_not_disturb_each_other(
    waits: list[tuple[float, float]],
) -> None:
    async def one(deadlines: Deadlines, start: float, seconds: float) -> float:
        await asyncio.sleep(start)
        return await took(deadlines, seconds) - seconds

    async def main(deadlines: Deadlines) -> None:
        late = await asyncio.gather(*(one(deadlines, *wait) for wait in waits))
        assert all(-ROUNDING <= by <= GRAIN + ROUNDING for by in late)

    lived(main)


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_on_a_real_loop_a_wait_ends_too(
    loop: Callable[[], asyncio.AbstractEventLoop], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only that it ends, and not early, in whole milliseconds as uvloop counts: a busy machine may be late."""
    monkeypatch.setattr(module, "_SHARED_FROM", 0)
    monkeypatch.setattr(module, "GRAIN", 0.01)
    with asyncio.Runner(loop_factory=loop) as runner:
        assert runner.run(took(Deadlines(), 0.05)) >= 0.049


async def test_what_ends_in_time_ends_as_it_would_have_without() -> None:
    deadlines = Deadlines()
    async with deadlines.within(5):
        await asyncio.sleep(0)
    for error in (LookupError("mine"), TimeoutError("mine")):
        with pytest.raises(type(error), match="mine"):
            async with deadlines.within(5):
                raise error


def test_a_task_goes_on_after_its_wait_was_ended() -> None:
    async def main(deadlines: Deadlines) -> None:
        await took(deadlines, 5)
        task = asyncio.current_task()
        assert task
        assert task.cancelling() == 0
        await asyncio.sleep(1)

    lived(main)


def test_a_task_cancelled_from_outside_is_cancelled_and_not_late() -> None:
    async def main(deadlines: Deadlines) -> None:
        task = asyncio.create_task(took(deadlines, 5))
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()

    lived(main)


def test_what_was_cancelled_inside_is_cancelled_and_not_late() -> None:
    async def main(deadlines: Deadlines) -> None:
        inner = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(1, inner.cancel)
        with pytest.raises(asyncio.CancelledError):
            async with deadlines.within(5):
                await inner

    lived(main)


@pytest.mark.parametrize(("outer", "inner"), [(20, 5), (5, 20), (20, 1), (1, 20)])
def test_of_two_waits_in_each_other_the_one_that_is_up_ends(outer: float, inner: float) -> None:
    async def main(deadlines: Deadlines) -> None:
        ended = []
        with pytest.raises(TimeoutError) if outer < inner else pytest.raises(LookupError):
            async with deadlines.within(outer):
                try:
                    async with deadlines.within(inner):
                        await asyncio.Event().wait()
                except TimeoutError:
                    ended.append("inner")
                raise LookupError("the outer one went on")
        assert ended == (["inner"] if inner < outer else [])

    lived(main)


def test_thousands_of_waits_share_one_timer() -> None:
    async def main(deadlines: Deadlines) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, TurnedLoop)
        gate = asyncio.Event()

        async def one() -> None:
            async with deadlines.within(15):
                await gate.wait()

        waiting = [asyncio.create_task(one()) for _ in range(5000)]
        await asyncio.sleep(0)
        assert len(deadlines._open) == 5000
        assert loop.timers == 1
        gate.set()
        await asyncio.gather(*waiting)
        assert loop.timers == 1

    lived(main)


def test_thousands_of_waits_that_are_up_all_end() -> None:
    async def main(deadlines: Deadlines) -> None:
        late = [
            one - 15 for one in await asyncio.gather(*(took(deadlines, 15) for _ in range(2000)))
        ]
        assert min(late) >= 0
        assert max(late) <= GRAIN

    assert lived(main).timers <= 15 / GRAIN + 1


@pytest.mark.parametrize("ending", ["in time", "late", "cancelled"])
def test_nothing_is_left_behind_by_waits_that_have_ended(ending: str) -> None:
    async def main(deadlines: Deadlines) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, TurnedLoop)
        if ending == "in time":
            async with deadlines.within(5):
                await asyncio.sleep(1)
        elif ending == "late":
            await took(deadlines, 5)
        else:
            task = asyncio.create_task(took(deadlines, 5))
            await asyncio.sleep(1)
            task.cancel()
            await asyncio.wait([task])
        assert not deadlines._open
        await asyncio.sleep(GRAIN)
        armed = loop.timers
        # The one timer more is this sleep's own: nobody looks any more.
        await asyncio.sleep(60)
        assert loop.timers == armed + 1
        # And whoever comes later is watched over again.
        assert 5 - ROUNDING <= await took(deadlines, 5) <= 5 + GRAIN + ROUNDING

    lived(main)


def test_a_second_loop_may_use_what_the_first_has_left_at_rest() -> None:
    async def main(deadlines: Deadlines) -> None:
        assert 5 - ROUNDING <= await took(deadlines, 5) <= 5 + GRAIN + ROUNDING
        await asyncio.sleep(GRAIN)

    deadlines = Deadlines()
    for _ in range(2):
        lived(main, deadlines)


def test_a_second_loop_may_use_what_the_first_left_in_a_hurry() -> None:
    """The first one ends while its timer is still armed."""

    async def brief(deadlines: Deadlines) -> None:
        async with deadlines.within(15):
            await asyncio.sleep(1)

    async def late(deadlines: Deadlines) -> None:
        assert 5 - ROUNDING <= await took(deadlines, 5) <= 5 + GRAIN + ROUNDING

    deadlines = Deadlines()
    lived(brief, deadlines)
    lived(late, deadlines)
