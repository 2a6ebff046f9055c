"""Publishing: connections to brokers are kept, and failures become those of an attempt.

Connections live on the thread of the broker loop, and so does all state of the pool: it needs no
lock. Each subscriber has one, on which its messages are in flight together (pipelining).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Final, NamedTuple

import structlog

from orchestrator.egress.broker_loop import BrokerLoop
from orchestrator.egress.failures import connect_fault
from orchestrator.egress.guarded_loop import Reach, reach
from orchestrator.events.destinations import (
    Connection,
    Publication,
    Publisher,
    PublishFailed,
    Target,
)
from orchestrator.foundation.authorities import client_context
from orchestrator.foundation.errors import Blocked, TooLate
from orchestrator.foundation.extras import missing
from orchestrator.foundation.json_codec import encode

log = structlog.get_logger()

#: Seconds in which a connection opens, name resolution and log-in included; and to close one.
OPEN_WITHIN: Final = 10.0
CLOSE_WITHIN: Final = 2.0
#: Seconds after which a connection that nothing uses is closed, and how often that is looked at.
IDLE: Final = 60.0
_SWEEP: Final = 15.0
#: Connections that are kept. Beyond, those that were not used for longest are closed.
MOST: Final = 256


class Key(NamedTuple):
    """Whose connection it is, and a hash of what it was opened with: a change opens another."""

    subscriber: str
    fingerprint: bytes


@dataclass(slots=True)
class _Kept:
    """A connection that is open, or being opened by `opening`, with its sockets and its users."""

    opening: asyncio.Task[Connection]
    reached: Reach
    used_at: float
    users: int = 0

    @property
    def is_usable(self) -> bool:
        """True if it is being opened, or is open."""
        if not self.opening.done():
            return True
        failed = self.opening.cancelled() or self.opening.exception() is not None
        return not failed and self.opening.result().is_open


@dataclass
class PublisherPool:
    """Publishes to brokers, over connections that it keeps."""

    loop: BrokerLoop
    ca_file: str | None = None
    _kept: dict[Key, _Kept] = field(default_factory=dict)
    _closing: set[asyncio.Task[None]] = field(default_factory=set)
    _sweeping: asyncio.TimerHandle | None = None

    async def publish(
        self,
        subscriber: str,
        publisher: Publisher,
        target: Target,
        publication: Publication,
        may_leave: Callable[[], bool],
        deadline: float,
    ) -> str:
        """Return the receipt of a message that the broker confirmed within `deadline` seconds.

        `may_leave` is asked just before the message leaves, on the other thread. Raises `TooLate`,
        `Blocked` and `PublishFailed`.
        """
        key = Key(subscriber, _fingerprint(target))
        work = partial(self._publish, key, publisher, target, publication, may_leave)
        try:
            return await self.loop.run(work, deadline)
        except TimeoutError:
            message = f"no confirmation within {deadline:g} s"
            raise PublishFailed(message, code="timeout") from None
        except ConnectionError as error:
            raise _lost(publisher, error) from None

    async def aclose(self) -> None:
        """Close all connections, then the thread. Nothing is published at the same time."""
        if self.loop.is_running:
            with contextlib.suppress(TimeoutError, ConnectionError):
                await self.loop.run(self._close_all, CLOSE_WITHIN + 1)
        await self.loop.aclose()

    # Over there: on the thread of the loop.

    async def _publish(
        self,
        key: Key,
        publisher: Publisher,
        target: Target,
        publication: Publication,
        may_leave: Callable[[], bool],
    ) -> str:
        kept = self._keep(key, publisher, target)
        kept.users += 1
        try:
            # Shielded: others wait for it too.
            opening = kept.opening
            connection = opening.result() if opening.done() else await asyncio.shield(opening)
            if not may_leave():
                raise TooLate(f"{publisher.kind}: the message may no longer leave")
            kept.reached.extend()
            return await connection.publish(publication)
        except (TooLate, Blocked):
            raise
        except PublishFailed as error:
            if error.is_broken:
                self._drop(key, kept)
            raise
        except asyncio.CancelledError:
            # A connection that confirms nothing in time is not trusted with more.
            if kept.opening.done():
                self._drop(key, kept)
            raise
        except Exception as error:
            self._drop(key, kept)
            raise _lost(publisher, error) from error
        finally:
            kept.users -= 1
            kept.used_at = asyncio.get_running_loop().time()

    def _keep(self, key: Key, publisher: Publisher, target: Target) -> _Kept:
        """Return the connection of a subscriber, and open it if there is none that works."""
        kept = self._kept.get(key)
        if kept is not None and kept.is_usable:
            return kept
        if kept is not None:
            self._drop(key, kept)
        loop = asyncio.get_running_loop()
        for other, old in [*self._kept.items()]:
            # Its address or its credentials have changed.
            if other.subscriber == key.subscriber and not old.users:
                self._drop(other, old)
        reached = Reach()
        opening = loop.create_task(self._open(publisher, target, reached))
        # Its error is known even if all who wait for it have given up.
        opening.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._kept[key] = kept = _Kept(opening, reached, loop.time())
        self._evict(MOST)
        if self._sweeping is None:
            self._sweeping = loop.call_later(_SWEEP, self._sweep)
        return kept

    async def _open(self, publisher: Publisher, target: Target, reached: Reach) -> Connection:
        """Open a connection. Raises `PublishFailed` and `Blocked`."""
        reach.set(reached)
        try:
            async with asyncio.timeout(OPEN_WITHIN):
                return await publisher.open(target, self._tls)
        except PublishFailed:
            raise
        except Exception as error:
            if reached.blocked is not None and not reached.allowed:
                raise Blocked(str(reached.blocked)) from None
            raise _unreachable(publisher, error, reached) from error

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        return client_context(self.ca_file, web=False)

    def _drop(self, key: Key, kept: _Kept) -> None:
        """Forget a connection, and close it. Messages in flight on it fail, and are retried."""
        if self._kept.get(key) is kept:
            del self._kept[key]
        closing = asyncio.get_running_loop().create_task(_close(kept))
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    def _evict(self, most: int) -> None:
        """Close unused connections beyond `most`, least recently used first."""
        unused = sorted((kept.used_at, key) for key, kept in self._kept.items() if _is_unused(kept))
        for _, key in unused[: max(0, len(self._kept) - most)]:
            self._drop(key, self._kept[key])

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        for key, kept in [*self._kept.items()]:
            if _is_unused(kept) and kept.used_at + IDLE <= loop.time():
                self._drop(key, kept)
        self._sweeping = loop.call_later(_SWEEP, self._sweep) if self._kept else None

    async def _close_all(self) -> None:
        if self._sweeping is not None:
            self._sweeping.cancel()
            self._sweeping = None
        for key, kept in [*self._kept.items()]:
            self._drop(key, kept)
        if self._closing:
            await asyncio.wait(self._closing, timeout=CLOSE_WITHIN)


def _is_unused(kept: _Kept) -> bool:
    return not kept.users and kept.opening.done()


async def _close(kept: _Kept) -> None:
    kept.opening.cancel()
    try:
        connection = await kept.opening
    except (Exception, asyncio.CancelledError):
        return
    try:
        async with asyncio.timeout(CLOSE_WITHIN):
            await connection.close()
    except Exception as error:
        log.debug("a connection to a broker did not close", why=type(error).__name__)


def _unreachable(publisher: Publisher, error: Exception, reached: Reach) -> PublishFailed:
    """Return why a connection did not open, as far as it was allowed to.

    The text of an error may hold an address or a secret: only its type is shown.
    """
    if isinstance(error, ImportError) and publisher.extra:
        why = missing(error.name or publisher.extra, publisher.extra)
        return PublishFailed(str(why), code="extra_missing")
    if reached.blocked is not None:
        message = f"the broker names a host that is blocked: {reached.blocked}"
        return PublishFailed(message, code=Blocked.kind)
    code = connect_fault(error) or "connection_failed"
    return PublishFailed(f"{publisher.kind}: {code} ({type(error).__name__})", code=code)


def _lost(publisher: Publisher, error: Exception) -> PublishFailed:
    code = connect_fault(error) or "connection_lost"
    message = f"{publisher.kind}: {code} ({type(error).__name__})"
    return PublishFailed(message, code=code, is_broken=True)


def _fingerprint(target: Target) -> bytes:
    """Return a hash of what a connection is opened with."""
    parts = [target.address, sorted(target.credentials.items()), sorted(target.options.items())]
    return hashlib.sha256(encode(parts)).digest()
