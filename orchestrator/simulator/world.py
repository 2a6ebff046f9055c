"""The fake internet of one process: every vendor on one port, under its own prefix."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from types import TracebackType

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute

from orchestrator.simulator.accounts import KEYS
from orchestrator.simulator.courier import Courier
from orchestrator.simulator.dialect import Keys
from orchestrator.simulator.dialect_agentsflare import AGENTSFLARE
from orchestrator.simulator.dialect_cloudsway import CLOUDSWAY
from orchestrator.simulator.dialect_cubicspaces import Shape, cubicspaces
from orchestrator.simulator.dialect_dreamto import DREAMTO
from orchestrator.simulator.dialect_kling import kling
from orchestrator.simulator.dialect_uniall import UNIALL
from orchestrator.simulator.faults import Chance, Faults
from orchestrator.simulator.gateway import Gateway
from orchestrator.simulator.render import Push, Render, Violation
from orchestrator.simulator.serving import Serving
from orchestrator.simulator.studio import Studio


class World:
    """Simulated vendors, from `async with` on. `faults` may change at any time; `keys` replaces vendors' credentials.

    `render_seconds` is the mean time a render takes. `limits` is how many renders a vendor lets live at once. `answers`
    fixes the shape of cubicspaces' status answers (`video`, `task`, `old_task`); `mixed` chooses one per render.
    """

    def __init__(
        self,
        seed: int = 1,
        render_seconds: float = 1.0,
        faults: Faults | None = None,
        keys: Mapping[str, Keys] | None = None,
        port: int = 0,
        *,
        host: str = "127.0.0.1",
        limits: Mapping[str, int] | None = None,
        answers: Shape = "mixed",
        push_retries: int = 0,
    ) -> None:
        self.renders: list[Render] = []
        self.violations: list[Violation] = []
        self._chance = Chance(seed, faults or Faults())
        self._keys = {**KEYS, **(keys or {})}
        self._courier = Courier(self._chance, self._keys, push_retries)
        self._app = Starlette(exception_handlers={HTTPException: self._stray})
        self._serving = Serving(self._app, port, host)
        self._gateways: dict[str, Gateway] = {}
        dialects = (
            DREAMTO,
            UNIALL,
            cubicspaces(answers),
            CLOUDSWAY,
            AGENTSFLARE,
            kling("kling"),
            kling("kling_v2"),
        )
        for dialect in dialects:
            limit = (limits or {}).get(dialect.mount)
            studio = Studio(
                dialect, self._chance, self._courier, self.renders, render_seconds, limit
            )
            keyring = self._keys[dialect.mount]
            gateway = Gateway(dialect, keyring, studio, self.violations, self._serving.abort)
            self._gateways[dialect.mount] = gateway
            self.add(gateway.mount())

    async def __aenter__(self) -> World:
        await self._courier.open()
        await self._serving.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for gateway in self._gateways.values():
            gateway.studio.closed = True
        await self._courier.close()
        await self._serving.stop()

    @property
    def base_url(self) -> str:
        return self._serving.url

    @property
    def vendors(self) -> Sequence[str]:
        """The prefixes vendors live under."""
        return [*self._gateways]

    @property
    def faults(self) -> Faults:
        return self._chance.faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        self._chance.faults = faults

    @property
    def pushes(self) -> list[Push]:
        """Every attempt at a push so far, dropped ones included, in order of sending."""
        return self._courier.pushes

    @property
    def peaks(self) -> dict[str, int]:
        """How many renders each vendor had alive at once, at most."""
        return {vendor: gateway.studio.peak for vendor, gateway in self._gateways.items()}

    def url(self, vendor: str) -> str:
        """The base URL of a vendor."""
        return f"{self.base_url}/{self._gateways[vendor].dialect.mount}"

    def accepted(self, vendor: str) -> list[Render]:
        """What a vendor took on."""
        return [render for render in self.renders if render.vendor == vendor]

    def double_renders(self) -> list[tuple[str, str]]:
        """Vendor and external id of everything that was rendered, and paid for, more than once."""
        counts = Counter((render.vendor, render.external_task_id or "") for render in self.renders)
        return [found for found, times in counts.items() if times > 1 and found[1]]

    def add(self, route: BaseRoute) -> None:
        """Serve one more route, on the same port."""
        self._app.router.routes.append(route)

    def inject(self, vendor: str, operation: str, fault: str, times: int = 1) -> None:
        """Script a one-shot: `fault` strikes the next `times` submit, query or push operations of a vendor.

        Raises ValueError for an unknown vendor, or a fault that cannot happen on the operation.
        """
        if vendor not in self._gateways:
            raise ValueError(f"no vendor {vendor}")
        self._chance.inject(vendor, operation, fault, times)

    async def idle(self) -> None:
        """Wait until no render is live and no push is on its way."""
        await self._courier.tally.settled()

    async def _stray(self, request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        gateway = self._gateways.get(request.url.path.split("/")[1])
        return gateway.stray(request.url.path, status) if gateway else PlainTextResponse("", status)
