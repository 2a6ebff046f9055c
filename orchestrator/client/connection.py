"""A connection to one server: sends, reads, caps and retries calls. Sockets: `Transport`."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import IO, Protocol, TypeVar
from urllib.parse import urlsplit

import httpx

from orchestrator import __version__
from orchestrator.client import errors
from orchestrator.client.environment import environment_key
from orchestrator.client.requests import Request
from orchestrator.client.responses import Answer, parse_response
from orchestrator.client.retries import Retries
from orchestrator.foundation.errors import ConfigError

T = TypeVar("T")

DEFAULT_SERVER = "http://127.0.0.1:8080"
#: Bytes of a response body, at most: more than any list of this API has.
MAX_BODY = 32 * 2**20
_CONNECT_TIMEOUT = 5.0
#: Seconds, on top of the read timeout, for a whole body. A read timeout alone does not end a
#: response that arrives byte by byte.
_BODY_TIMEOUT = 60.0


class OpenResponse(Protocol):
    """A response whose body is not read yet."""

    status: int
    headers: httpx.Headers

    async def read(self) -> bytes:
        """Return the next chunk of the body, empty at its end. Raises `Unreachable`."""
        ...

    async def close(self) -> None:
        """Release the connection, whether the body is read or not."""
        ...


class Transport(Protocol):
    """The network and the clock. The synchronous transport blocks and never suspends its caller."""

    async def open(self, request: Request, timeouts: httpx.Timeout) -> OpenResponse:
        """Send a request and return the head of its response. Raises `Unreachable`."""
        ...

    def monotonic(self) -> float:
        """Return monotonic seconds."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Sleep."""
        ...

    async def close(self) -> None:
        """Close the connections, unless they belong to the caller."""
        ...


@dataclass(frozen=True, slots=True, repr=False)
class Target:
    """A server's URL and the API key for it. The key is never shown."""

    url: str
    key: str | None
    agent: str

    @classmethod
    def of(cls, server: str | None, api_key: str | None, user_agent: str | None) -> Target:
        """Return the arguments, completed from the environment. Raises `ConfigError`."""
        url = (server or os.environ.get("ORCHESTRATOR_SERVER") or DEFAULT_SERVER).strip()
        url = url.rstrip("/")
        key = (api_key or environment_key(url) or "").strip() or None
        if key and not (key.isascii() and key.isprintable()):
            raise ConfigError("the API key has characters that are not printable ASCII")
        try:
            parts = urlsplit(url)
            usable = parts.scheme in ("http", "https") and parts.hostname and httpx.URL(url)
        except (ValueError, httpx.InvalidURL):
            usable = None
        if not usable:
            raise ConfigError(
                "the server must be a URL with http:// or https://, such as http://127.0.0.1:8080"
            )
        agent = f"orchestrator-python/{__version__}"
        if user_agent and not (user_agent.isascii() and user_agent.isprintable()):
            raise ConfigError("the user agent has characters that are not printable ASCII")
        return cls(url, key, f"{user_agent} {agent}" if user_agent else agent)

    def __str__(self) -> str:
        """Return the URL without user and password."""
        parts = urlsplit(self.url)
        return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()

    __repr__ = __str__

    def headers(self, request: Request) -> dict[str, str]:
        """Return the headers of a request."""
        return {
            "user-agent": self.agent,
            "accept-encoding": "identity",
            "accept": "application/json",
            **{name.lower(): value for name, value in request.headers.items()},
            **({"authorization": f"Bearer {self.key}"} if self.key else {}),
        }


@dataclass(frozen=True, slots=True)
class Connection:
    """A server, with the transport, timeout and retries of the calls to it."""

    transport: Transport
    target: Target
    timeout: float
    retries: Retries

    async def call(self, request: Request) -> Answer:
        """Return the response, retried where that is safe. Raises `ClientError`."""
        return await self.retried(request, self.call_once)

    async def retried(self, request: Request, attempt: Callable[[Request], Awaitable[T]]) -> T:
        """Return the result of `attempt`, retried where that is safe. Raises `ClientError`."""
        tries = 1
        while True:
            try:
                return await attempt(request)
            except errors.ClientError as error:
                delay = self.retries.delay(request, error, tries)
                if delay is None:
                    raise
            tries += 1
            await self.transport.sleep(delay)

    async def call_once(self, request: Request, longest: float = math.inf) -> Answer:
        """Return the response to a single attempt of at most `longest` s. Raises `ClientError`."""
        read_timeout = min(self.timeout + request.hold, longest)
        ends = self.transport.monotonic() + min(read_timeout + _BODY_TIMEOUT, longest)
        response = await self.open(request, read_timeout)
        try:
            body = await self.read_body(request, response, ends)
        finally:
            await response.close()
        return parse_response(request, str(self.target), response.status, response.headers, body)

    async def open(self, request: Request, read_timeout: float) -> OpenResponse:
        """Return a response with its body unread. Raises `Unreachable`."""
        timeout = httpx.Timeout(read_timeout, connect=min(_CONNECT_TIMEOUT, self.timeout))
        return await self.transport.open(request, timeout)

    async def download(self, request: Request, to: IO[bytes]) -> int:
        """Write the body of a 200 to a file, and return its size. Raises `ClientError`, `OSError`.

        A single attempt: part of the file may have been written.
        """
        response = await self.open(request, self.timeout)
        try:
            if response.status != httpx.codes.OK:
                ends = self.transport.monotonic() + self.timeout
                body = await self.read_body(request, response, ends)
                server, headers = str(self.target), response.headers
                parse_response(request, server, response.status, headers, body)
                raise errors.NotOurs(f"{server} answered {response.status} instead of a file")
            size = 0
            while chunk := await response.read():
                size += to.write(chunk)
            return size
        finally:
            await response.close()

    async def read_body(self, request: Request, response: OpenResponse, ends: float) -> bytes:
        """Return the rest of a response, which must be complete by the monotonic time `ends`.

        Raises `Unreachable`, and `NotOurs` if it is longer than `MAX_BODY`.
        """
        body = bytearray()
        while chunk := await response.read():
            body += chunk
            if self.transport.monotonic() > ends:
                raise errors.Unreachable(
                    f"{request.method} {request.path}: {self.target} "
                    "did not come to the end of its answer",
                    sent=True,
                    idempotency_key=request.idempotency_key,
                )
            if len(body) > MAX_BODY:
                raise errors.NotOurs(f"{self.target} answered with more than {MAX_BODY >> 20} MiB")
        return bytes(body)
