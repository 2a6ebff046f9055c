"""HTTP control of a simulator in another process: report, faults, one-shots, the subscriber."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Final, cast

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route

from orchestrator.simulator.faults import Faults
from orchestrator.simulator.json_body import JSON, JsonObject, parse_object, select
from orchestrator.simulator.records import Render
from orchestrator.simulator.subscriber import Misbehaviour, Subscriber
from orchestrator.simulator.vendors import SimulatedVendors

MAX_BODY: Final = 65_536
COMMON_FIELDS: Final = ("vendor", "vendor_task_id", "external_task_id", "state")
RENDER_FIELDS: Final = (*COMMON_FIELDS, "capability", "model", "prompt", "accepted_at")
PUSH_FIELDS: Final = (*COMMON_FIELDS, "kind", "at", "status", "error")


class Control:
    """The routes under /_control. An invalid body gets a 422 with the reason."""

    def __init__(self, vendors: SimulatedVendors, subscriber: Subscriber | None = None) -> None:
        self._vendors = vendors
        self._optional_subscriber = subscriber

    def mount(self) -> BaseRoute:
        routes = [
            Route("/report", self._report, methods=["GET"]),
            Route("/faults", endpoint(self._faults), methods=["PUT"]),
            Route("/inject", endpoint(self._inject), methods=["POST"]),
            Route("/secret", endpoint(self._secret), methods=["POST"]),
            Route("/misbehave", endpoint(self._misbehave), methods=["POST"]),
        ]
        return Mount("/_control", routes=routes)

    async def _report(self, request: Request) -> Response:
        return JSONResponse(report(self._vendors, self._optional_subscriber))

    def _faults(self, body: JsonObject) -> JsonObject:
        self._vendors.faults = Faults.from_json(body)
        return self._vendors.faults.to_json()

    def _inject(self, body: JsonObject) -> None:
        vendor, operation, fault = (
            str(body.get(name)) for name in ("vendor", "operation", "fault")
        )
        self._vendors.inject(vendor, operation, fault, whole_number(body.get("times", 1)))

    def _secret(self, body: JsonObject) -> None:
        secret = body.get("secret")
        if not isinstance(secret, str) or not secret.startswith("whsec_"):
            raise ValueError("secret: must begin with whsec_")
        self._subscriber.secrets.append(secret)

    def _misbehave(self, body: JsonObject) -> None:
        how = cast(Misbehaviour, body.get("how"))
        times, seconds = body.get("times", 1), body.get("seconds", 3600)
        self._subscriber.misbehave(how, whole_number(times), whole_number(seconds))

    @property
    def _subscriber(self) -> Subscriber:
        if self._optional_subscriber is None:
            raise ValueError("no subscriber runs here; start the simulator with --subscriber-port")
        return self._optional_subscriber


def endpoint(
    handle: Callable[[JsonObject], JsonObject | None],
) -> Callable[[Request], Awaitable[Response]]:
    """Return an endpoint for a JSON body. A `ValueError` becomes a 422 with its message."""

    async def respond(request: Request) -> Response:
        try:
            body = parse_object((await request.body())[:MAX_BODY])
            return JSONResponse(handle(body) or {"ok": True})
        except ValueError as error:
            return JSONResponse({"error": str(error)}, 422)

    return respond


def whole_number(value: JSON) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{value!r}: must be a whole number")
    return value


def report(vendors: SimulatedVendors, subscriber: Subscriber | None = None) -> JsonObject:
    """Return everything that happened, without callback URLs: those carry tokens."""
    return {
        "renders": [render_json(render) for render in vendors.renders],
        "pushes": [select(push, *PUSH_FIELDS) for push in vendors.pushes],
        "violations": [asdict(violation) for violation in vendors.violations],
        "double_renders": [
            {"vendor": vendor, "external_task_id": external}
            for vendor, external in vendors.double_renders()
        ],
        "peaks": dict(vendors.peaks),
        "faults": vendors.faults.to_json(),
        "subscriber": subscriber.report() if subscriber else None,
    }


def render_json(render: Render) -> JsonObject:
    return {
        **select(render, *RENDER_FIELDS),
        "has_callback": render.callback_url is not None,
        "states": [[state, at] for state, at in render.states],
    }
