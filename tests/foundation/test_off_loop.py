"""Large bodies: parties take turns, whoever sends more; the sides do not wait for each other."""

from __future__ import annotations

import asyncio
import gc
import threading

import pytest

from orchestrator.foundation import off_loop
from orchestrator.foundation.off_loop import LARGE, Line


class Work:
    """Pieces of work that note when they are done; the first waits until `go`."""

    def __init__(self) -> None:
        self.line = Line("test")
        self.done: list[str] = []
        self.go = threading.Event()

    async def hold(self, party: str) -> asyncio.Task[None]:
        """Occupy the thread until `go`."""
        began = threading.Event()

        def wait() -> None:
            began.set()
            assert self.go.wait(30)

        task = asyncio.create_task(self.line.run(party, LARGE, wait))
        assert await asyncio.to_thread(began.wait, 30)
        return task

    def start(self, party: str, name: str, size: int = LARGE) -> asyncio.Task[None]:
        return asyncio.create_task(self.line.run(party, size, self.done.append, name))


async def test_parties_take_turns_however_much_one_of_them_has() -> None:
    work = Work()
    held = await work.hold("greedy")
    tasks = [work.start("greedy", f"g{n}") for n in range(16)]
    await asyncio.sleep(0)
    tasks += [work.start("modest", f"m{n}") for n in range(2)] + [work.start("third", "t")]
    await asyncio.sleep(0)
    work.go.set()
    await asyncio.gather(held, *tasks)
    assert sorted(work.done[:2]) == ["m0", "t"]
    assert work.done.index("m1") <= 4
    assert [name for name in work.done if name[0] == "g"] == [f"g{n}" for n in range(16)]
    assert not work.line._turns, "idle parties are forgotten"


async def test_one_that_gives_up_takes_no_turn_from_the_others() -> None:
    work = Work()
    held = await work.hold("a")
    tasks = [work.start("a", f"a{n}") for n in range(4)] + [work.start("b", "b0")]
    queued = work.start("b", "b1")
    await asyncio.sleep(0)
    for given_up in (held, tasks[1], tasks[4]):
        given_up.cancel()
    await asyncio.sleep(0)
    work.go.set()
    await asyncio.gather(held, *tasks, queued, return_exceptions=True)
    assert sorted(work.done) == ["a0", "a2", "a3", "b1"]
    # The traceback of a cancellation has the turn that it was waiting for.
    del held, tasks, queued, given_up
    await asyncio.sleep(0)
    gc.collect()
    assert not work.line._turns


async def test_a_failure_is_the_callers_and_ends_its_turn() -> None:
    work = Work()
    failing = [work.line.run("a", size, int, "x") for size in (LARGE, LARGE, 1)]
    errors = await asyncio.gather(*failing, return_exceptions=True)
    assert all(isinstance(error, ValueError) for error in errors)
    await work.start("a", "next")
    assert work.done == ["next"]


async def test_a_small_body_waits_for_nothing() -> None:
    work = Work()
    held = await work.hold("a")
    await work.start("a", "small", size=LARGE - 1)
    assert work.done == ["small"]
    work.go.set()
    await held


def test_event_loops_share_the_thread_but_no_turn() -> None:
    work = Work()

    async def several() -> None:
        await asyncio.gather(*(work.start("a", "x") for _ in range(50)))

    threads = [threading.Thread(target=asyncio.run, args=(several(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(work.done) == 200


@pytest.mark.parametrize("line", [off_loop.vendors, off_loop.receivers])
async def test_callers_delay_neither_vendors_nor_receivers(line: Line) -> None:
    go = threading.Event()
    held = asyncio.create_task(off_loop.callers.run("key", LARGE, go.wait, 30))
    await asyncio.sleep(0)
    async with asyncio.timeout(20):
        assert await line.run("key", LARGE, str, 1) == "1"
    go.set()
    await held


@pytest.mark.parametrize("was_enabled", [True, False])
async def test_no_garbage_is_collected_while_any_thread_works_on_a_body(was_enabled: bool) -> None:
    one, other = Work(), Work()
    if not was_enabled:
        gc.disable()
    try:
        held = [await one.hold("a"), await other.hold("a")]
        assert not gc.isenabled()
        one.go.set()
        await held[0]
        assert not gc.isenabled(), "the other thread works on"
        other.go.set()
        await held[1]
        assert gc.isenabled() is was_enabled
    finally:
        gc.enable()
