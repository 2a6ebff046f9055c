"""The HTTP client: a deadline over the whole exchange, and a cap on the body."""

from __future__ import annotations

from typing import Literal

import httpx

from orchestrator.foundation.errors import CutOff, NotSent
from orchestrator.foundation.timeouts import Timeouts

_NOT_SENT = (
    httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol,
)  # fmt: skip


class FullResponse(httpx.Response):
    """A response with its body read. Nothing is decoded: a small gzip may be a huge body."""

    def __init__(self, head: httpx.Response, request: httpx.Request, body: bytes) -> None:
        super().__init__(
            head.status_code,
            headers=head.headers,
            stream=httpx.ByteStream(body),
            request=request,
            extensions=head.extensions,
        )
        self._body = body

    @property
    def content(self) -> bytes:
        """The body as received."""
        return self._body


class HttpClient:
    """Sends a request and reads its whole response, within a deadline and a size."""

    def __init__(self, transport: httpx.AsyncBaseTransport) -> None:
        self._transport = transport
        self._timeouts = Timeouts()

    async def send(
        self,
        request: httpx.Request,
        *,
        deadline: float,
        cap: int = 64 * 1024,
        overflow: Literal["error", "truncate"] = "error",
    ) -> httpx.Response:
        """Return the response, read to its end.

        `deadline` is in seconds, from the connection attempt to the last byte. `content` is as
        received, never decompressed, whatever Content-Encoding says. Of a body over `cap` bytes the
        first `cap` are returned with `extensions["truncated"]`; with overflow="error" it is
        `CutOff`. Raises `NotSent` (also `Blocked`) and `CutOff`.
        """
        try:
            async with self._timeouts.within(deadline):
                response = await self._transport.handle_async_request(request)
                body = await _read(response, cap)
        except TimeoutError:
            # A transport that does not set `sent` may have sent the request.
            kind = CutOff if request.extensions.get("sent", True) else NotSent
            message = f"{request.url.host}: no answer within {deadline:g} s"
            raise kind(message, kind="timeout") from None
        except _NOT_SENT as error:
            raise NotSent(str(error)) from error
        except httpx.TransportError as error:
            raise CutOff(str(error)) from error
        if len(body) > cap and overflow == "error":
            raise CutOff(f"{request.url.host}: more than {cap} bytes", kind="too_large")
        full = FullResponse(response, request, body[:cap])
        if len(body) > cap:
            full.extensions["truncated"] = True
        return full

    async def aclose(self) -> None:
        await self._transport.aclose()


async def _read(response: httpx.Response, cap: int) -> bytes:
    """Return the body, or its beginning if it is over `cap` bytes."""
    stream = response.stream
    assert isinstance(stream, httpx.AsyncByteStream)
    chunks, size = [], 0
    try:
        async for chunk in stream:
            chunks.append(chunk)
            size += len(chunk)
            if size > cap:
                break
    finally:
        await stream.aclose()
    return b"".join(chunks)
