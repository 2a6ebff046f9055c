"""A publisher without a broker: it records what is published, and fails as a test scripts it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from typing import ClassVar

from orchestrator.events.destinations import Connection, Message, Publication, Publisher, Target

Script = Callable[[Publication], Awaitable[str]]


async def confirmed(publication: Publication) -> str:
    return f"stored as {publication.id}"


class FakeConnection(Connection):
    """A connection of a fake: open until it is closed, or `breaks`."""

    def __init__(self, of: FakePublisher) -> None:
        self._of = of
        self.closed = asyncio.Event()
        self.breaks = False

    @property
    def is_open(self) -> bool:
        return not self.breaks

    async def publish(self, publication: Publication) -> str:
        self._of.published.append(publication)
        return await self._of.answer(publication)

    async def close(self) -> None:
        self.closed.set()


class FakePublisher(Publisher):
    """Publishes to `connections`; `answer` gives the receipt, `opens` runs when one opens."""

    kind = "fake"
    example = "nats://broker.example.com:4222/video"
    schemes: ClassVar[tuple[str, ...]] = ("nats",)
    extra: ClassVar[str] = "nats"

    def __init__(self) -> None:
        self.targets: list[Target] = []
        self.published: list[Publication] = []
        self.connections: list[FakeConnection] = []
        self.answer: Script = confirmed
        self.opens: Callable[[], Awaitable[None]] | None = None

    def encode(self, target: Target, message: Message) -> Publication:
        to = target.address.rpartition("/")[2].partition("?")[0]
        return Publication(
            message.event_id, to, message.body, {"id": message.event_id}, message.job_id
        )

    async def open(self, target: Target, tls: ssl.SSLContext) -> Connection:
        self.targets.append(target)
        if self.opens is not None:
            await self.opens()
        made = FakeConnection(self)
        self.connections.append(made)
        return made
