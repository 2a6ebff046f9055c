"""A Starlette application that has the service in it, under /video: `uvicorn embedded_starlette:app`.

Its accounts come from `orchestrator.toml` or ORCHESTRATOR_* variables, as for `orchestrator serve`; `public_url` has to
end in /video, where vendors find the callbacks. Orders are submitted, and their ends heard, without a socket or a key.
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
#: What became of each order. Yours is a table, beside the id of the last event you have seen.
orders: dict[str, str] = {}


async def order(request: Request) -> JSONResponse:
    """POST /orders/{number} {"prompt": "..."}: have a video made."""
    number, body = request.path_params["number"], await request.json()
    job = await video.client.submit(
        model="kling-v3", input=body, external_task_id=number, idempotency_key=number
    )
    orders.setdefault(number, job.status)
    return JSONResponse({"order": number, "job": job.id}, status_code=202)


async def show(request: Request) -> JSONResponse:
    """GET /orders/{number}."""
    return JSONResponse({"status": orders.get(request.path_params["number"])})


async def hear() -> None:
    """Write down how jobs end, as they do."""
    async for event in video.client.events.stream(types="job.*"):
        if event.job is not None:
            orders[event.job.external_task_id] = event.job.status


@contextlib.asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    """Run the service, and what listens to it, for as long as the application lives."""
    async with video.lifespan(app):
        hearing = asyncio.create_task(hear())
        yield
        hearing.cancel()


app = Starlette(
    routes=[
        Mount("/video", app=video),
        Route("/orders/{number}", order, methods=["POST"]),
        Route("/orders/{number}", show),
    ],
    lifespan=lifespan,
)
