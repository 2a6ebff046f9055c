"""The HTTP client: a deadline over the whole exchange, and a cap on the body."""

from __future__ import annotations

from typing import Literal, Protocol

import httpx

from orchestrator.egress.answer_body import READ_CAP, AnswerBody
from orchestrator.foundation.errors import CutOff, NotSent
from orchestrator.foundation.timeouts import Timeouts

_NOT_SENT = (
    httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol,
)  # fmt: skip


class FullResponse(httpx.Response):
    """A response with its body read. Its Content-Encoding is that of `body`."""

    def __init__(
        self, head: httpx.Response, request: httpx.Request, body: bytes, *, decoded: bool
    ) -> None:
        headers = head.headers
        if decoded and "content-encoding" in headers:
            headers = headers.copy()
            del headers["content-encoding"]
        super().__init__(
            head.status_code,
            headers=headers,
            stream=httpx.ByteStream(body),
            request=request,
            extensions=head.extensions,
        )
        self._body = body

    @property
    def content(self) -> bytes:
        """The body that was read, encoded or decoded."""
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
        body: Literal["whole", "partial", "answer"] = "whole",
    ) -> httpx.Response:
        """Return the response.

        `deadline` is in seconds, from the connection attempt to the last byte. `content` is as
        received, never decompressed, whatever Content-Encoding says. A body that is not whole,
        because it is over `cap` bytes, broken or late, is `CutOff`. With body="partial" the status
        line decides: what arrived is returned, with the reason as `extensions["partial"]`.
        body="answer" is that for JSON of a vendor, decoded, and within the caps of `AnswerBody`,
        which cuts long strings. Raises `NotSent` (also `Blocked`) and `CutOff`.
        """
        received = _Received(cap, is_answer=body == "answer")
        request.extensions["body_cap"] = READ_CAP if body == "answer" else cap
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
        try:
            if body == "whole" or (response := received.partial(request, error)) is None:
                raise error
            return response
        finally:
            # Its traceback has this frame, and so the request: a cycle of up to 32 MiB.
            del error

    async def open(self, request: httpx.Request, *, deadline: float, cap: int) -> httpx.Response:
        """Return a response with its body unread; the caller reads and closes its `stream`.

        `deadline` is in seconds, to the end of the head. About `cap` bytes of the body can be
        read. Raises `NotSent` (also `Blocked`) and `CutOff`, also for a head that is broken.
        """
        request.extensions |= {"body_cap": cap, "whole_head": True}
        try:
            async with self._timeouts.within(deadline):
                return await self._transport.handle_async_request(request)
        except TimeoutError:
            raise CutOff(
                f"{request.url.host}: no answer within {deadline:g} s", kind="timeout"
            ) from None
        except httpx.TransportError as failure:
            raise CutOff(str(failure)) from failure

    async def load(self) -> None:
        """Load a `LateTransport`, so that no request waits for it."""
        await self._transport.__aenter__()

    async def aclose(self) -> None:
        await self._transport.aclose()


class _Body(Protocol):
    """Collects a body. `add` and `end` raise `CutOff`."""

    @property
    def content(self) -> bytes: ...
    def add(self, chunk: bytes) -> None: ...
    def end(self) -> None: ...


class _RawBody:
    """A body as received, up to `cap` bytes."""

    def __init__(self, host: str, cap: int) -> None:
        self._host = host
        self._cap = cap
        self._read = bytearray()

    @property
    def content(self) -> bytes:
        return bytes(self._read[: self._cap])

    def add(self, chunk: bytes) -> None:
        self._read += chunk
        if len(self._read) > self._cap:
            raise CutOff(f"{self._host}: more than {self._cap} bytes", kind="too_large")

    def end(self) -> None:
        """Nothing is missing."""


class _Received:
    """What has arrived of a response."""

    def __init__(self, cap: int, *, is_answer: bool) -> None:
        self._cap = cap
        self._is_answer = is_answer
        self._head: httpx.Response | None = None
        self._body: _Body | None = None

    async def read(
        self, transport: httpx.AsyncBaseTransport, request: httpx.Request
    ) -> httpx.Response:
        """Return the whole response. Raises `CutOff` if its body is over the cap or broken."""
        self._head = head = await transport.handle_async_request(request)
        self._body = body = self._collector(request.url.host, head)
        stream = head.stream
        assert isinstance(stream, httpx.AsyncByteStream)
        try:
            async for chunk in stream:
                body.add(chunk)
        finally:
            await stream.aclose()
        body.end()
        return FullResponse(head, request, body.content, decoded=self._is_answer)

    def _collector(self, host: str, head: httpx.Response) -> _Body:
        if not self._is_answer:
            return _RawBody(host, self._cap)
        return AnswerBody(host, head.headers.get("content-encoding", ""))

    def partial(self, request: httpx.Request, error: NotSent | CutOff) -> httpx.Response | None:
        """Return the response as far as it arrived; None without a status line."""
        head = self._head
        if head is None and (status := request.extensions.get("status")):
            head = httpx.Response(status)
        if head is None:
            return None
        content = b"" if self._body is None else self._body.content
        response = FullResponse(head, request, content, decoded=self._is_answer)
        response.extensions["partial"] = error.kind
        return response
