"""The Python client: submit a job, wait for it, follow the event log, verify deliveries.

    from orchestrator.client import Client

    with Client() as client:                          # ORCHESTRATOR_SERVER, ORCHESTRATOR_API_KEY
        job = client.run(model="kling-v3", input={"prompt": "a cat surfing"}, timeout=900)
        print(job.urls)

`AsyncClient` is the same with `await`. Methods return models of `orchestrator.schemas` and raise
the errors of `orchestrator.client.errors`. A call that is lost or refused temporarily is retried
where that is safe: reads, submissions (they carry an idempotency key), and calls that the server
refused before it did anything.

Inside: `sync_async` (each method is written once, for both modes), `requests` and `responses` (as
values), `retries`, `connection` (one server) over `transports` (httpx) and `environment` (proxies,
authorities), then `waiting`, `following` over `sse`, `pages`, and a file per resource. It
imports nothing of the service.
"""

from __future__ import annotations

import httpx

from orchestrator.client.callbacks import Gap, Reconnect
from orchestrator.client.connection import Connection, Target
from orchestrator.client.environment import is_loopback, way
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
from orchestrator.client.methods import Methods
from orchestrator.client.pages import AsyncPages, Pages
from orchestrator.client.requests import UNSET
from orchestrator.client.responses import Answer
from orchestrator.client.retries import Retries
from orchestrator.client.streams import AsyncEventStream, EventStream
from orchestrator.client.sync_async import Async, Sync
from orchestrator.client.transports import AsyncTransport, SyncTransport
from orchestrator.client.webhook import Webhook
from orchestrator.foundation.errors import BadSignature, OrchestratorError

#: Seconds without a byte of a response, on top of the time that the server may hold it.
TIMEOUT = 30.0


class Client(Methods[Sync]):
    """Calls one server with one key. Its methods block; threads may share it.

    `server` defaults to ORCHESTRATOR_SERVER, else http://127.0.0.1:8080, `api_key` to
    ORCHESTRATOR_API_KEY, which is not sent to a `server` of another origin than ORCHESTRATOR_SERVER
    if that is set. `timeout` is in seconds, on top of the time that the server may hold a response;
    `retries` is the retries per call. `http` is a client of your own to send with; it is not
    closed. Raises `ConfigError` for a server that is no URL, and for a proxy or certificate
    variable of the environment that cannot be used.

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
        transport = SyncTransport(target, http)
        super().__init__(Connection(transport, target, timeout, Retries(retries)), Sync)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncClient(Methods[Async]):
    """Calls one server with one key. Its methods are awaited, on one event loop.

    `server` defaults to ORCHESTRATOR_SERVER, else http://127.0.0.1:8080, `api_key` to
    ORCHESTRATOR_API_KEY, which is not sent to a `server` of another origin than ORCHESTRATOR_SERVER
    if that is set. `timeout` is in seconds, on top of the time that the server may hold a response;
    `retries` is the retries per call. `http` is a client of your own to send with; it is not
    closed. Raises `ConfigError` for a server that is no URL, and for a proxy or certificate
    variable of the environment that cannot be used.

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
        transport = AsyncTransport(target, http)
        super().__init__(Connection(transport, target, timeout, Retries(retries)), Async)

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
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
