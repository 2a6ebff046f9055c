"""The service inside another ASGI application: mounted under a prefix, used without a socket.

    video = Orchestrator(
        public_url="https://my.app/video", database_url="sqlite:///video.db", accounts={...}
    )
    app = Starlette(routes=[Mount("/video", app=video)], lifespan=video.lifespan)

ASGI servers send no lifespan events to a mounted application, so the host passes its own on:
`lifespan` is the host's lifespan, or a part of it. Nothing else of the host changes: not its
routes, its middleware, its logging or its other signals.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Generator
from pathlib import Path
from urllib.parse import urlsplit

from orchestrator.foundation.extras import require

require("server")

import httpx
import structlog
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from orchestrator.api.problems import Refusal, problem_response
from orchestrator.app import application, build, check
from orchestrator.client import AsyncClient
from orchestrator.embed.asgi_transport import AsgiTransport
from orchestrator.embed.host_process import close_on_signal, mask_access_log
from orchestrator.engine.lifecycle import running
from orchestrator.engine.runtime import Runtime
from orchestrator.foundation.errors import ConfigError, Unavailable
from orchestrator.foundation.masking import OPERATOR_PREFIX
from orchestrator.foundation.settings import Settings, ensure_secret_keys, load
from orchestrator.foundation.settings.error_messages import fault_lines
from orchestrator.ingress import http_protocol

__all__ = ["Orchestrator"]

log = structlog.get_logger()

_NOT_RUNNING = (
    "the service does not run: "
    "give `lifespan=video.lifespan` to the application that it is mounted in"
)


class Orchestrator:
    """An ASGI application to mount, with a client for the host's own code.

    Takes the settings of `orchestrator.toml` by name and reads nothing from the environment
    (`from_config` does). `public_url` ends in the prefix of the mount. Raises `ConfigError`, with
    one line per fault. Nothing is created or opened before `lifespan`.
    """

    def __init__(self, *, public_url: str, **settings: object) -> None:
        try:
            valid = Settings.model_validate({"public_url": public_url, **settings})
        except ValidationError as error:
            raise ConfigError("\n".join(fault_lines(Settings, error, {}))) from None
        self._configure(valid)

    @classmethod
    def from_config(cls, config: Path | str | None = None, **settings: object) -> Orchestrator:
        """Return a service configured like `orchestrator serve`: file, environment, secrets.

        `settings` override the others. Raises `ConfigError`.
        """
        service = cls.__new__(cls)
        service._configure(load(Path(config) if config is not None else None, **settings))
        return service

    def _configure(self, settings: Settings) -> None:
        check(settings)
        self._settings = settings
        self._runtime: Runtime | None = None
        self._app: ASGIApp = self._not_running
        self._client: AsyncClient | None = None
        self._mount_checked = False

    @contextlib.asynccontextmanager
    async def lifespan(self, app: object = None) -> AsyncIterator[None]:
        """Run the service in the block, as the lifespan of an application or within one.

        Raises `ConfigError` if the database cannot be opened, `RuntimeError` if the service runs
        already. A signal that ends the process ends streams and long polls at once: a server
        waits for them before it ends a lifespan.
        """
        if self._runtime is not None:
            raise RuntimeError(
                "this service runs already; make another Orchestrator, with a database of its own"
            )
        # The key file is read, or made and synced, off the host's loop.
        runtime = build(await asyncio.to_thread(ensure_secret_keys, self._settings))
        async with running(runtime):
            with mask_access_log(), close_on_signal(runtime.feed.close):
                self._runtime, self._app = runtime, application(runtime)
                self._client = self._client_of(runtime)
                try:
                    yield
                finally:
                    self.end_streams()
                    self._runtime, self._app, self._client = None, self._not_running, None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the lifespan where the service is not mounted in another one."""
        if scope["type"] == "lifespan":
            await Starlette(lifespan=self.lifespan)(scope, receive, send)
            return
        if not self._mount_checked:
            self._check_mount(scope.get("root_path", ""))
        await self._serve(scope, receive, send)

    @property
    def client(self) -> AsyncClient:
        """A client of the service in this process, without a socket or a key.

        Raises `Unavailable` outside of `lifespan`.

        >>> job = await video.client.submit(model="kling-v3", input={"prompt": "a cat surfing"})
        """
        if self._client is None:
            raise Unavailable(_NOT_RUNNING)
        return self._client

    def http_protocol(self) -> type[asyncio.Protocol]:
        """Return the connections of `orchestrator serve`, with the limits of `[http]`, for uvicorn.

        >>> uvicorn.run(app, http=video.http_protocol(), ws="none")
        """
        return http_protocol(self._settings.http)

    def end_streams(self) -> None:
        """End all streams and long polls for good; call it before a shutdown without a signal."""
        if self._runtime is not None:
            self._runtime.feed.close()

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)

    def _client_of(self, runtime: Runtime) -> AsyncClient:
        transport = AsgiTransport(self._serve, root_path=urlsplit(runtime.base).path)
        auth = _OperatorAuth(runtime)
        http = httpx.AsyncClient(transport=transport, auth=auth, trust_env=False)
        return AsyncClient(runtime.base, http=http)

    async def _not_running(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 503 with what is missing. A vendor sends its push again after a 503."""
        if scope["type"] != "http":
            await WebSocketClose()(scope, receive, send)
            return
        request_id = f"req_{secrets.token_hex(12)}"
        log.error(_NOT_RUNNING, request_id=request_id)
        why = Refusal("unavailable", _NOT_RUNNING)
        refusal = problem_response(why, self._settings.base_url, request_id, {"retry-after": "5"})
        await refusal(scope, receive, send)

    def _check_mount(self, root_path: str) -> None:
        """Warn once if `public_url` does not lead here."""
        self._mount_checked = True
        if not urlsplit(self._settings.public_url).path.rstrip("/").endswith(root_path):
            log.warning(
                "public_url does not end in the path of the mount: pushes will not arrive",
                mounted_at=root_path,
            )


class _OperatorAuth(httpx.Auth):
    """Sends an operator pass, valid for a minute, with each request; the command line does too."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        operator_pass = self._runtime.keys.mint_pass(self._runtime.clock.now())
        request.headers["authorization"] = f"Bearer {OPERATOR_PREFIX}{operator_pass}"
        yield request
