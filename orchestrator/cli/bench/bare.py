"""The limits: what the same requests cost where nothing is stored, checked or signed.

push    a Starlette handler that parses a push and says ok
walk    a whole job: submit -> vendor -> push -> subscriber, over one aiohttp session
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import sys
from collections.abc import AsyncIterator, Coroutine

import aiohttp
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from orchestrator.cli.bench.child import follow, listening
from orchestrator.foundation.json_codec import encode


def push() -> Starlette:
    """Return the limit of ingestion."""

    async def pushed(request: Request) -> JSONResponse:
        json.loads(await request.body())
        return JSONResponse({"ok": True})

    return Starlette(
        routes=[Route("/callbacks/{account}/{token}", pushed, methods=["POST"]), _READY]
    )


class Walk:
    """The limit of a whole job: every message that ours sends, and nothing else."""

    def __init__(self, vendor: int, subscriber: int, port: int) -> None:
        self._vendor = f"http://127.0.0.1:{vendor}/v1/videos/text2video"
        self._subscriber = f"http://127.0.0.1:{subscriber}/hook"
        self._own = f"http://127.0.0.1:{port}/callbacks/bench"
        self._numbers = itertools.count()
        self._tasks: set[asyncio.Task[None]] = set()
        routes = [
            Route("/v1/jobs", self._submitted, methods=["POST"]),
            Route("/callbacks/{account}/{token}", self._pushed, methods=["POST"]),
            _READY,
        ]
        self.app = Starlette(routes=routes, lifespan=self._session)

    @contextlib.asynccontextmanager
    async def _session(self, _: Starlette) -> AsyncIterator[None]:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=128)) as self._http:
            yield

    async def _submitted(self, request: Request) -> JSONResponse:
        order = json.loads(await request.body())
        job_id = f"job_{next(self._numbers)}"
        asked = {
            **order["input"],
            "external_task_id": job_id,
            "callback_url": f"{self._own}/{job_id}",
        }
        self._spawn(self._post(self._vendor, encode(asked)))
        return JSONResponse({"id": job_id}, status_code=202)

    async def _pushed(self, request: Request) -> JSONResponse:
        said = json.loads(await request.body())
        job_id = said["task_info"]["external_task_id"]
        told = {
            "type": "job.succeeded",
            "sequence": 1,
            "data": {"id": job_id, "output": said["task_result"]},
        }
        self._spawn(self._post(self._subscriber, encode(told), {"webhook-id": f"evt_{job_id}"}))
        return JSONResponse({"ok": True})

    async def _post(self, url: str, body: bytes, headers: dict[str, str] | None = None) -> None:
        async with self._http.post(url, data=body, headers=headers) as answer:
            await answer.read()

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _ready(_: Request) -> JSONResponse:
    return JSONResponse({"status": "ok"})


_READY = Route("/readyz", _ready)


def main() -> None:
    """Serve one of the two: on what `serve` runs on, or with `--plain` on what uvicorn takes without its extras."""
    follow()
    sock = listening()
    name, *words = sys.argv[1:]
    port = sock.getsockname()[1]
    app = push() if name == "push" else Walk(int(words[0]), int(words[1]), port).app
    loop, http = (
        ("asyncio", "h11")
        if "--plain" in words or sys.platform == "win32"
        else ("uvloop", "httptools")
    )
    config = uvicorn.Config(
        app, loop=loop, http=http, access_log=False, log_level="error", server_header=False
    )
    uvicorn.Server(config).run(sockets=[sock])


if __name__ == "__main__":
    main()
