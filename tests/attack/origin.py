"""A scripted HTTP server on loopback: a vendor, a subscriber or a host of files, hostile or not."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from tests.harness.api_caller import until
from tests.harness.streams import accepting


@dataclass
class Asked:
    """One request."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """Its body."""
        return json.loads(self.body)


#: Writes the answer to a request, whatever that is.
Answer = Callable[[Asked, asyncio.StreamWriter], Coroutine[None, None, None]]


@dataclass
class Origin:
    """Answers each request by `answer`, and keeps it."""

    port: int = 0
    answer: Answer = field(default_factory=lambda: replies(200, b"{}"))
    asked: list[Asked] = field(default_factory=list)
    #: False if requests are not kept in `asked`.
    keep: bool = True
    #: Bytes that were written in answers, for those that count them.
    sent: int = 0

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def count(self, method: str, path: str = "") -> int:
        """Return the number of requests of a method at a path."""
        return sum(each.method == method and path in each.path for each in self.asked)

    async def gets(self, count: int, seconds: float = 15) -> None:
        """Wait until this many requests came."""
        await until(lambda: len(self.asked) >= count, f"{count} requests come", seconds)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until either side closes it."""
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while asked := await _request(reader):
                if self.keep:
                    self.asked.append(asked)
                await self.answer(asked, writer)
                await writer.drain()
        writer.close()


async def _request(reader: asyncio.StreamReader) -> Asked | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.strip().split("\r\n")
    method, path, _ = first.split(" ", 2)
    pairs = (line.partition(":") for line in lines)
    headers = {name.lower(): value.strip() for name, _, value in pairs}
    if headers.get("transfer-encoding") == "chunked":
        body = b""
        while size := int((await reader.readline()).split(b";")[0], 16):
            body += await reader.readexactly(size)
            await reader.readexactly(2)
        await reader.readline()
    else:
        body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Asked(method, path, headers, body)


def response(status: int, body: bytes, **headers: str) -> bytes:
    """Return the bytes of a response."""
    named = {"content-length": str(len(body)), "content-type": "application/json"}
    named |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = "".join(f"{name}: {value}\r\n" for name, value in named.items())
    return f"HTTP/1.1 {status} Status\r\n{lines}\r\n".encode() + body


def replies(status: int, body: bytes, **headers: str) -> Answer:
    """Return an answer that is always the same."""

    async def answer(_: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(response(status, body, **headers))

    return answer


def dreamto() -> Answer:
    """Return answers of a vendor that accepts every job and never ends one."""
    numbers = itertools.count(1)

    async def answer(asked: Asked, writer: asyncio.StreamWriter) -> None:
        name = f"task_{next(numbers)}" if asked.method == "POST" else asked.path.split("/")[-1]
        body = json.dumps({"id": name, "object": "job", "status": "processing"}).encode()
        writer.write(response(200, body))

    return answer


@contextlib.asynccontextmanager
async def origin(answer: Answer | None = None) -> AsyncIterator[Origin]:
    """Run a server during the block."""
    it = Origin()
    it.answer = answer or it.answer
    async with accepting(it.serve) as port:
        it.port = port
        yield it
