"""RabbitMQ, of the system's packages."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import ClassVar

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractQueue

from orchestrator.events.destinations import Target
from tests.brokers.server import BrokerServer, ClientAlone, Received
from tests.harness.api_caller import eventually
from tests.harness.processes import free_port

#: Without the wrapper on PATH, which runs it as another user.
PROGRAM = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
_QUEUE = "video.events"


class RabbitMqServer(BrokerServer):
    """A node of its own, with its own port mapper."""

    kind = "rabbitmq"
    needs: ClassVar[str] = "rabbitmq-server"
    patience: ClassVar[float] = 60.0

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._mapper = str(free_port())
        self._distribution = str(free_port())

    @classmethod
    def absent(cls) -> bool:
        return not PROGRAM.exists()

    def command(self) -> Sequence[str]:
        config = self.folder / "rabbitmq.conf"
        config.write_text("default_user = app\ndefault_pass = right\nloopback_users = none\n")
        values = {
            "HOME": self.folder,
            "ERL_EPMD_PORT": self._mapper,
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"tests{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": self.port,
            "RABBITMQ_DIST_PORT": self._distribution,
            "RABBITMQ_CONFIG_FILE": config.with_suffix(""),
            "RABBITMQ_MNESIA_BASE": self.folder / "data",
            "RABBITMQ_LOG_BASE": self.folder / "logs",
            "RABBITMQ_ENABLED_PLUGINS_FILE": self.folder / "plugins",
        }
        # A group of its own: the script starts the server, and a mapper that stays.
        return [
            "setsid",
            "env",
            *(f"{name}={value}" for name, value in values.items()),
            str(PROGRAM),
        ]

    def kill(self) -> None:
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        super().kill()
        mapper = {**os.environ, "ERL_EPMD_PORT": self._mapper}
        subprocess.run(["epmd", "-kill"], env=mapper, capture_output=True, check=False)

    def _to(self, query: str, password: str = "right", **options: str) -> Target:
        address = f"amqp://app@127.0.0.1:{self.port}/?{query}"
        return Target(address, options=options, credentials={"password": password})

    def target(self, **options: str) -> Target:
        return self._to(f"routing_key={_QUEUE}", **options)

    def refused(self) -> Target:
        return self._to(f"routing_key={_QUEUE}", "wrong-secret")

    def missing(self) -> Target:
        return self._to("exchange=nowhere")

    @contextlib.asynccontextmanager
    async def channel(self) -> AsyncIterator[AbstractChannel]:
        """Connect as the user of the tests."""
        connection: AbstractConnection = await aio_pika.connect(
            host="127.0.0.1", port=self.port, login="app", password="right"
        )
        async with connection:
            yield await connection.channel()

    @contextlib.asynccontextmanager
    async def queue(self) -> AsyncIterator[AbstractQueue]:
        """Open the queue, as an application does."""
        async with self.channel() as channel:
            yield await channel.declare_queue(_QUEUE, durable=True)

    async def prepare(self) -> None:
        async with self.channel() as channel:
            await channel.queue_delete(_QUEUE)
            await channel.declare_queue(_QUEUE, durable=True)
        await eventually(self._is_stored, "the queue is on disk")

    async def _is_stored(self) -> bool:
        """Return whether the queue is on disk: it is written up to two seconds later."""
        logs = (self.folder / "data").glob("*/LATEST.LOG")
        return any(_QUEUE.encode() in log.read_bytes() for log in logs)

    async def consume(self) -> list[Received]:
        found: list[Received] = []
        async with self.channel() as channel:
            queue = await channel.declare_queue(_QUEUE, durable=True)
            # Without an acknowledgement they go back to their places.
            while (message := await queue.get(fail=False)) is not None:
                headers = {"content-type": message.content_type or ""}
                found.append(Received(message.message_id or "", message.body, headers))
        return found

    @contextlib.asynccontextmanager
    async def client_alone(self, body: bytes) -> AsyncIterator[ClientAlone]:
        async with self.channel() as channel:
            yield _Alone(channel, body)


class _Alone(ClientAlone):
    def __init__(self, channel: AbstractChannel, body: bytes) -> None:
        self._exchange = channel.default_exchange
        self._body = body

    async def publish(self, id: str) -> None:
        message = aio_pika.Message(
            self._body, message_id=id, delivery_mode=aio_pika.DeliveryMode.PERSISTENT
        )
        await self._exchange.publish(message, _QUEUE)
