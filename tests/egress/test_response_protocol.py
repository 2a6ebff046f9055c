"""Responses that break the grammar or never end: what is read of them, and what it costs."""

from __future__ import annotations

import asyncio
import itertools

import httpx
import pytest
import uvloop

from orchestrator.egress import response_protocol
from orchestrator.egress.http_client import HttpClient
from orchestrator.egress.response_protocol import HEAD_CAP
from orchestrator.foundation.errors import CutOff
from tests.harness.raw_http import OK, Handler, open_client, post, responding, serving

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
#: More than any exchange of these tests may read; the kernel's buffers hold a part of it.
ENOUGH = 64 << 20


class Flood:
    """Sends `start`, then `more` until the client hangs up."""

    def __init__(self, start: bytes, more: bytes) -> None:
        self.start = start
        self.more = more * (1 + (64 << 10) // len(more))
        self.sent = 0

    async def __call__(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(self.start)
        while self.sent < ENOUGH:
            writer.write(self.more)
            await writer.drain()
            self.sent += len(self.more)


FLOODS = {
    "interim responses": (b"", b"HTTP/1.1 103 Early\r\nLink: </a>\r\n\r\n", None),
    "blank lines": (b"", b"\r\n", None),
    "header fields": (b"HTTP/1.1 200 OK\r\n", b"a: b\r\n", 200),
    "one header field": (b"HTTP/1.1 200 OK\r\nA: ", b"a", 200),
    "a reason": (b"HTTP/1.1 200 ", b"a", 200),
    "a chunk extension": (CHUNKED + b"1;", b"a=b;", 200),
    "chunk extensions": (CHUNKED, b"1;" + b"a" * 90 + b"\r\nb\r\n", 200),
    "tiny chunks": (CHUNKED, b"1\r\na\r\n", 200),
    "trailers": (CHUNKED + b"0\r\n", b"a: b\r\n", 200),
    "a body": (b"HTTP/1.1 200 OK\r\n\r\n", b"a", 200),
}


@pytest.mark.parametrize("flood", FLOODS)
async def test_a_response_without_end_is_given_up_after_a_few_buffers(flood: str) -> None:
    start, more, status = FLOODS[flood]
    handler = Flood(start, more)
    async with serving(handler) as server, open_client() as client:
        with pytest.raises(CutOff) as failure:
            await client.send(post(server.url()), deadline=30, cap=1000)
        assert failure.value.kind in {"too_large", "too_many_interim_responses"}
        answer = client.send(post(server.url()), deadline=30, cap=1000, body="partial")
        if status is None:
            with pytest.raises(CutOff):
                await answer
        else:
            assert (await answer).status_code == status
    assert handler.sent < ENOUGH


async def test_a_few_interim_responses_are_skipped() -> None:
    interim = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * response_protocol.MAX_INTERIM
    async with serving(responding(interim, OK)) as server, open_client() as client:
        assert (await client.send(post(server.url()), deadline=5)).content == b"ok"


async def test_a_head_of_64_kib_is_read() -> None:
    """Nine of ten servers send less than 8 KiB; cookies and policies of some take more."""
    fields = b"".join(b"X-%d: %s\r\n" % (n, b"a" * 9_000) for n in range(7))
    head = b"HTTP/1.1 200 OK\r\n" + fields + b"Content-Length: 2\r\n\r\n"
    assert len(head) < HEAD_CAP
    async with serving(responding(head + b"ok")) as server, open_client() as client:
        answer = await client.send(post(server.url()), deadline=5)
    assert (answer.content, len(answer.headers["x-6"])) == (b"ok", 9_000)


LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n"
BROKEN = {
    "a huge head": (b"HTTP/1.1 200 OK\r\nA: " + b"a" * 70_000 + b"\r\n\r\n", "too_large", b""),
    "no field": (b"HTTP/1.1 200 OK\r\ngarbage \x00\x01\r\n\r\n", "bad_response", b""),
    "no reason": (b"HTTP/1.1 200\r\ngarbage\r\n\r\n", "bad_response", b""),
    "two lengths": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok", "bad_response", b""
    ),
    "half a head": (b"HTTP/1.1 200 OK\r\nContent-Le", "disconnected", b""),
    "half a body": (LENGTH + b"half", "disconnected", b"half"),
    "a bad chunk": (CHUNKED + b"2\r\nok\r\nzz\r\n", "bad_response", b"ok"),
    "no last chunk": (CHUNKED + b"2\r\nok\r\n", "disconnected", b"ok"),
}  # fmt: skip


@pytest.mark.parametrize("broken", BROKEN)
async def test_a_status_line_counts_whatever_follows_it(broken: str) -> None:
    sent, kind, content = BROKEN[broken]
    async with serving(responding(sent, close=True)) as server, open_client() as client:
        answer = await client.send(post(server.url()), deadline=5, body="partial")
        assert (answer.status_code, answer.content) == (200, content)
        assert answer.extensions["partial"] == kind
        with pytest.raises(CutOff) as failure:
            await client.send(post(server.url()), deadline=5)
        assert failure.value.kind == kind


@pytest.mark.parametrize(
    "broken", ["a huge head", "no field", "no reason", "two lengths", "half a head"]
)
async def test_a_response_that_is_passed_on_has_a_whole_head(broken: str) -> None:
    """Its fields decide how the body is to be read, and a caller would get them."""
    sent, kind, _ = BROKEN[broken]
    async with serving(responding(sent, close=True)) as server, open_client() as client:
        with pytest.raises(CutOff) as failure:
            await client.open(httpx.Request("GET", server.url()), deadline=5, cap=1000)
        assert failure.value.kind == kind


@pytest.mark.parametrize(
    "line", [b"HTTP/1.1 20", b"HTTP/1.1 2000 OK\r\n\r\n", b"HTTP/2 200\r\n\r\n", b"200 OK\r\n\r\n"]
)
async def test_half_a_status_line_does_not_count(line: bytes) -> None:
    async with serving(responding(line, close=True)) as server, open_client() as client:
        with pytest.raises(CutOff):
            await client.send(post(server.url()), deadline=5, body="partial")


@pytest.mark.parametrize("sent", [b"HTTP/1.1 204 No", LENGTH + b"half"])
async def test_a_status_line_counts_at_the_deadline(sent: bytes) -> None:
    async def stalls(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(sent)
        await reader.read()

    async with serving(stalls) as server, open_client() as client:
        answer = await client.send(post(server.url()), deadline=0.2, body="partial")
    assert (answer.is_success, answer.extensions["partial"]) == (True, "timeout")


@pytest.mark.parametrize("encoding", ["gzip", "br", "gzip, gzip", "nonsense"])
async def test_a_content_encoding_is_not_looked_at(encoding: str) -> None:
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: {encoding}\r\nContent-Length: 3\r\n\r\n"
    async with serving(responding(head.encode() + b"\0\1\2")) as server, open_client() as client:
        answer = await client.send(post(server.url()), deadline=5)
    assert answer.content == b"\0\1\2"


async def test_a_large_body_is_read_with_backpressure() -> None:
    body = bytes(range(256)) * 20_000
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
    async with serving(responding(head, body)) as server, open_client() as client:
        for _ in range(2):
            answer = await client.send(post(server.url()), deadline=30, cap=len(body))
            assert answer.content == body
        assert server.connections == 1


def test_it_works_on_the_event_loop_of_the_service() -> None:
    async def exchanges() -> list[int]:
        steps: itertools.cycle[Handler] = itertools.cycle([responding(OK), responding(LENGTH)])

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await next(steps)(reader, writer)
            if server.requests[1:]:
                writer.close()

        async def status(client: HttpClient) -> int:
            request = httpx.Request("GET", server.url())
            return (await client.send(request, deadline=5, body="partial")).status_code

        async with serving(answer) as server, open_client() as client:
            return [await status(client) for _ in range(2)]

    assert uvloop.run(exchanges()) == [200, 200]
