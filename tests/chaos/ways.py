"""How a connection is treated, each direction by a flow of its own: well, late, slowly, or not for long."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass

_CHUNK = 65_536
#: A kilobyte in a second: a submission takes about as long as its sender waits. A slower one could arrive after the
#: vendor was asked for it twice in vain, and nobody can tell that from one that was lost.
_FEW = 48
_PAUSE = 0.05


@dataclass(frozen=True, slots=True)
class Pipe:
    """One direction of a connection."""

    source: asyncio.StreamReader
    sink: asyncio.StreamWriter
    rng: random.Random
    #: Set while what comes may go on.
    flowing: asyncio.Event


async def straight(pipe: Pipe) -> None:
    """Hand on whatever comes."""
    while chunk := await pipe.source.read(_CHUNK):
        await pipe.flowing.wait()
        pipe.sink.write(chunk)
        await pipe.sink.drain()
    _end(pipe)


async def brief(pipe: Pipe) -> None:
    """Hand on whatever comes for a moment, then reset the connection, idle or not."""
    if await _broken_off(pipe):
        raise ConnectionResetError


async def parting(pipe: Pipe) -> None:
    """Hand on whatever comes for a moment, then end this direction politely, and hear no more of it."""
    if await _broken_off(pipe):
        _end(pipe)
        await swallow(pipe)


async def _broken_off(pipe: Pipe) -> bool:
    """Hand on whatever comes for a moment; return whether that was not all."""
    try:
        async with asyncio.timeout(pipe.rng.uniform(0.1, 1.5)):
            await straight(pipe)
    except TimeoutError:
        return True
    return False


async def late(pipe: Pipe) -> None:
    """Hand on whatever comes, some time later."""
    while chunk := await pipe.source.read(_CHUNK):
        await asyncio.sleep(pipe.rng.uniform(0.05, 0.4))
        pipe.sink.write(chunk)
        await pipe.sink.drain()
    _end(pipe)


async def trickle(pipe: Pipe) -> None:
    """Hand on a few bytes at a time."""
    while chunk := await pipe.source.read(_FEW):
        pipe.sink.write(chunk)
        await pipe.sink.drain()
        await asyncio.sleep(_PAUSE)
    _end(pipe)


async def cut(pipe: Pipe) -> None:
    """Reset the connection in the middle of something."""
    pipe.sink.write(await pipe.source.read(pipe.rng.randrange(1, 300)))
    await pipe.sink.drain()
    await asyncio.sleep(0)
    raise ConnectionResetError


async def half(pipe: Pipe) -> None:
    """End this direction in the middle of something, politely, and hear no more of it."""
    pipe.sink.write(await pipe.source.read(pipe.rng.randrange(1, 200)))
    _end(pipe)
    await swallow(pipe)


async def swallow(pipe: Pipe) -> None:
    """Take everything and hand on nothing."""
    while await pipe.source.read(_CHUNK):
        continue


def _end(pipe: Pipe) -> None:
    if pipe.sink.can_write_eof() and not pipe.sink.is_closing():
        pipe.sink.write_eof()


Flow = Callable[[Pipe], Coroutine[None, None, None]]
#: What happens to what is asked, and to what is answered.
WAYS: dict[str, tuple[Flow, Flow]] = {
    "straight": (straight, straight),
    "brief": (straight, brief),
    "late": (late, late),
    "trickle request": (trickle, straight),
    "trickle": (straight, trickle),
    "reset request": (cut, straight),
    "reset": (straight, cut),
    "half-close": (straight, half),
    "half-close later": (straight, parting),
    "black hole": (swallow, straight),
    "mute": (straight, swallow),
}
