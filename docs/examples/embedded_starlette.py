"""A Starlette application with the service under /video: `uvicorn embedded_starlette:app`.

Accounts come from `orchestrator.toml` or ORCHESTRATOR_* variables, as for `orchestrator serve`.
`public_url` must end in /video, where vendors send callbacks. The application submits orders and
follows events without a socket or a key.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from orchestrator.embed import Orchestrator

video = Orchestrator.from_config()
#: The status of each order. In production: a table, with the id of the last event processed.
orders: dict[str, str] = {}


async def order(request: Request) -> JSONResponse:
    """POST /orders/{number} {"prompt": "..."}: submit a job."""
    number, body = request.path_params["number"], await request.json()
    job = await video.client.submit(
        model="kling-v3", input=body, external_task_id=number, idempotency_key=number
    )
    orders.setdefault(number, job.status)
    return JSONResponse({"order": number, "job": job.id}, status_code=202)


async def show(request: Request) -> JSONResponse:
    """GET /orders/{number}."""
    return JSONResponse({"status": orders.get(request.path_params["number"])})


async def follow() -> None:
    """Store the status of each job as its events arrive."""
    async for event in video.client.events.stream(types="job.*"):
        if event.job is not None:
            orders[event.job.external_task_id] = event.job.status


@contextlib.asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    """Run the service and its follower for the lifetime of the application."""
    async with video.lifespan(app):
        following = asyncio.create_task(follow())
        yield
        following.cancel()


app = Starlette(
    routes=[
        Mount("/video", app=video),
        Route("/orders/{number}", order, methods=["POST"]),
        Route("/orders/{number}", show),
    ],
    lifespan=lifespan,
)
