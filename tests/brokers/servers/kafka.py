"""Kafka: one node in KRaft mode. Its jars come from Maven, into `.venv/.kafka`."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import struct
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, UnknownTopicOrPartitionError

from orchestrator.events.destinations import Target
from tests.brokers.server import BrokerServer, ClientAlone, Received
from tests.harness.processes import free_port

JARS = Path(sys.prefix) / ".kafka"
_TOPIC = "video-events"
_CLUSTER = "MkU3OEVBNTcwNTJENDM2Qk"
#: ApiVersions, version 0: any client may ask, before it signs in.
_ASK = struct.pack(">ihhih", 10, 18, 0, 1, -1)


class KafkaServer(BrokerServer):
    """A broker that is its own controller; its users sign in with SASL PLAIN."""

    kind = "kafka"
    needs: ClassVar[str] = "Java and Maven"
    patience: ClassVar[float] = 60.0

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._controller = free_port()

    @classmethod
    def absent(cls) -> bool:
        return not JARS.exists() or shutil.which("java") is None

    def _java(self, *arguments: str) -> list[str]:
        return ["java", "-Xmx512m", "-cp", f"{JARS}/*", *arguments]

    def command(self) -> Sequence[str]:
        config = self.folder / "server.properties"
        if not config.exists():
            config.write_text(self._config())
            tool = self._java(
                "kafka.tools.StorageTool", "format", "-t", _CLUSTER, "-c", str(config)
            )
            subprocess.run(tool, check=True, capture_output=True)
        return self._java("kafka.Kafka", str(config))

    def _config(self) -> str:
        module = "org.apache.kafka.common.security.plain.PlainLoginModule"
        login = f'{module} required username="app" password="right" user_app="right";'
        return "\n".join(
            [
                "process.roles=broker,controller",
                "node.id=1",
                f"controller.quorum.voters=1@127.0.0.1:{self._controller}",
                "controller.listener.names=CONTROLLER",
                f"listeners=CLIENT://127.0.0.1:{self.port},"
                f"CONTROLLER://127.0.0.1:{self._controller}",
                f"advertised.listeners=CLIENT://127.0.0.1:{self.port}",
                "listener.security.protocol.map=CLIENT:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT",
                "inter.broker.listener.name=CLIENT",
                "sasl.enabled.mechanisms=PLAIN",
                "sasl.mechanism.inter.broker.protocol=PLAIN",
                f"listener.name.client.plain.sasl.jaas.config={login}",
                f"log.dirs={self.folder}/data",
                "auto.create.topics.enable=false",
                "offsets.topic.replication.factor=1",
                "transaction.state.log.replication.factor=1",
                "",
            ]
        )

    def start(self) -> None:
        """Start it, and wait until it answers: it listens some seconds earlier."""
        super().start()
        end = time.monotonic() + self.patience
        while time.monotonic() < end:
            with (
                contextlib.suppress(OSError),
                socket.create_connection(("127.0.0.1", self.port), 5) as asked,
            ):
                asked.sendall(_ASK)
                if asked.recv(4):
                    return
            time.sleep(0.05)
        self.kill()
        raise RuntimeError("kafka does not answer")

    def _login(self) -> dict[str, Any]:
        return {
            "bootstrap_servers": f"127.0.0.1:{self.port}",
            "security_protocol": "SASL_PLAINTEXT",
            "sasl_mechanism": "PLAIN",
            "sasl_plain_username": "app",
            "sasl_plain_password": "right",
        }

    def _to(self, topic: str, password: str = "right", **options: str) -> Target:
        secrets = {"username": "app", "password": password}
        address = f"kafka://127.0.0.1:{self.port}/{topic}"
        return Target(address, options=options, credentials=secrets)

    def target(self, **options: str) -> Target:
        return self._to(_TOPIC, **options)

    def refused(self) -> Target:
        return self._to(_TOPIC, "wrong-secret")

    def missing(self) -> Target:
        return self._to("nowhere")

    async def prepare(self) -> None:
        admin = AIOKafkaAdminClient(**self._login())
        await admin.start()
        try:
            with contextlib.suppress(UnknownTopicOrPartitionError):
                await admin.delete_topics([_TOPIC])
            await self._create(admin)
        finally:
            await admin.close()

    async def _create(self, admin: AIOKafkaAdminClient) -> None:
        """Create the topic, once the one of that name is gone."""
        async with asyncio.timeout(self.patience):
            while True:
                answer = await admin.create_topics([NewTopic(_TOPIC, 1, 1)])
                if all(error[1] == 0 for error in answer.topic_errors):
                    return
                await asyncio.sleep(0.05)

    async def consume(self) -> list[Received]:
        where = TopicPartition(_TOPIC, 0)
        consumer = AIOKafkaConsumer(**self._login(), auto_offset_reset="earliest")
        await consumer.start()
        try:
            consumer.assign([where])
            end = (await consumer.end_offsets([where]))[where]
            found: list[Received] = []
            while await consumer.position(where) < end:
                for record in (await consumer.getmany(where, timeout_ms=1000)).get(where, []):
                    headers = {name: value.decode() for name, value in record.headers}
                    key = record.key.decode() if record.key else None
                    found.append(Received(headers["ce_id"], record.value, headers, key))
            return found
        finally:
            await consumer.stop()

    @contextlib.asynccontextmanager
    async def consumer(self) -> AsyncIterator[AIOKafkaConsumer]:
        """Join a group of consumers, as an application does."""
        joined = AIOKafkaConsumer(
            _TOPIC,
            **self._login(),
            group_id="renders",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
        )
        await joined.start()
        try:
            yield joined
        finally:
            await joined.stop()

    @contextlib.asynccontextmanager
    async def client_alone(self, body: bytes) -> AsyncIterator[ClientAlone]:
        producer = AIOKafkaProducer(**self._login(), enable_idempotence=True, acks="all")
        await producer.start()
        try:
            yield _Alone(producer, body)
        finally:
            with contextlib.suppress(KafkaError):
                await producer.stop()


class _Alone(ClientAlone):
    def __init__(self, producer: AIOKafkaProducer, body: bytes) -> None:
        self._producer = producer
        self._body = body

    async def publish(self, id: str) -> None:
        headers = [("ce_id", id.encode())]
        await self._producer.send_and_wait(_TOPIC, self._body, b"job_1", headers=headers)
