"""NATS JetStream: a message in a stream, confirmed by its acknowledgement.

`Nats-Msg-Id` is the id of the event, so the stream drops a repeat within its `duplicate_window`:
https://docs.nats.io/using-nats/developer/develop_jetstream/model_deep_dive#message-deduplication
CloudEvents are sent in structured mode, the one of the binding 1.0.2:
https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/nats-protocol-binding.md
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import ssl
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final
from urllib.parse import unquote

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
    from nats.aio.client import Client
    from nats.aio.msg import Msg

#: Seconds in which a connection closes.
_CLOSE_WITHIN: Final = 0.5
#: Tokens without wildcards: https://docs.nats.io/nats-concepts/subjects
_SUBJECT: Final = re.compile(r"[^\s.*>\x00-\x1f]+(\.[^\s.*>\x00-\x1f]+)*")
_CREDENTIALS: Final = r"SU[A-Z2-7]{56}|-----BEGIN NATS USER JWT-----[^\0]{1,8000}"
#: Headers with a meaning for the server or for CloudEvents.
_OURS: Final = ("nats-", "ce-", "content-type")


class Nats(Publisher):
    """A subject of NATS that a JetStream stream stores."""

    kind = "nats"
    example = "nats://nats.example.com:4222/video.events"
    schemes: ClassVar[tuple[str, ...]] = ("nats", "tls")
    extra: ClassVar[str] = "nats"
    options: ClassVar[Mapping[str, Option]] = {"format": formats.OPTION}
    credentials: ClassVar[Mapping[str, Option]] = {
        "username": Option("The user, also of the address, with its password."),
        "password": Option("The password of the user."),
        "token": Option("An authentication token."),
        "secret": Option("An nkey seed, or the content of a .creds file.", pattern=_CREDENTIALS),
    }

    def recognizes(self, address: str) -> bool:
        return address.lower().startswith("nats://")

    def check_address(self, address: str) -> None:
        if httpx.URL(address).password:
            raise ConfigError("a password belongs into `credentials`")
        if not _SUBJECT.fullmatch(_subject(address)):
            raise ConfigError(f"the path is not a subject; an address is {self.example}")

    def encode(self, target: Target, message: Message) -> Publication:
        """Return the event with its id as `Nats-Msg-Id`, and the subscriber's own headers."""
        body, content_type = formats.encoded(target, message)
        own = {k: v for k, v in target.headers.items() if not k.lower().startswith(_OURS)}
        headers = {**own, "Content-Type": content_type, "Nats-Msg-Id": message.event_id}
        to = _subject(target.address)
        return Publication(message.event_id, to, body, headers, message.job_id)

    async def open(self, target: Target, tls: ssl.SSLContext) -> Connection:
        """Connect and log in. Over `tls://`, nothing is sent to a server that does not encrypt."""
        from nats import errors
        from nats.aio.client import Client

        client, url = Client(), httpx.URL(target.address)
        made = _Acknowledged(client)
        if url.scheme == "tls":
            _require_tls(client)
        try:
            await client.connect(
                f"{url.scheme}://{url.netloc.decode('ascii').rpartition('@')[2]}",
                tls=tls,
                name="orchestrator",
                allow_reconnect=False,
                # Two tries: the library has no smaller number.
                max_reconnect_attempts=1,
                reconnect_time_wait=0,
                connect_timeout=10,
                ping_interval=20,
                closed_cb=made.on_closed,
                error_cb=made.on_error,
                lame_duck_mode_cb=made.on_closed,
                **_login({"username": url.username, **target.credentials}),
            )
            await made.listen()
        except BaseException as error:
            await _close(client)
            if isinstance(error, errors.Error) and _is_refusal(str(error)):
                raise _refused("the server refuses the credentials") from None
            if isinstance(error, errors.NoServersError) and made.last_error is not None:
                raise made.last_error from None
            raise
        return made


class _Acknowledged(Connection):
    """A connection that waits for the acknowledgement of each message.

    Not by `JetStreamContext.publish`: what waits there waits on when the connection is lost.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._waiting: dict[str, asyncio.Future[str]] = {}
        self._inbox = client.new_inbox()
        self._count = 0
        self._is_open = True
        #: Why it could not connect: the library raises another error.
        self.last_error: Exception | None = None

    @property
    def is_open(self) -> bool:
        return self._is_open and bool(self._client.is_connected)

    async def listen(self) -> None:
        """Subscribe to the acknowledgements."""
        await self._client.subscribe(f"{self._inbox}.*", cb=self._on_reply)

    async def publish(self, publication: Publication) -> str:
        from nats.errors import MaxPayloadError

        self._count += 1
        reply = f"{self._inbox}.{self._count}"
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._waiting[reply] = future
        headers = dict(publication.headers)
        try:
            await self._client.publish(publication.to, publication.body, reply, headers)
            return await future
        except MaxPayloadError:
            message = f"the server takes messages of up to {self._client.max_payload} bytes"
            raise _misfit(message, "message_too_large") from None
        finally:
            del self._waiting[reply]

    async def close(self) -> None:
        await _close(self._client)

    async def on_closed(self) -> None:
        """The connection ended, or its server is about to stop."""
        self._is_open = False
        if not self._client.is_connected:
            self._fail(ConnectionResetError("the connection was closed"))

    async def on_error(self, error: Exception) -> None:
        """An error that is no reply. All messages of a subscriber have one subject."""
        self.last_error = error
        if "permissions violation for publish" in str(error).lower():
            self._fail(_refused("the server does not permit this subject to this user"))

    def _fail(self, error: Exception) -> None:
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(error)

    async def _on_reply(self, message: Msg) -> None:
        future = self._waiting.get(message.subject)
        if future is None or future.done():
            return
        try:
            future.set_result(_receipt(message))
        except PublishFailed as error:
            future.set_exception(error)


async def _close(client: Client) -> None:
    """Close a client. After a TLS handshake that failed, its stream never ends by itself."""
    with contextlib.suppress(Exception):
        async with asyncio.timeout(_CLOSE_WITHIN):
            await client.close()


def _subject(address: str) -> str:
    return unquote(httpx.URL(address).raw_path.partition(b"?")[0].decode("ascii")).lstrip("/")


def _login(credentials: Mapping[str, str]) -> dict[str, Any]:
    """Return the arguments of `Client.connect` that log in."""
    if secret := credentials.get("secret"):
        from nats.aio.client import RawCredentials

        is_seed = secret.startswith("SU")
        return (
            {"nkeys_seed_str": secret} if is_seed else {"user_credentials": RawCredentials(secret)}
        )
    if token := credentials.get("token"):
        return {"token": token}
    user, password = credentials.get("username"), credentials.get("password")
    return {"user": user, "password": password} if user else {}


def _require_tls(client: Client) -> None:
    """Let a client log in over TLS alone. It would fall back if the server does not ask for TLS."""
    command: Any = client._connect_command

    def guarded() -> bytes:
        if not client._server_info.get("tls_required"):
            raise ssl.SSLError("the server does not encrypt; its address is tls://")
        made: bytes = command()
        return made

    setattr(client, "_connect_command", guarded)  # noqa: B010


def _is_refusal(message: str) -> bool:
    return "authorization" in message.lower() or "authentication" in message.lower()


def _receipt(message: Msg) -> str:
    """Return the receipt of an acknowledgement. Raises `PublishFailed` if it is an error."""
    if message.headers and message.headers.get("Status") == "503":
        raise _misfit("no stream stores this subject", "no_stream")
    try:
        ack = json.loads(message.data)
    except (ValueError, RecursionError):
        ack = None
    if isinstance(ack, dict) and isinstance(error := ack.get("error"), Mapping):
        raise _api_error(error)
    # Another subscriber of the subject may answer too: only a stream stores the message.
    if not (isinstance(ack, dict) and isinstance(ack.get("stream"), str) and ack.get("seq")):
        raise PublishFailed("the answer is no acknowledgement", code="unreadable_answer")
    duplicate = ", a repeat that it dropped" if ack.get("duplicate") else ""
    return f"stream {ack.get('stream')}, sequence {ack.get('seq')}{duplicate}"


def _api_error(error: Mapping[str, Any]) -> PublishFailed:
    """https://github.com/nats-io/nats-server/blob/main/server/errors.json"""
    message = f"{error.get('description')} ({error.get('err_code')})"
    if error.get("code") in (500, 503):
        # No leader, no memory, no disk, or a full stream that discards what is new.
        return PublishFailed(message, code="stream_unavailable")
    return _misfit(message, "stream_refused")


def _misfit(message: str, code: str) -> PublishFailed:
    return PublishFailed(message, code=code, result=ResponseClass.SHORTLY)


def _refused(message: str) -> PublishFailed:
    return _misfit(message, "credentials_refused")
