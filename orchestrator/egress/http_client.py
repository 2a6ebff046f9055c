"""All egress: one door, with a deadline over the whole exchange and a cap on what is read."""

from __future__ import annotations

from typing import Literal

import httpx

from orchestrator.foundation.errors import CutOff, NotSent
from orchestrator.foundation.timeouts import Timeouts


class FullResponse(httpx.Response):
    """An answer and the body that was read. Nothing is decoded: a small gzip can be a huge body."""

    def __init__(self, head: httpx.Response, request: httpx.Request, body: bytes) -> None:
        stream = httpx.ByteStream(body)
        super().__init__(
            head.status_code,
            headers=head.headers,
            stream=stream,
            request=request,
            extensions=head.extensions,
        )
        self._whole = body

    @property
    def content(self) -> bytes:
        """The body as received."""
        return self._whole


class HttpClient:
    """Sends one request and reads its whole answer, within a deadline and a size."""

    def __init__(self, transport: httpx.AsyncBaseTransport) -> None:
        self._transport = transport
        self._deadlines = Timeouts()

    async def send(
        self,
        request: httpx.Request,
        *,
        deadline: float,
        cap: int = 64 * 1024,
        overflow: Literal["error", "truncate"] = "error",
    ) -> httpx.Response:
        """The answer, read to its end in at most `deadline` seconds, from the connection attempt to the last byte.

        `content` is as received, never decompressed, whatever Content-Encoding says. Of a body over `cap` bytes the
        first `cap` are returned with `extensions["truncated"]`, or with overflow="error" it is `CutOff`.
        Raises `NotSent` (also `Blocked`) and `CutOff`.
        """
        try:
            async with self._deadlines.within(deadline):
                response = await self._transport.handle_async_request(request)
                body = await _read(response, cap)
        except TimeoutError:
            # A transport that does not say whether the request left is taken to have sent it.
            outcome = CutOff if request.extensions.get("sent", True) else NotSent
            raise outcome(
                f"{request.url.host}: no answer within {deadline:g} s", kind="timeout"
            ) from None
        except (
            httpx.ConnectError,
            httpx.ConnectTimeout,
            httpx.PoolTimeout,
            httpx.UnsupportedProtocol,
        ) as error:
            raise NotSent(str(error)) from error
        except httpx.TransportError as error:
            raise CutOff(str(error)) from error
        if len(body) > cap and overflow == "error":
            raise CutOff(f"{request.url.host}: more than {cap} bytes", kind="too_large")
        whole = FullResponse(response, request, body[:cap])
        if len(body) > cap:
            whole.extensions["truncated"] = True
        return whole

    async def aclose(self) -> None:
        await self._transport.aclose()


async def _read(response: httpx.Response, cap: int) -> bytes:
    """The body, or its beginning if that is more than `cap` bytes."""
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
