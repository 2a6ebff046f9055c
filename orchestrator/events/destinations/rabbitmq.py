"""RabbitMQ: a persistent message to an exchange, delivered once the broker has confirmed it.

https://www.rabbitmq.com/docs/confirms. AMQP 0-9-1 has no binding of CloudEvents, so these are sent
in structured mode. A message that no queue takes is returned, and counts as failed (`mandatory`).
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import parse_qs, unquote, urlsplit

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
    from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractExchange

_NAME = r"[^\0]{0,255}"


class RabbitMq(Publisher):
    """An exchange of a virtual host; without one, the queue that the routing key names."""

    kind = "rabbitmq"
    example: ClassVar[str] = "amqps://orchestrator@rabbit.example.com/prod?exchange=renders"
    schemes: ClassVar[tuple[str, ...]] = ("amqps", "amqp")
    extra: ClassVar[str] = "rabbitmq"
    options: ClassVar[Mapping[str, Option]] = {
        "format": formats.OPTION,
        "exchange": Option("The exchange; the address may name it too.", pattern=_NAME),
        "routing_key": Option("The routing key; the default is the event's type.", pattern=_NAME),
        "mandatory": Option("Whether a queue has to take it.", choices=("true", "false")),
    }
    credentials: ClassVar[Mapping[str, Option]] = {
        "username": Option("The user, unless the address names it.", pattern=r"[^\0]{1,255}"),
        "password": Option("Its password.", pattern=r"[^\0]{1,1024}"),
    }

    def recognizes(self, address: str) -> bool:
        return urlsplit(address).scheme in self.schemes

    def check_address(self, address: str) -> None:
        """Raise `ConfigError` for a path of more than a virtual host, or an unknown parameter."""
        url = urlsplit(address)
        unknown = parse_qs(url.query).keys() - {"exchange", "routing_key"}
        if unknown or url.path.count("/") > 1:
            raise ConfigError(f"the address of a broker is like {self.example}")

    def encode(self, target: Target, message: Message) -> Publication:
        """Return the message; `to` is its exchange and its routing key."""
        exchange = _option(target, "exchange")
        routing_key = _option(target, "routing_key") or message.type
        body, content_type = formats.encoded(target, message)
        headers = {"content-type": content_type, "type": message.type}
        to = f"{exchange}/{routing_key}" if exchange else routing_key
        return Publication(message.event_id, to, body, headers, key=message.job_id)

    async def open(self, target: Target, tls: ssl.SSLContext) -> Connection:
        """Return a connection with a channel of its own. A missing exchange is refused."""
        connection = await _connect(target, tls)
        try:
            return await _RabbitMq.on(connection, target)
        except BaseException:
            await connection.close()
            raise


async def _connect(target: Target, tls: ssl.SSLContext) -> AbstractConnection:
    import aio_pika
    from aio_pika.exceptions import (
        AMQPConnectionError,
        AuthenticationError,
        InvalidFrameError,
        ProbableAuthenticationError,
    )

    url, secret = urlsplit(target.address), target.credentials
    is_tls = url.scheme == "amqps"
    try:
        return await aio_pika.connect(
            host=url.hostname or "",
            port=url.port or (5671 if is_tls else 5672),
            login=secret.get("username") or unquote(url.username or ""),
            password=secret.get("password", ""),
            virtualhost=unquote(url.path[1:]) or "/",
            ssl=is_tls,
            ssl_context=tls if is_tls else None,
        )
    except (AuthenticationError, ProbableAuthenticationError):
        raise PublishFailed(
            "the broker refuses the user or the password",
            code="credentials_refused",
            result=ResponseClass.SHORTLY,
        ) from None
    except AMQPConnectionError as error:
        # In its place the reason, which tells a refused connection from a name without address.
        raise error.__cause__ or error from None
    except InvalidFrameError:
        # The broker closes the connection where it expects to open the virtual host.
        raise PublishFailed(
            "the broker refuses the virtual host", code="no_vhost", result=ResponseClass.SHORTLY
        ) from None


class _RabbitMq(Connection):
    def __init__(
        self,
        connection: AbstractConnection,
        channel: AbstractChannel,
        exchange: AbstractExchange,
        *,
        is_mandatory: bool,
    ) -> None:
        self._connection = connection
        self._channel = channel
        self._exchange = exchange
        self._is_mandatory = is_mandatory
        self._published = 0

    @classmethod
    async def on(cls, connection: AbstractConnection, target: Target) -> _RabbitMq:
        """Open a channel. Raises `PublishFailed` for an exchange that does not exist."""
        from aio_pika.exceptions import ChannelClosed

        name = _option(target, "exchange")
        channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
        try:
            exchange = await channel.get_exchange(name) if name else channel.default_exchange
        except ChannelClosed as error:
            raise PublishFailed(
                str(error), code="no_exchange", result=ResponseClass.SHORTLY, is_broken=True
            ) from None
        return cls(
            connection, channel, exchange, is_mandatory=target.options.get("mandatory") != "false"
        )

    @property
    def is_open(self) -> bool:
        return not self._connection.is_closed and not self._channel.is_closed

    async def publish(self, publication: Publication) -> str:
        from aio_pika import DeliveryMode, Message
        from aio_pika.exceptions import DeliveryError, PublishError

        headers = publication.headers
        message = Message(
            publication.body,
            message_id=publication.id,
            type=headers["type"],
            content_type=headers["content-type"],
            delivery_mode=DeliveryMode.PERSISTENT,
            app_id="orchestrator",
        )
        name = self._exchange.name
        routing_key = publication.to.removeprefix(f"{name}/") if name else publication.to
        self._published = number = self._published + 1
        try:
            await self._exchange.publish(message, routing_key, mandatory=self._is_mandatory)
        except PublishError:
            raise PublishFailed(
                f"no queue takes the routing key {routing_key!r}",
                code="no_queue",
                result=ResponseClass.SHORTLY,
            ) from None
        except DeliveryError:
            raise PublishFailed("the broker did not take the message", code="nack") from None
        return f"confirmed as message {number} of its channel"

    async def close(self) -> None:
        await self._connection.close()


def _option(target: Target, name: str) -> str:
    """Return an option, which the address may hold too."""
    found = parse_qs(urlsplit(target.address).query).get(name, [""])[0]
    return target.options.get(name) or found
