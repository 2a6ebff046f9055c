"""A loopback server that answers with raw bytes, and a client for it."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx

from orchestrator.egress.address_policy import AddressPolicy
from orchestrator.egress.http_client import HttpClient
from orchestrator.egress.transport import GuardedTransport
from tests.harness.streams import accepting

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

LOOPBACK = AddressPolicy(["127.0.0.0/8"])
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


async def read_request(reader: asyncio.StreamReader) -> bytes:
    """Return one whole request as sent; empty if the client hung up."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return b""
    lines = [line.partition(b":") for line in head.lower().split(b"\r\n")]
    length = next((int(value) for name, _, value in lines if name == b"content-length"), 0)
    return head + await reader.readexactly(length)


class Server:
    """A loopback server that handles every request with `answer` and records the requests."""

    def __init__(self, answer: Handler) -> None:
        self.answer = answer
        self.connections = 0
        self.requests: list[bytes] = []
        self.arrivals = asyncio.Semaphore(0)
        self.port = 0

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while not writer.is_closing() and (request := await read_request(reader)):
                self.requests.append(request)
                self.arrivals.release()
                await self.answer(reader, writer)
        except ConnectionError:
            writer.transport.abort()
        finally:
            writer.close()

    def url(self, path: str = "/", scheme: str = "http", host: str = "127.0.0.1") -> str:
        return f"{scheme}://{host}:{self.port}{path}"


@contextlib.asynccontextmanager
async def serving(answer: Handler, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    server = Server(answer)
    async with accepting(server.handle, tls=tls) as server.port:
        yield server


@contextlib.asynccontextmanager
async def open_client(
    policy: AddressPolicy = LOOPBACK, *, fresh: bool = False, tls: ssl.SSLContext | None = None
) -> AsyncIterator[HttpClient]:
    client = HttpClient(GuardedTransport(policy, fresh=fresh, tls=tls))
    try:
        yield client
    finally:
        await client.aclose()


def responding(*parts: bytes, close: bool = False) -> Handler:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for part in parts:
            writer.write(part)
            await writer.drain()
        if close:
            writer.close()

    return answer


def post(url: str, **headers: str) -> httpx.Request:
    return httpx.Request("POST", url, content=b"hello", headers=headers)
