"""Apache Kafka: an idempotent producer that waits for all replicas in sync.

https://kafka.apache.org/documentation/#producerconfigs. The key is the job, so that its events keep
their order in one partition; the header `ce_id` is the event id, by which a consumer drops repeats.
CloudEvents are sent in binary mode:
https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/kafka-protocol-binding.md
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import unquote, urlsplit

from orchestrator.events import formats
from orchestrator.events.destinations import (
    Connection,
    Message,
    Option,
    Publication,
    Publisher,
    PublishFailed,
    ResponseClass,
    Target,
)
from orchestrator.foundation.errors import ConfigError

if TYPE_CHECKING:
    from aiokafka import AIOKafkaProducer

#: Milliseconds that a request waits for the broker: less than the deadline of an attempt.
_REQUEST_TIMEOUT = 8000
#: Seconds in which a producer that is closed sends what it has.
_FLUSH = 0.5
#: Bytes of a batch: the largest event fits.
_MAX_REQUEST = 5 << 20
_TOPIC = re.compile(r"/[A-Za-z0-9._-]{1,249}")


class Kafka(Publisher):
    """A topic. The address may name several brokers, separated by commas."""

    kind = "kafka"
    example: ClassVar[str] = "kafkas://kafka.example.com:9093/renders"
    schemes: ClassVar[tuple[str, ...]] = ("kafkas", "kafka")
    extra: ClassVar[str] = "kafka"
    options: ClassVar[Mapping[str, Option]] = {
        "format": formats.OPTION,
        "sasl_mechanism": Option(
            "How the user signs in.", choices=("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
        ),
    }
    credentials: ClassVar[Mapping[str, Option]] = {
        "username": Option("The user.", pattern=r"[^\0]{1,255}"),
        "password": Option("Its password.", pattern=r"[^\0]{1,1024}"),
    }

    def recognizes(self, address: str) -> bool:
        return urlsplit(address).scheme in self.schemes

    def check_address(self, address: str) -> None:
        """Raise `ConfigError` unless it has brokers with their ports, and the path is a topic."""
        brokers = _brokers(Target(address))
        has_ports = all(re.fullmatch(r"[^:]+:\d{1,5}|\[.+\]:\d{1,5}", one) for one in brokers)
        if not has_ports or not _TOPIC.fullmatch(urlsplit(address).path):
            raise ConfigError(f"the address of a topic is like {self.example}")

    def encode(self, target: Target, message: Message) -> Publication:
        """Return the record: without `format`, the stored event, with its id as a header."""
        body, headers = message.body, {"ce_id": message.event_id}
        if target.options.get("format") == "cloudevents":
            attributes, body = formats.binary(message)
            headers = {f"ce_{name}": value for name, value in attributes.items()}
        headers["content-type"] = "application/json"
        return Publication(message.event_id, _topic(target), body, headers, key=message.job_id)

    async def open(self, target: Target, tls: ssl.SSLContext) -> Connection:
        """Return a producer that knows the topic. An unknown topic or user is refused."""
        from aiokafka import AIOKafkaProducer
        from aiokafka.errors import KafkaError

        login = _login(target, tls)
        await _check_login(target, login)
        producer = AIOKafkaProducer(
            bootstrap_servers=_brokers(target),
            enable_idempotence=True,
            acks="all",
            max_request_size=_MAX_REQUEST,
            **login,
        )
        try:
            await producer.start()
            await producer.partitions_for(_topic(target))
        except KafkaError as error:
            await producer.stop()
            raise _failed(error) from None
        except BaseException:
            await producer.stop()
            raise
        return _Kafka(producer)


def _topic(target: Target) -> str:
    return urlsplit(target.address).path[1:]


def _brokers(target: Target) -> list[str]:
    return urlsplit(target.address).netloc.rpartition("@")[2].split(",")


def _login(target: Target, tls: ssl.SSLContext) -> dict[str, Any]:
    """Return how to connect, as the client names it."""
    secret = target.credentials
    is_tls = urlsplit(target.address).scheme == "kafkas"
    login: dict[str, Any] = {
        "client_id": "orchestrator",
        "request_timeout_ms": _REQUEST_TIMEOUT,
        "security_protocol": "SSL" if is_tls else "PLAINTEXT",
        "ssl_context": tls if is_tls else None,
    }
    url = urlsplit(target.address)
    user = secret.get("username") or unquote(url.netloc.rpartition("@")[0])
    if user:
        login |= {
            "security_protocol": f"SASL_{login['security_protocol']}",
            "sasl_mechanism": target.options.get("sasl_mechanism", "PLAIN"),
            "sasl_plain_username": user,
            "sasl_plain_password": secret.get("password", ""),
        }
    return login


async def _check_login(target: Target, login: Mapping[str, Any]) -> None:
    """Sign in at the first broker that is there: a producer only logs why it is refused.

    Raises `PublishFailed`, and `OSError` if no broker is there.
    """
    from aiokafka.conn import AIOKafkaConnection
    from aiokafka.errors import SaslAuthenticationFailed

    *others, last = _brokers(target)
    for broker in (*others, last):
        host, _, port = broker.rpartition(":")
        connection = AIOKafkaConnection(host.strip("[]"), int(port), **login)
        try:
            await connection.connect()
            return
        except SaslAuthenticationFailed:
            raise PublishFailed(
                "the broker refuses the user or the password",
                code="credentials_refused",
                result=ResponseClass.SHORTLY,
            ) from None
        except OSError:
            if broker == last:
                raise
        finally:
            connection.close()


class _Kafka(Connection):
    def __init__(self, producer: AIOKafkaProducer) -> None:
        self._producer = producer

    async def publish(self, publication: Publication) -> str:
        from aiokafka.errors import KafkaError

        headers = [(name, value.encode()) for name, value in publication.headers.items()]
        key = publication.key.encode() if publication.key else None
        try:
            stored = await self._producer.send_and_wait(
                publication.to, publication.body, key, headers=headers
            )
        except KafkaError as error:
            raise _failed(error) from None
        return f"partition {stored.partition}, offset {stored.offset}"

    async def close(self) -> None:
        """Close it: what is not confirmed by now is published again over another connection."""
        # `stop` waits until all is sent, for which the broker may be missing.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FLUSH):
                await self._producer.stop()
        await self._producer._sender.close()
        await self._producer.client.close()


def _failed(error: Exception) -> PublishFailed:
    """Return what an error of the client or the broker means for the delivery."""
    from aiokafka import errors

    lasting = {
        errors.UnknownTopicOrPartitionError: "no_topic",
        errors.InvalidTopicError: "no_topic",
        errors.TopicAuthorizationFailedError: "not_allowed",
        errors.ClusterAuthorizationFailedError: "not_allowed",
        errors.MessageSizeTooLargeError: "too_large",
        errors.RecordTooLargeError: "too_large",
    }
    if code := lasting.get(type(error)):
        return PublishFailed(_words(error), code=code, result=ResponseClass.SHORTLY)
    return PublishFailed(_words(error), code="not_confirmed", is_broken=True)


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:500]
