"""HTTP control of a simulator in another process: report, faults, one-shots, subscriber secrets and misbehaviour."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Final, cast

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route

from orchestrator.simulator.faults import Faults
from orchestrator.simulator.render import Push, Render
from orchestrator.simulator.shapes import JSON, JsonObject
from orchestrator.simulator.subscriber import Misbehaviour, Subscriber
from orchestrator.simulator.world import World

MAX_BODY: Final = 65_536
Handler = Callable[[Request], Awaitable[Response]]


class Control:
    """The routes under /_control. A body that makes no sense is answered with 422 and the reason."""

    def __init__(self, world: World, subscriber: Subscriber | None = None) -> None:
        self._world = world
        self._subscriber = subscriber

    def mount(self) -> BaseRoute:
        routes = [
            Route("/report", self._report, methods=["GET"]),
            Route("/faults", guarded(self._faults), methods=["PUT"]),
            Route("/inject", guarded(self._inject), methods=["POST"]),
            Route("/secret", guarded(self._secret), methods=["POST"]),
            Route("/misbehave", guarded(self._misbehave), methods=["POST"]),
        ]
        return Mount("/_control", routes=routes)

    async def _report(self, request: Request) -> Response:
        return JSONResponse(report(self._world, self._subscriber))

    async def _faults(self, request: Request) -> Response:
        self._world.faults = Faults.from_json(await body_of(request))
        return JSONResponse(self._world.faults.to_json())

    async def _inject(self, request: Request) -> Response:
        body = await body_of(request)
        vendor, operation, fault = (
            str(body.get(name)) for name in ("vendor", "operation", "fault")
        )
        self._world.inject(vendor, operation, fault, whole(body.get("times", 1)))
        return JSONResponse({"ok": True})

    async def _secret(self, request: Request) -> Response:
        secret = (await body_of(request)).get("secret")
        if not isinstance(secret, str) or not secret.startswith("whsec_"):
            raise ValueError("secret: wants whsec_...")
        self._listening().secrets.append(secret)
        return JSONResponse({"ok": True})

    async def _misbehave(self, request: Request) -> Response:
        body = await body_of(request)
        how = cast(Misbehaviour, body.get("how"))
        self._listening().misbehave(
            how, whole(body.get("times", 1)), whole(body.get("seconds", 3600))
        )
        return JSONResponse({"ok": True})

    def _listening(self) -> Subscriber:
        if self._subscriber is None:
            raise ValueError("no subscriber runs here")
        return self._subscriber


def guarded(handler: Handler) -> Handler:
    """Answer a ValueError with 422 and its message."""

    async def endpoint(request: Request) -> Response:
        try:
            return await handler(request)
        except ValueError as error:
            return JSONResponse({"error": str(error)}, 422)

    return endpoint


async def body_of(request: Request) -> JsonObject:
    raw = await request.body()
    body: JSON = json.loads(raw[:MAX_BODY])
    if not isinstance(body, dict):
        raise ValueError("body: wants an object")
    return body


def whole(value: JSON) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{value!r}: wants a whole number")
    return value


def report(world: World, subscriber: Subscriber | None = None) -> JsonObject:
    """All that happened, without callback URLs: those carry tokens."""
    return {
        "renders": [render_json(render) for render in world.renders],
        "pushes": [push_json(push) for push in world.pushes],
        "violations": [
            {"vendor": found.vendor, "path": found.path, "what": found.what}
            for found in world.violations
        ],
        "double_renders": [
            {"vendor": vendor, "external_task_id": external}
            for vendor, external in world.double_renders()
        ],
        "peaks": dict(world.peaks),
        "faults": world.faults.to_json(),
        "subscriber": subscriber.report() if subscriber else None,
    }


def render_json(render: Render) -> JsonObject:
    return {
        "vendor": render.vendor,
        "capability": render.capability,
        "model": render.model,
        "prompt": render.prompt,
        "vendor_task_id": render.vendor_task_id,
        "external_task_id": render.external_task_id,
        "has_callback": render.callback_url is not None,
        "state": render.state,
        "accepted_at": render.accepted_at,
        "states": [[state, at] for state, at in render.states],
    }


def push_json(push: Push) -> JsonObject:
    return {
        "vendor": push.vendor,
        "vendor_task_id": push.vendor_task_id,
        "external_task_id": push.external_task_id,
        "state": push.state,
        "kind": push.kind,
        "at": push.at,
        "status": push.status,
        "error": push.error,
    }
