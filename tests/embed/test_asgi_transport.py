"""Calls to an application in the same process: responses are streamed."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from orchestrator.embed.asgi_transport import AsgiTransport


async def test_an_exception_of_the_application_reaches_its_caller() -> None:
    async def early(scope: Scope, receive: Receive, send: Send) -> None:
        raise LookupError("before it answered")

    async def late(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        if scope["path"] == "/fails":
            raise LookupError("in the middle")

    async with httpx.AsyncClient(transport=AsgiTransport(early), base_url="http://inside") as http:
        with pytest.raises(LookupError, match="before"):
            await http.get("/")
    async with httpx.AsyncClient(transport=AsgiTransport(late), base_url="http://inside") as http:
        with pytest.raises(LookupError, match="middle"):
            await http.get("/fails")
        with pytest.raises(httpx.RemoteProtocolError):
            await http.get("/ends")


async def test_the_application_is_cancelled_when_its_caller_leaves() -> None:
    cancelled = asyncio.Event()

    async def endless(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            while True:
                await send({"type": "http.response.body", "body": b"more", "more_body": True})
        finally:
            cancelled.set()

    async with (
        httpx.AsyncClient(transport=AsgiTransport(endless), base_url="http://inside") as http,
        http.stream("GET", "/") as answer,
    ):
        assert await anext(answer.aiter_bytes()) == b"more"
    assert cancelled.is_set()
