"""Kept connections: their age, what an idle one may be sent, and stale ones."""

from __future__ import annotations

import asyncio

import pytest

from orchestrator.egress import response_protocol
from orchestrator.foundation.errors import CutOff
from tests.harness.api_caller import until
from tests.harness.raw_http import OK, open_client, post, responding, serving
from tests.harness.streams import accepting


async def test_a_kept_connection_is_replaced_when_it_is_old(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A name may have moved to another address."""
    async with serving(responding(OK)) as server, open_client() as client:
        for _ in range(2):
            await client.send(post(server.url()), deadline=5)
        assert server.connections == 1
        monkeypatch.setattr(response_protocol, "MAX_AGE", -1.0)
        async with open_client() as other:
            for _ in range(2):
                await other.send(post(server.url()), deadline=5)
        assert server.connections == 3


async def test_a_connection_grows_old_under_steady_traffic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(response_protocol, "MAX_AGE", 0.05)
    async with serving(responding(OK)) as server, open_client() as client:

        async def replaced() -> bool:
            await client.send(post(server.url()), deadline=5)
            return server.connections > 1

        async with asyncio.timeout(10):
            while not await replaced():
                pass


@pytest.mark.parametrize(("fresh", "requests"), [(False, 3), (True, 2)])
async def test_a_request_is_resent_only_on_a_kept_connection_that_was_closed(
    fresh: bool, requests: int
) -> None:
    """`fresh`, for submissions, never sends again: the vendor may have read it."""
    answers = iter([responding(OK), responding(close=True), responding(OK)])

    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await next(answers)(reader, writer)

    async with serving(once) as server, open_client(fresh=fresh) as client:
        await client.send(post(server.url()), deadline=5)
        if fresh:
            with pytest.raises(CutOff) as failure:
                await client.send(post(server.url()), deadline=5)
            assert failure.value.kind == "disconnected"
        else:
            assert (await client.send(post(server.url()), deadline=5)).content == b"ok"
        assert len(server.requests) == requests
        assert server.connections == 2


async def test_a_request_is_not_resent_once_a_byte_of_the_response_came() -> None:
    answers = iter([responding(OK), responding(b"H", close=True)])

    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await next(answers)(reader, writer)

    async with serving(once) as server, open_client() as client:
        await client.send(post(server.url()), deadline=5)
        with pytest.raises(CutOff):
            await client.send(post(server.url()), deadline=5)
        assert len(server.requests) == 2


async def test_an_idle_connection_that_is_sent_something_is_closed() -> None:
    """What arrives unasked would pass for the response to the next request."""
    kept, ended = asyncio.Event(), asyncio.Event()

    async def floods(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK)
        await kept.wait()
        try:
            while True:
                writer.write(b"HTTP/1.1 204 No Content\r\n\r\n" * 1000)
                await writer.drain()
        except ConnectionError:
            ended.set()

    async with accepting(floods) as port, open_client() as client:
        assert (await client.send(post(f"http://127.0.0.1:{port}/"), deadline=5)).content == b"ok"
        kept.set()
        await until(ended.is_set, "the connection is closed")
