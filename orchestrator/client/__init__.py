"""The Python client: submit a job, wait for it, follow the log, verify deliveries.

    from orchestrator.client import Client

    with Client() as client:                          # ORCHESTRATOR_SERVER, ORCHESTRATOR_API_KEY
        job = client.run(model="kling-v3", input={"prompt": "a cat surfing"}, timeout=900)
        print(job.urls)

`AsyncClient` is the same with `await`. What is returned are the models of `orchestrator.shapes`, what is raised stands
in `orchestrator.client.errors`. Calls that are lost or refused for now are sent again where that is safe: everything
that only reads, submissions (they carry an idempotency key), and whatever the server says it has not done.

Inside: `faces` (each call is written once and offered blocking and awaited), `requests` and `answers` (as
values), `retries`, `wire` (one server) over `ports` (httpx), then `waiting`, `following` over `sse`, `pages`, and a
file for each resource. It imports nothing of the service.
"""

from __future__ import annotations

from types import TracebackType

import httpx

from orchestrator.client.callbacks import Gap, Reconnect
from orchestrator.client.connection import Target, Wire, is_loopback, way
from orchestrator.client.errors import (
    ApiError,
    ClientError,
    Conflict,
    Forbidden,
    Gone,
    Invalid,
    JobFailed,
    NotFound,
    NotOurs,
    RateLimited,
    StreamGap,
    Unauthorized,
    Unavailable,
    Unreachable,
    WaitTimeout,
)
from orchestrator.client.methods import Calls
from orchestrator.client.pages import AsyncPages, Pages
from orchestrator.client.requests import UNSET
from orchestrator.client.responses import Answer
from orchestrator.client.retries import Retries
from orchestrator.client.streams import AsyncEventStream, EventStream
from orchestrator.client.sync_async import Awaiting, Blocking
from orchestrator.client.transports import AwaitedPort, BlockingPort
from orchestrator.client.webhook import Webhook
from orchestrator.foundation.errors import BadSignature, OrchestratorError

#: Seconds for which an answer may be silent, beyond what it was asked to be held.
TIMEOUT = 30.0


class Client(Calls[Blocking]):
    """Calls one server with one key; its methods return when they are done. Threads may share it.

    `server` and `api_key` are those of ORCHESTRATOR_SERVER (else http://127.0.0.1:8080) and ORCHESTRATOR_API_KEY if not
    given. `timeout` is in seconds, beyond what an answer is asked to be held for; `retries` is how often a call is sent
    again. `http` is a client of your own to send with, which is not closed. Raises `ConfigError` for a server
    that is no URL.

        with Client("https://orchestrator.example.com", "orc_...") as client:
            job = client.submit(model="kling-v3", input={"prompt": "a cat surfing"})
    """

    def __init__(
        self,
        server: str | None = None,
        api_key: str | None = None,
        *,
        timeout: float = TIMEOUT,
        retries: int = 2,
        http: httpx.Client | None = None,
        user_agent: str | None = None,
    ) -> None:
        target = Target.of(server, api_key, user_agent)
        super().__init__(
            Wire(BlockingPort(target, http), target, timeout, Retries(retries)), Blocking
        )

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class AsyncClient(Calls[Awaiting]):
    """Calls one server with one key; its methods are awaited. For one event loop.

    `server` and `api_key` are those of ORCHESTRATOR_SERVER (else http://127.0.0.1:8080) and ORCHESTRATOR_API_KEY if not
    given. `timeout` is in seconds, beyond what an answer is asked to be held for; `retries` is how often a call is sent
    again. `http` is a client of your own to send with, which is not closed. Raises `ConfigError` for a server
    that is no URL.

        async with AsyncClient("https://orchestrator.example.com", "orc_...") as client:
            job = await client.submit(model="kling-v3", input={"prompt": "a cat surfing"})
    """

    def __init__(
        self,
        server: str | None = None,
        api_key: str | None = None,
        *,
        timeout: float = TIMEOUT,
        retries: int = 2,
        http: httpx.AsyncClient | None = None,
        user_agent: str | None = None,
    ) -> None:
        target = Target.of(server, api_key, user_agent)
        super().__init__(
            Wire(AwaitedPort(target, http), target, timeout, Retries(retries)), Awaiting
        )

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()


__all__ = [
    "UNSET",
    "Answer",
    "ApiError",
    "AsyncClient",
    "AsyncEventStream",
    "AsyncPages",
    "BadSignature",
    "Client",
    "ClientError",
    "Conflict",
    "EventStream",
    "Forbidden",
    "Gap",
    "Gone",
    "Invalid",
    "JobFailed",
    "NotFound",
    "NotOurs",
    "OrchestratorError",
    "Pages",
    "RateLimited",
    "Reconnect",
    "StreamGap",
    "Unauthorized",
    "Unavailable",
    "Unreachable",
    "WaitTimeout",
    "Webhook",
    "is_loopback",
    "way",
]
