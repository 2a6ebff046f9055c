"""The service inside another ASGI application: mounted under a prefix, begun and ended with it, used without a socket.

    video = Orchestrator(public_url="https://my.app/video", database_url="sqlite:///video.db", accounts={...})
    app = Starlette(routes=[Mount("/video", app=video)], lifespan=video.lifespan)

A mounted application is not told when its host begins and ends, so the host passes that on: `lifespan` is its own, or a
part of it. Nothing else of the host is touched: not its routes, its middleware, its logging or its other signals.
"""

from __future__ import annotations

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

from orchestrator.api.problems import Refusal, answer
from orchestrator.app import application, build, check
from orchestrator.client import AsyncClient
from orchestrator.embed.asgi_transport import AsgiTransport
from orchestrator.embed.host_process import close_on_signal, mask_access_log
from orchestrator.engine.lifecycle import running
from orchestrator.engine.runtime import Runtime
from orchestrator.foundation.errors import ConfigError, Unavailable
from orchestrator.foundation.masking import OPERATOR_PREFIX
from orchestrator.foundation.settings import Settings, load
from orchestrator.foundation.settings.error_messages import fault_lines

__all__ = ["Orchestrator"]

log = structlog.get_logger()

_ASLEEP = "the service does not run: give `lifespan=video.lifespan` to the application that it is mounted in"


class Orchestrator:
    """An ASGI application to mount, and what the host's own code calls.

    Takes the settings of `orchestrator.toml` by name; nothing is read from the environment, `from_config` does that.
    `public_url` carries the prefix of the mount. Raises `ConfigError`, with one line for each fault; nothing is made or
    opened before `lifespan`.
    """

    def __init__(self, *, public_url: str, **settings: object) -> None:
        try:
            given = Settings.model_validate({"public_url": public_url, **settings})
        except ValidationError as error:
            raise ConfigError("\n".join(fault_lines(Settings, error, {}))) from None
        self._take(given)

    @classmethod
    def from_config(cls, config: Path | str | None = None, **settings: object) -> Orchestrator:
        """Return one that is configured as `orchestrator serve` would be: file, environment, secrets directory.

        `settings` have the last word. Raises `ConfigError`.
        """
        made = cls.__new__(cls)
        made._take(load(Path(config) if config is not None else None, **settings))
        return made

    def _take(self, settings: Settings) -> None:
        check(settings)
        self._settings = settings
        self._rt: Runtime | None = None
        self._app: ASGIApp = self._asleep
        self._client: AsyncClient | None = None
        self._is_placed = False

    @contextlib.asynccontextmanager
    async def lifespan(self, app: object = None) -> AsyncIterator[None]:
        """Run the service meanwhile, as the lifespan of an application or within one.

        Raises `ConfigError` if the database cannot be had, `RuntimeError` if it runs already. When the process is told
        to end, streams and waiting answers end at once, since a server waits for them before it ends a lifespan.
        """
        if self._rt is not None:
            raise RuntimeError(
                "this service runs already; make another Orchestrator, with a database of its own"
            )
        runtime = build(self._settings)
        async with running(runtime):
            with mask_access_log(), close_on_signal(runtime.feed.close):
                self._rt, self._app, self._client = (
                    runtime,
                    application(runtime),
                    self._client_of(runtime),
                )
                try:
                    yield
                finally:
                    self.end_streams()
                    self._rt, self._app, self._client = None, self._asleep, None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; as an application of its own, its lifespan too."""
        if scope["type"] == "lifespan":
            await Starlette(lifespan=self.lifespan)(scope, receive, send)
            return
        if not self._is_placed:
            self._look_at(scope.get("root_path", ""))
        await self._serve(scope, receive, send)

    @property
    def client(self) -> AsyncClient:
        """A client of the service in this process: no socket, no key. Raises `Unavailable` outside of `lifespan`.

        >>> job = await video.client.submit(model="kling-v3", input={"prompt": "a cat surfing"})
        """
        if self._client is None:
            raise Unavailable(_ASLEEP)
        return self._client

    def end_streams(self) -> None:
        """End all streams and waiting answers, for good: before a server ends that is not told so by a signal."""
        if self._rt is not None:
            self._rt.feed.close()

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)

    def _client_of(self, runtime: Runtime) -> AsyncClient:
        inside = AsgiTransport(self._serve, root_path=urlsplit(runtime.base).path)
        return AsyncClient(
            runtime.base,
            http=httpx.AsyncClient(transport=inside, auth=_Pass(runtime), trust_env=False),
        )

    async def _asleep(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Say what is missing. A vendor comes again after a 503."""
        if scope["type"] != "http":
            await WebSocketClose()(scope, receive, send)
            return
        request_id = f"req_{secrets.token_hex(12)}"
        log.error(_ASLEEP, request_id=request_id)
        why = Refusal(_ASLEEP, status=503, code="unavailable", title="Temporarily unavailable")
        refusal = answer(
            why, self._settings.public_url.rstrip("/"), request_id, {"retry-after": "5"}
        )
        await refusal(scope, receive, send)

    def _look_at(self, root: str) -> None:
        """Say once if vendors are led elsewhere than here."""
        self._is_placed = True
        if not urlsplit(self._settings.public_url).path.rstrip("/").endswith(root):
            log.warning(
                "public_url does not end in the path of the mount: pushes will go astray",
                mounted_at=root,
            )


class _Pass(httpx.Auth):
    """Proves with each call that it comes from inside, as the operator's command line does: for a minute."""

    def __init__(self, runtime: Runtime) -> None:
        self._rt = runtime

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        request.headers["authorization"] = (
            f"Bearer {OPERATOR_PREFIX}{self._rt.keys.admit(self._rt.clock.now())}"
        )
        yield request
