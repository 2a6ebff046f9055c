"""Every simulated vendor in one process: one port, a prefix for each vendor."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute

from orchestrator.simulator.accounts import CREDENTIALS
from orchestrator.simulator.authentication import Credentials
from orchestrator.simulator.contract import Dialect
from orchestrator.simulator.dialects.agentsflare import AGENTSFLARE
from orchestrator.simulator.dialects.cloudsway import CLOUDSWAY
from orchestrator.simulator.dialects.cubicspaces import Shape, cubicspaces
from orchestrator.simulator.dialects.dreamto import DREAMTO
from orchestrator.simulator.dialects.kling import kling
from orchestrator.simulator.dialects.uniall import UNIALL
from orchestrator.simulator.faults import FaultInjector, Faults
from orchestrator.simulator.push_sender import PushSender
from orchestrator.simulator.records import Render, Violation
from orchestrator.simulator.renderer import Renderer
from orchestrator.simulator.server import LocalServer
from orchestrator.simulator.vendor_api import VendorApi


class SimulatedVendors:
    """The simulated vendors, an asynchronous context manager. `faults` may change at any time.

    A render takes `render_seconds` on average. `credentials` replaces those of some vendors;
    `limits` is the greatest number of live renders per vendor. `answers` fixes the shape of
    cubicspaces' query responses (`video`, `task`, `old_task`); `mixed` chooses one per render.
    """

    def __init__(
        self,
        seed: int = 1,
        render_seconds: float = 1.0,
        faults: Faults | None = None,
        credentials: Mapping[str, Credentials] | None = None,
        port: int = 0,
        *,
        host: str = "127.0.0.1",
        limits: Mapping[str, int] | None = None,
        answers: Shape = "mixed",
        push_retries: int = 0,
    ) -> None:
        self.renders: list[Render] = []
        self.violations: list[Violation] = []
        self._injector = FaultInjector(seed, faults or Faults())
        accepted = {**CREDENTIALS, **(credentials or {})}
        self._push_sender = PushSender(self._injector, accepted, push_retries)
        #: Every attempt at a push so far, dropped ones included, in order of sending.
        self.pushes = self._push_sender.pushes
        self._app = Starlette(exception_handlers={HTTPException: self._no_route})
        self._server = LocalServer(self._app, port, host)
        self.base_url = self._server.url
        self._apis: dict[str, VendorApi] = {}
        hosts = (kling("kling"), kling("kling_v2"))
        for dialect in (DREAMTO, UNIALL, cubicspaces(answers), CLOUDSWAY, AGENTSFLARE, *hosts):
            limit = (limits or {}).get(dialect.mount)
            self._add(dialect, accepted[dialect.mount], render_seconds, limit)
        self.urls = {vendor: f"{self.base_url}/{vendor}" for vendor in self._apis}

    def _add(
        self, dialect: Dialect, accepted: Credentials, render_seconds: float, limit: int | None
    ) -> None:
        """Serve a vendor below its prefix."""
        name = dialect.mount
        renderer = Renderer(
            dialect,
            self._injector,
            self._push_sender,
            self.renders,
            render_seconds,
            f"{self.base_url}/{name}",
            limit,
        )
        api = VendorApi(dialect, accepted, renderer, self.violations, self._server.abort)
        self._apis[name] = api
        self.add_route(api.mount())

    async def __aenter__(self) -> SimulatedVendors:
        await self._push_sender.open()
        await self._server.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        for api in self._apis.values():
            api.renderer.closed = True
        await self._push_sender.close()
        await self._server.stop()

    @property
    def faults(self) -> Faults:
        return self._injector.faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        self._injector.faults = faults

    @property
    def peaks(self) -> dict[str, int]:
        """The greatest number of live renders, per vendor."""
        return {vendor: api.renderer.peak for vendor, api in self._apis.items()}

    def accepted(self, vendor: str) -> list[Render]:
        return [render for render in self.renders if render.vendor == vendor]

    def double_renders(self) -> list[tuple[str, str]]:
        """Return vendor and external id of everything rendered, and charged, more than once."""
        counts = Counter((render.vendor, render.external_task_id or "") for render in self.renders)
        return [found for found, times in counts.items() if times > 1 and found[1]]

    def add_route(self, route: BaseRoute) -> None:
        """Serve one more route on the same port."""
        self._app.router.routes.append(route)

    def inject(self, vendor: str, operation: str, fault: str, times: int = 1) -> None:
        """Make `fault` strike the next `times` submit, query or push operations of a vendor.

        Raises `ValueError` for an unknown vendor, or a fault that cannot happen on the operation.
        """
        if vendor not in self._apis:
            raise ValueError(f"no vendor {vendor}")
        self._injector.inject(vendor, operation, fault, times)

    async def idle(self) -> None:
        """Wait until no render is live and no push is in flight."""
        await self._push_sender.in_flight.wait_for_none()

    async def _no_route(self, request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        api = self._apis.get(request.url.path.split("/")[1])
        return api.no_route(request.url.path, status) if api else PlainTextResponse("", status)
