"""Followers of the event stream, and what they follow: a service on a socket, events on demand."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from orchestrator.app import application, build
from orchestrator.cli.server import server_of
from orchestrator.engine.runtime import Runtime
from orchestrator.events.outbox import NewEvent, publish
from orchestrator.foundation.states import EventType, Source
from tests.harness.api_caller import KEY, until
from tests.harness.live import listening
from tests.harness.runtime import settings

KEYED = {"authorization": f"Bearer {KEY}"}


@dataclass
class Service:
    """The product's own server, in this process."""

    runtime: Runtime
    url: str

    async def say(
        self, *data: Mapping[str, Any], kind: EventType = EventType.JOB_SUCCEEDED
    ) -> list[str]:
        """Commit events in one transaction, and return their ids."""
        ids = self.runtime.ids.many("evt", len(data))
        events = [
            NewEvent(kind, Source.OPERATOR, item, id=one)
            for item, one in zip(data, ids, strict=True)
        ]
        clock = self.runtime.clock
        await self.runtime.store.write(publish, self.runtime.ids, events, clock.now())
        self.runtime.notifier.wake("deliver")
        return ids

    async def count(self, first: int, last: int) -> list[str]:
        """Commit events one after the other, and return their ids."""
        return [(await self.say({"n": n}))[0] for n in range(first, last)]

    @contextlib.asynccontextmanager
    async def caller(self) -> AsyncIterator[httpx.AsyncClient]:
        """An HTTP client with an API key and a long timeout."""
        async with httpx.AsyncClient(
            base_url=self.url, headers=KEYED, timeout=90, verify=False
        ) as http:
            yield http


@contextlib.asynccontextmanager
async def serving(
    folder: Path, sock: socket.socket | None = None, **values: Any
) -> AsyncIterator[Service]:
    """Serve in the block, then stop the service and wait for its end."""
    sock = sock or listening()
    url = f"http://127.0.0.1:{sock.getsockname()[1]}"
    runtime = build(settings(folder, public_url=url, api_keys=[KEY], **values))
    server = server_of(application(runtime), runtime.settings)
    task = asyncio.create_task(server.serve(sockets=[sock]))
    try:
        await until(lambda: server.started or task.done(), "the service starts")
        yield Service(runtime, url)
    finally:
        server.should_exit = True
        await task


@dataclass
class Follower:
    """An SSE client like a browser's: it parses the stream and keeps the last event id."""

    url: str
    query: str = ""
    last: str = ""
    #: True: the last id is sent in the header; False: in the query.
    header: bool = True
    #: The dispatched events: type, id and data, parsed from JSON.
    events: list[tuple[str, str, Any]] = field(default_factory=list)
    #: The lines as received.
    lines: list[str] = field(default_factory=list)
    #: How many streams the server has ended.
    ends: int = 0
    open: asyncio.Event = field(default_factory=asyncio.Event)
    #: The headers that authenticate it.
    key: Mapping[str, str] = field(default_factory=lambda: KEYED)

    @property
    def ids(self) -> list[str]:
        """The ids of the dispatched events of the log."""
        return [event_id for kind, event_id, _ in self.events if kind != "stream.gap"]

    @property
    def gaps(self) -> int:
        """The number of gaps reported."""
        return len(self.events) - len(self.ids)

    async def follow(self) -> None:
        """Read one stream to its end."""
        headers = {**self.key} | ({"last-event-id": self.last} if self.last and self.header else {})
        more = f"&last_event_id={self.last}" if self.last and not self.header else ""
        async with (
            httpx.AsyncClient(headers=headers, timeout=60, verify=False) as http,
            http.stream("GET", f"{self.url}/v1/events/stream?{self.query}{more}") as answer,
        ):
            assert answer.status_code == 200, await answer.aread()
            assert answer.headers["content-type"].startswith("text/event-stream")
            await self._parse(answer)
        self.ends += 1

    async def _parse(self, answer: httpx.Response) -> None:
        kind, data, last = "", list[str](), self.last
        async for line in answer.aiter_lines():
            self.lines.append(line)
            name, _, value = line.partition(": ")
            if name == "id":
                last = value
            elif name == "event":
                kind = value
            elif name == "data":
                data.append(value)
            elif not line:
                # https://html.spec.whatwg.org/multipage/server-sent-events.html#dispatchMessage
                self.last = last
                if data:
                    self.events.append((kind, last, json.loads("\n".join(data))))
                kind, data = "", []
                self.open.set()

    async def keep_following(self) -> None:
        """Reconnect whenever a stream ends, until cancelled."""
        while True:
            with contextlib.suppress(httpx.TransportError):
                await self.follow()
            await asyncio.sleep(0.01)

    @contextlib.asynccontextmanager
    async def following(self, *, coming_back: bool = False) -> AsyncIterator[Follower]:
        """Follow in the block, which starts once the stream is open."""
        self.open.clear()
        task = asyncio.create_task(self.keep_following() if coming_back else self.follow())
        opened = asyncio.create_task(self.open.wait())
        await asyncio.wait([task, opened], return_when=asyncio.FIRST_COMPLETED, timeout=20)
        opened.cancel()
        try:
            if task.done():
                task.result()
            assert self.open.is_set(), "the stream never opened"
            yield self
        finally:
            task.cancel()
            await asyncio.gather(task, opened, return_exceptions=True)

    async def hears(self, *ids: str) -> None:
        """Wait for the last of these; all of them must have arrived, once each and in order."""
        await until(lambda: ids[-1] in self.ids, f"{ids[-1]} is received")
        wanted = {*ids}
        assert [event_id for event_id in self.ids if event_id in wanted] == [*ids]
