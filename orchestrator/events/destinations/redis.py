"""Redis and Valkey: an entry of a stream, confirmed by the reply to XADD.

The field `id` is the id of the event, for consumers that drop repeats; a server since 8.6 drops
them itself (IDMP): https://redis.io/docs/latest/commands/xadd/. How durable a confirmed entry is,
the server's `appendfsync` and replication say.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final, cast

import httpx

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
    from redis.asyncio import Redis as Client

_PORT: Final = 6379
#: Seconds in which a connection closes.
_CLOSE_WITHIN: Final = 0.5
#: Commands that are sent together.
_BATCH: Final = 256
#: The first version with `XADD ... IDMP`.
_IDEMPOTENT: Final = (8, 6)
#: Errors of a server that is starting, full, or not the one that takes writes now.
_LATER: Final = frozenset(
    {
        *("LOADING", "OOM", "READONLY", "MASTERDOWN", "MISCONF", "NOREPLICAS", "BUSY"),
        *("MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN"),
    }
)
#: Those of a server that another may have replaced: a new connection finds it.
_ELSEWHERE: Final = frozenset(["LOADING", "READONLY", "MASTERDOWN"])
#: Seconds that a full server is left alone.
_REST: Final = 5.0
_LOGIN: Final = frozenset(["NOAUTH", "WRONGPASS", "NOPERM"])


class Redis(Publisher):
    """A stream of Redis or Valkey."""

    kind = "redis"
    example = "redis://redis.example.com:6379/0?stream=video-events"
    schemes: ClassVar[tuple[str, ...]] = ("redis", "rediss")
    extra: ClassVar[str] = "redis"
    options: ClassVar[Mapping[str, Option]] = {
        "format": formats.OPTION,
        "maxlen": Option(
            "Entries that the stream keeps, about; without it, all.", pattern=r"[1-9]\d{0,9}"
        ),
    }
    credentials: ClassVar[Mapping[str, Option]] = {
        "username": Option("The user, also of the address; without it, the default user."),
        "password": Option("The password of the user."),
    }

    def recognizes(self, address: str) -> bool:
        return address.lower().startswith(("redis://", "rediss://"))

    def check_address(self, address: str) -> None:
        url = httpx.URL(address)
        if url.password:
            raise ConfigError("a password belongs into `credentials`")
        if not url.params.get("stream") or not re.fullmatch(r"/?\d{0,5}", url.path):
            raise ConfigError(f"an address is {self.example}")

    def encode(self, target: Target, message: Message) -> Publication:
        """Return the entry: the fields `id`, `type`, `job`, `content-type` and `body`."""
        body, content_type = formats.encoded(target, message)
        fields = {"id": message.event_id, "type": message.type, "content-type": content_type}
        if message.job_id is not None:
            fields["job"] = message.job_id
        stream = httpx.URL(target.address).params["stream"]
        return Publication(message.event_id, stream, body, fields, message.job_id)

    async def open(self, target: Target, tls: ssl.SSLContext) -> Connection:
        """Connect, log in, and look whether the server drops repeats."""
        from redis.exceptions import RedisError

        client = _client(target, tls)
        try:
            drops = await _drops_repeats(client)
        except BaseException as error:
            await client.aclose()
            if isinstance(error, RedisError) and (known := _failure(error)) is not None:
                raise known from None
            raise
        maxlen = target.options.get("maxlen")
        return _Pipelined(client, int(maxlen) if maxlen else None, drops_repeats=drops)


class _Pipelined(Connection):
    """One connection. What is published while a batch is under way makes the next batch."""

    def __init__(self, client: Client, maxlen: int | None, *, drops_repeats: bool) -> None:
        self._client = client
        self._maxlen = maxlen
        self._drops_repeats = drops_repeats
        self._waiting: list[tuple[Publication, asyncio.Future[str]]] = []
        self._sending: asyncio.Task[None] | None = None
        self._is_open = True

    @property
    def is_open(self) -> bool:
        return self._is_open

    async def publish(self, publication: Publication) -> str:
        if not self._is_open:
            raise ConnectionResetError("the connection was closed")
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._waiting.append((publication, future))
        if self._sending is None:
            self._sending = asyncio.create_task(self._send())
        return await future

    async def close(self) -> None:
        self._is_open = False
        if self._sending is not None:
            self._sending.cancel()
            # The library may lose a cancellation between two commands.
            await asyncio.wait([self._sending], timeout=_CLOSE_WITHIN)
        await self._client.aclose()

    async def _send(self) -> None:
        batch: list[tuple[Publication, asyncio.Future[str]]] = []
        try:
            while self._waiting:
                if not self._is_open:
                    raise ConnectionResetError("the connection was closed")
                batch, self._waiting = self._waiting[:_BATCH], self._waiting[_BATCH:]
                # Those that were given up meanwhile may no longer leave.
                batch = [one for one in batch if not one[1].done()]
                self._settle(batch, await self._add([one for one, _ in batch]))
        except BaseException as error:
            self._is_open = False
            cause = error if isinstance(error, Exception) else ConnectionResetError("closed")
            for _, future in batch + self._waiting:
                _fail(future, _failure(cause) or cause)
            self._waiting = []
            if not isinstance(error, Exception):
                raise
        finally:
            self._sending = None

    async def _add(self, publications: list[Publication]) -> list[Any]:
        """Return the id, or the error, of each entry."""
        pipeline = self._client.pipeline(transaction=False)
        for one in publications:
            pipeline.xadd(
                one.to,
                dict[Any, Any](one.headers) | {"body": one.body},
                maxlen=self._maxlen,
                idmp=("orchestrator", one.id.encode()) if self._drops_repeats else None,
            )
        return list(await pipeline.execute(raise_on_error=False))

    def _settle(
        self, batch: list[tuple[Publication, asyncio.Future[str]]], results: list[Any]
    ) -> None:
        for (publication, future), result in zip(batch, results, strict=True):
            if isinstance(result, Exception):
                error = _failure(result) or result
                if getattr(error, "is_broken", True):
                    self._is_open = False
                _fail(future, error)
            elif not future.done():
                future.set_result(f"stream {publication.to}, entry {result.decode()}")


def _client(target: Target, tls: ssl.SSLContext) -> Client:
    """Return a client with one connection, which neither retries nor reconnects."""
    from redis.asyncio import BlockingConnectionPool
    from redis.asyncio import Redis as Client
    from redis.asyncio.connection import Connection as Plain
    from redis.asyncio.connection import SSLConnection
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    def encrypted(**arguments: Any) -> SSLConnection:
        made = SSLConnection(**arguments)
        made.ssl_context.context = tls
        return made

    url = httpx.URL(target.address)
    pool = BlockingConnectionPool(
        max_connections=1,
        connection_class=cast(Any, encrypted if url.scheme == "rediss" else Plain),
        host=url.host,
        port=url.port or _PORT,
        db=int(url.path.strip("/") or 0),
        username=target.credentials.get("username") or url.username or None,
        password=target.credentials.get("password"),
        # Beside AUTH and XADD no command has to be permitted.
        protocol=2,
        driver_info=None,
        retry=Retry(NoBackoff(), 0),
        # The engine limits the time.
        socket_timeout=None,
        socket_connect_timeout=10,
    )
    return Client.from_pool(pool)


async def _drops_repeats(client: Client) -> bool:
    """Return whether XADD knows IDMP. A user without the right to ask gets no such entries."""
    from redis.exceptions import ResponseError

    try:
        about = await client.info("server")
    except ResponseError:
        return False
    numbers = re.findall(r"\d+", str(about.get("redis_version", "")))
    return "valkey_version" not in about and tuple(map(int, numbers[:2])) >= _IDEMPOTENT


def _failure(error: Exception) -> PublishFailed | None:
    """Return an error of the server as ours; None for one of the connection."""
    word = getattr(error, "status_code", None) or str(error).partition(" ")[0]
    if word in _LATER:
        message = str(error) if str(error).startswith(word) else f"{word} {error}"
        is_broken, rest = word in _ELSEWHERE, _REST if word == "OOM" else None
        return PublishFailed(message, code=word.lower(), rest=rest, is_broken=is_broken)
    if word in _LOGIN or "invalid password" in str(error):
        message = "the server refuses the credentials"
        return PublishFailed(message, code="credentials_refused", result=ResponseClass.SHORTLY)
    from redis.exceptions import ResponseError

    if isinstance(error, ResponseError):
        code = "wrong_type" if word == "WRONGTYPE" else "refused"
        return PublishFailed(str(error), code=code, result=ResponseClass.SHORTLY)
    return None


def _fail(future: asyncio.Future[str], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
