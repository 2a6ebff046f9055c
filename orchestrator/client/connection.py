"""One server, and calls to it: sent, read, capped, and sent again where that is safe. Sockets are behind a `Port`."""

from __future__ import annotations

import ipaddress
import math
import os
import ssl
from dataclasses import dataclass
from typing import Protocol, TypedDict
from urllib.parse import urlsplit

import httpx

from orchestrator import __version__
from orchestrator.client import errors
from orchestrator.client.requests import Request
from orchestrator.client.responses import Answer, answered
from orchestrator.client.retries import Retries
from orchestrator.foundation.errors import ConfigError

#: More than any list of ours; a server that says more is not ours.
CAP = 32 * 2**20
_CONNECT = 5.0
#: Seconds beyond its silence that an answer may take to arrive: one that drips would never be complete.
_ARRIVING = 60.0


class Opened(Protocol):
    """An answer whose body is still to be read."""

    status: int
    headers: httpx.Headers

    async def read(self) -> bytes:
        """Return the next piece of the body, nothing at its end. Raises `Unreachable`."""
        ...

    async def close(self) -> None:
        """Let go of it, read or not."""
        ...


class Port(Protocol):
    """What a client needs of the world. The blocking one waits inside, and so never suspends its caller."""

    async def open(self, request: Request, target: Target, limits: httpx.Timeout) -> Opened:
        """Send a request and return the head of its answer. Raises `Unreachable`."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never go back."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        ...

    async def close(self) -> None:
        """Close connections that are the port's own."""
        ...


@dataclass(frozen=True, slots=True, repr=False)
class Target:
    """Where a server is and the key for it, which is never shown."""

    url: str
    key: str | None
    agent: str

    @classmethod
    def of(cls, server: str | None, api_key: str | None, user_agent: str | None) -> Target:
        """Return what was given, or what the environment says. Raises `ConfigError`."""
        url = (
            (server or os.environ.get("ORCHESTRATOR_SERVER") or "http://127.0.0.1:8080")
            .strip()
            .rstrip("/")
        )
        key = (api_key or os.environ.get("ORCHESTRATOR_API_KEY") or "").strip() or None
        if key and not (key.isascii() and key.isprintable()):
            raise ConfigError("the API key holds characters that no key has")
        try:
            parts = urlsplit(url)
            usable = parts.scheme in ("http", "https") and parts.hostname and httpx.URL(url)
        except (ValueError, httpx.InvalidURL):
            usable = None
        if not usable:
            raise ConfigError(
                "the server must be a URL with http:// or https://, such as http://127.0.0.1:8080"
            )
        return cls(
            url, key, " ".join(filter(None, (user_agent, f"orchestrator-python/{__version__}")))
        )

    def __str__(self) -> str:
        """Return the URL without a user's password in it."""
        parts = urlsplit(self.url)
        return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()

    __repr__ = __str__

    def headers(self, request: Request) -> dict[str, str]:
        """Return the headers of a request to it."""
        own = {
            "user-agent": self.agent,
            "accept-encoding": "identity",
            "accept": "application/json",
        }
        own |= {name.lower(): value for name, value in request.headers.items()}
        return own | ({"authorization": f"Bearer {self.key}"} if self.key else {})


def is_loopback(url: str) -> bool:
    """True if the URL's host is this machine by name or number."""
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        return False
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Way(TypedDict):
    """How an httpx client gets to a server."""

    trust_env: bool
    verify: ssl.SSLContext | bool


def way(url: str) -> Way:
    """Return how to get to a URL, where redirects are not followed.

    No proxy of the environment leads to this machine's loopback. Without https nobody's certificate is believed:
    reading the authorities takes longer than most calls.
    """
    secure = url.lower().startswith("https:")
    return Way(
        trust_env=not is_loopback(url), verify=secure or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    )


@dataclass(frozen=True, slots=True)
class Wire:
    """A server as the resources know it."""

    port: Port
    target: Target
    timeout: float
    retries: Retries

    async def call(self, request: Request) -> Answer:
        """Return the answer to a call, sent again where that is safe. Raises `ClientError`."""
        tries = 1
        while True:
            try:
                return await self.once(request)
            except errors.ClientError as error:
                pause = self.retries.after(request, error, tries)
                if pause is None:
                    raise
            tries += 1
            await self.port.sleep(pause)

    async def once(self, request: Request, patience: float = math.inf) -> Answer:
        """Return the answer to a call that is sent once, and at most waited for so long. Raises `ClientError`."""
        silence = min(self.timeout + request.held, patience)
        ends = self.port.monotonic() + min(silence + _ARRIVING, patience)
        opened = await self.open(request, silence)
        try:
            body = await self.body(request, opened, ends)
        finally:
            await opened.close()
        return answered(request, str(self.target), opened.status, opened.headers, body)

    async def open(self, request: Request, silence: float) -> Opened:
        """Return an answer that is still to be read; none of its pieces may take longer. Raises `Unreachable`."""
        timeout = httpx.Timeout(silence, connect=min(_CONNECT, self.timeout))
        return await self.port.open(request, self.target, timeout)

    async def body(self, request: Request, opened: Opened, ends: float) -> bytes:
        """Return the rest of an answer. Raises `Unreachable`, at the instant `ends` too, and `NotOurs` if too large."""
        body = bytearray()
        while piece := await opened.read():
            body += piece
            if self.port.monotonic() > ends:
                message = f"{request.method} {request.path}: {self.target} did not come to the end of its answer"
                raise errors.Unreachable(
                    message, sent=True, idempotency_key=request.idempotency_key
                )
            if len(body) > CAP:
                raise errors.NotOurs(f"{self.target} answered with more than {CAP >> 20} MiB")
        return bytes(body)
