"""Modes of a TCP connection: each direction forwards, delays, cuts or drops bytes."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass

_CHUNK = 65_536
#: About 1 KB/s: a submission takes about as long as its timeout. A slower one could arrive after
#: the second lookup found nothing, which cannot be told from a lost one.
_SMALL_CHUNK = 48
_PAUSE = 0.05
_GARBAGE = b"\x00garbage\r\n\r\n"


class Closed(Exception):
    """Both directions end with FIN."""


@dataclass(frozen=True, slots=True)
class Pipe:
    """One direction of a connection."""

    source: asyncio.StreamReader
    sink: asyncio.StreamWriter
    rng: random.Random
    #: Set while bytes may pass.
    flowing: asyncio.Event


async def forward(pipe: Pipe) -> None:
    """Forward all bytes."""
    while chunk := await pipe.source.read(_CHUNK):
        await pipe.flowing.wait()
        pipe.sink.write(chunk)
        await pipe.sink.drain()
    _write_eof(pipe)


async def reset_later(pipe: Pipe) -> None:
    """Forward for a moment, then reset the connection, idle or not."""
    if await _forward_briefly(pipe):
        raise ConnectionResetError


async def end_later(pipe: Pipe) -> None:
    """Forward for a moment, then close this direction with FIN and discard the rest."""
    if await _forward_briefly(pipe):
        _write_eof(pipe)
        await discard(pipe)


async def _forward_briefly(pipe: Pipe) -> bool:
    """Forward for a moment. Return True if the source has not ended by then."""
    try:
        async with asyncio.timeout(pipe.rng.uniform(0.1, 1.5)):
            await forward(pipe)
    except TimeoutError:
        return True
    return False


async def close_when_idle(pipe: Pipe) -> None:
    """Forward, and close the connection once it is idle after an answer, as servers do."""
    forwarded = False
    while True:
        try:
            async with asyncio.timeout(pipe.rng.uniform(0.05, 0.3)):
                chunk = await pipe.source.read(_CHUNK)
        except TimeoutError:
            if forwarded:
                raise Closed from None
            continue
        if not chunk:
            _write_eof(pipe)
            return
        pipe.sink.write(chunk)
        await pipe.sink.drain()
        forwarded = True


async def garbage_behind(pipe: Pipe) -> None:
    """Forward, and send bytes that nothing asked for behind each answer."""
    while chunk := await pipe.source.read(_CHUNK):
        pipe.sink.write(chunk + (_GARBAGE if len(chunk) < _CHUNK else b""))
        await pipe.sink.drain()
    _write_eof(pipe)


async def late(pipe: Pipe) -> None:
    """Forward each chunk after a delay."""
    while chunk := await pipe.source.read(_CHUNK):
        await asyncio.sleep(pipe.rng.uniform(0.05, 0.4))
        pipe.sink.write(chunk)
        await pipe.sink.drain()
    _write_eof(pipe)


async def trickle(pipe: Pipe) -> None:
    """Forward a few bytes at a time."""
    while chunk := await pipe.source.read(_SMALL_CHUNK):
        pipe.sink.write(chunk)
        await pipe.sink.drain()
        await asyncio.sleep(_PAUSE)
    _write_eof(pipe)


async def reset_early(pipe: Pipe) -> None:
    """Reset the connection in the middle of a message."""
    pipe.sink.write(await pipe.source.read(pipe.rng.randrange(1, 300)))
    await pipe.sink.drain()
    await asyncio.sleep(0)
    raise ConnectionResetError


async def end_early(pipe: Pipe) -> None:
    """Close this direction with FIN in the middle of a message and discard the rest."""
    pipe.sink.write(await pipe.source.read(pipe.rng.randrange(1, 200)))
    _write_eof(pipe)
    await discard(pipe)


async def discard(pipe: Pipe) -> None:
    """Read all bytes and forward none."""
    while await pipe.source.read(_CHUNK):
        continue


def _write_eof(pipe: Pipe) -> None:
    if pipe.sink.can_write_eof() and not pipe.sink.is_closing():
        pipe.sink.write_eof()


Flow = Callable[[Pipe], Coroutine[None, None, None]]
#: Functions for the requests and the responses of a connection.
MODES: dict[str, tuple[Flow, Flow]] = {
    "forward": (forward, forward),
    "reset later": (forward, reset_later),
    "late": (late, late),
    "trickle request": (trickle, forward),
    "trickle": (forward, trickle),
    "reset request": (reset_early, forward),
    "reset": (forward, reset_early),
    "half-close": (forward, end_early),
    "half-close later": (forward, end_later),
    "close when idle": (forward, close_when_idle),
    "garbage behind": (forward, garbage_behind),
    "black hole": (discard, forward),
    "no answer": (forward, discard),
}
