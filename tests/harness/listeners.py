"""Tools of the tests of `orchestrator listen`: the command as a process, and a consumer."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import standardwebhooks
import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from tests.harness.api_caller import KEY, until
from tests.harness.command_line import Ran, run
from tests.harness.fork_server import ForkedProcess, fork
from tests.harness.live import listening


@dataclass
class Consumer:
    """A server that records webhooks; it answers with `statuses` in order, then 204."""

    url: str
    secret: str = ""
    got: list[str] = field(default_factory=list)
    events: list[Any] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)

    @property
    def first_times(self) -> list[str]:
        """The ids that came, without duplicates."""
        return list(dict.fromkeys(self.got))

    async def hears(self, *ids: str, seconds: float = 30) -> None:
        """Wait for the last of these ids; then all of them have come, in this order."""
        await until(lambda: ids[-1] in self.got, f"{ids[-1]} comes", seconds)
        assert [got for got in self.first_times if got in {*ids}] == [*ids]

    async def reaches(self, count: int) -> None:
        """Wait until `count` events came."""
        await until(lambda: len(self.got) >= count, f"{count} events come", 30)

    async def take(self, request: Request) -> Response:
        """Record one request."""
        try:
            body, headers = await request.body(), dict(request.headers)
        except ClientDisconnect:
            # The sender was killed.
            return Response(status_code=400)
        if self.secret:
            self.events.append(standardwebhooks.Webhook(self.secret).verify(body, headers))
        self.headers.append(headers)
        self.got.append(headers["webhook-id"])
        status = self.statuses.pop(0) if self.statuses else 204
        return Response(
            status_code=status, headers={"location": "/elsewhere"} if 300 <= status < 400 else {}
        )


@contextlib.asynccontextmanager
async def consuming(port: int = 0) -> AsyncIterator[Consumer]:
    """Run a consumer."""
    sock = listening(port)
    consumer = Consumer(f"http://127.0.0.1:{sock.getsockname()[1]}/hook")
    app = Starlette(routes=[Route("/hook", consumer.take, methods=["POST"])])
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off"))
    task = asyncio.create_task(server.serve(sockets=[sock]))
    await until(lambda: server.started, "the consumer starts")
    try:
        yield consumer
    finally:
        server.should_exit = server.force_exit = True
        await task


@dataclass
class Listener:
    """The command, restarted any number of times. Its output is appended to files."""

    folder: Path
    server: str
    key: str = KEY
    process: ForkedProcess | None = None

    @property
    def out(self) -> str:
        """Its standard output."""
        return (self.folder / "listen.out").read_text()

    @property
    def err(self) -> str:
        """Its standard error."""
        return (self.folder / "listen.err").read_text()

    @property
    def bookmark(self) -> Path:
        """The file of its cursor."""
        (found,) = (self.folder / "state" / "orchestrator" / "listen").glob("*.cursor")
        return found

    async def start(self, *words: str) -> None:
        """Start it."""
        self.process = await fork(
            "orchestrator", "--server", self.server, "listen", *words,
            log=self.folder / "listen.err", out=self.folder / "listen.out",
            environment={
                "XDG_STATE_HOME": str(self.folder / "state"), "ORCHESTRATOR_API_KEY": self.key,
            },
        )  # fmt: skip

    async def says(self, words: str, times: int = 1) -> None:
        """Wait until its standard error contains `words` so often."""
        await until(
            lambda: self.err.count(words) >= times or self._ended(), f"it says {words!r}", 30
        )
        assert self.err.count(words) >= times, self.err

    async def prints(self, words: str) -> None:
        """Wait until its standard output contains `words`."""
        await until(lambda: words in self.out, f"it prints {words!r}", 30)

    async def end(self, how: signal.Signals = signal.SIGINT) -> int:
        """Send it a signal and return its exit code."""
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(how)
        return await self.process.wait()

    def ran(self, *words: str) -> Ran:
        """Run it in this process: it ends before it calls the server."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("XDG_STATE_HOME", str(self.folder / "state"))
            return run("--server", self.server, "--api-key", self.key, "listen", *words)

    def _ended(self) -> bool:
        return self.process is None or self.process.returncode is not None


@contextlib.asynccontextmanager
async def listener(folder: Path, server: str) -> AsyncIterator[Listener]:
    """A command, killed at the end of the block."""
    it = Listener(folder, server)
    try:
        yield it
    finally:
        if it.process is not None and it.process.returncode is None:
            await it.end(signal.SIGKILL)
