"""A kept HTTP/1.1 connection that sends bytes as they are, and reads each answer whole."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from tests.attack.wire import close_writer

#: Seconds after which a request without an answer hangs.
HANG = 30.0


@dataclass(frozen=True)
class Request:
    """One input. `operation` names it in the table."""

    operation: str
    data: bytes
    #: True if the answer is a stream, of which the head is read.
    stream: bool = False
    #: True if the connection may be closed without an answer: it is no HTTP.
    malformed: bool = False


class Connection:
    """Sends one request after the other. A closed connection is opened again."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def exchange(self, request: Request) -> tuple[int, bytes]:
        """Return status and body; 0 if the connection was closed without an answer.

        A kept connection may be closed as a request is sent: it is sent once more on a new one.
        Raises `TimeoutError` if no answer comes.
        """
        kept = self._reader is not None and not self._reader.at_eof()
        async with asyncio.timeout(HANG):
            try:
                return await self._try(request)
            except (ConnectionError, asyncio.IncompleteReadError):
                self.close()
            if not kept:
                return 0, b""
            try:
                return await self._try(request)
            except (ConnectionError, asyncio.IncompleteReadError):
                self.close()
                return 0, b""

    async def _try(self, request: Request) -> tuple[int, bytes]:
        if self._reader is None or self._writer is None or self._reader.at_eof():
            self.close()
            self._reader, self._writer = await asyncio.open_connection(
                "127.0.0.1", self._port, limit=1 << 20
            )
        self._writer.write(request.data)
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        while head.startswith("http/1.1 100"):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        status = int(head[9:12])
        if request.stream and status == 200:
            self.close()
            return status, b""
        # The answer to HEAD has a length and no body.
        body = b"" if request.data.startswith(b"HEAD ") else await self._body(head, status)
        if "connection: close" in head or request.malformed:
            self.close()
        return status, body

    async def _body(self, head: str, status: int) -> bytes:
        assert self._reader is not None
        if status in (204, 304):
            return b""
        if "transfer-encoding: chunked" in head:
            body = b""
            while size := int(await self._reader.readline(), 16):
                body += await self._reader.readexactly(size)
                await self._reader.readexactly(2)
            await self._reader.readexactly(2)
            return body
        _, found, rest = head.partition("content-length:")
        if not found:
            return await self._reader.read()
        return await self._reader.readexactly(int(rest.split("\r\n")[0]))

    def close(self) -> None:
        """Reset the connection."""
        if self._writer is not None:
            close_writer(self._writer)
        self._reader = self._writer = None
