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
        body: Literal["whole", "partial"] = "whole",
    ) -> httpx.Response:
        """Return the response.

        `deadline` is in seconds, from the connection attempt to the last byte. `content` is as
        received, never decompressed, whatever Content-Encoding says. A body that is not whole,
        because it is over `cap` bytes, broken or late, is `CutOff`. With body="partial" the status
        line decides: what arrived is returned, with the reason as `extensions["partial"]`. Raises
        `NotSent` (also `Blocked`) and `CutOff`.
        """
        received = _Received(cap)
        request.extensions["body_cap"] = cap
        error: NotSent | CutOff
        try:
            async with self._timeouts.within(deadline):
                return await received.read(self._transport, request)
        except TimeoutError:
            # A transport that does not set `sent` may have sent the request.
            kind = CutOff if request.extensions.get("sent", True) else NotSent
            error = kind(f"{request.url.host}: no answer within {deadline:g} s", kind="timeout")
        except _NOT_SENT as failure:
            raise NotSent(str(failure)) from failure
        except httpx.TransportError as failure:
            error = CutOff(str(failure))
        except CutOff as failure:
            error = failure
        if body == "whole" or (response := received.partial(request, error)) is None:
            raise error
        return response

    async def open(self, request: httpx.Request, *, deadline: float, cap: int) -> httpx.Response:
        """Return a response with its body unread; the caller reads and closes its `stream`.

        `deadline` is in seconds, to the end of the head. About `cap` bytes of the body can be
        read. Raises `NotSent` (also `Blocked`) and `CutOff`.
        """
        request.extensions["body_cap"] = cap
        try:
            async with self._timeouts.within(deadline):
                return await self._transport.handle_async_request(request)
        except TimeoutError:
            raise CutOff(
                f"{request.url.host}: no answer within {deadline:g} s", kind="timeout"
            ) from None
        except httpx.TransportError as failure:
            raise CutOff(str(failure)) from failure

    async def aclose(self) -> None:
        await self._transport.aclose()


class _Received:
    """What has arrived of a response."""

    def __init__(self, cap: int) -> None:
        self._cap = cap
        self._head: httpx.Response | None = None
        self._body = bytearray()

    async def read(
        self, transport: httpx.AsyncBaseTransport, request: httpx.Request
    ) -> httpx.Response:
        """Return the whole response. Raises `CutOff` if its body is over the cap."""
        self._head = head = await transport.handle_async_request(request)
        stream = head.stream
        assert isinstance(stream, httpx.AsyncByteStream)
        try:
            async for chunk in stream:
                self._body += chunk
                if len(self._body) > self._cap:
                    message = f"{request.url.host}: more than {self._cap} bytes"
                    raise CutOff(message, kind="too_large")
        finally:
            await stream.aclose()
        return FullResponse(head, request, bytes(self._body))

    def partial(self, request: httpx.Request, error: NotSent | CutOff) -> httpx.Response | None:
        """Return the response as far as it arrived; None without a status line."""
        head = self._head
        if head is None and (status := request.extensions.get("status")):
            head = httpx.Response(status)
        if head is None:
            return None
        response = FullResponse(head, request, bytes(self._body[: self._cap]))
        response.extensions["partial"] = error.kind
        return response
