"""The limit: the same requests on Starlette and aiohttp, with nothing stored, verified or signed.

`reference_server VENDOR SUBSCRIBER [--plain]` (ports, 0 for none) passes submissions on to the
vendor and pushes to the subscriber. It runs on the event loop and parser of `orchestrator serve`,
or with `--plain` on uvicorn's portable ones.

Starting it imports `orchestrator.cli` and with it typer (0.15 s, 3 MB). Rates, latencies and CPU
between two readings do not contain that; start-up time and memory are not compared with it.
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

from orchestrator.cli.bench.raw_http import end_with_bench, listen, port_of
from orchestrator.foundation.json_codec import encode


class ReferenceServer:
    """Sends every message that the service sends for a job."""

    def __init__(self, port: int, vendor: int, subscriber: int) -> None:
        self._callbacks = f"http://127.0.0.1:{port}/callbacks/bench"
        self._vendor = f"http://127.0.0.1:{vendor}/v1/videos/text2video"
        self._subscriber = f"http://127.0.0.1:{subscriber}/hook" if subscriber else ""
        self._numbers = itertools.count()
        self._tasks: set[asyncio.Task[None]] = set()
        self.app = Starlette(
            routes=[
                Route("/v1/jobs", self._submit, methods=["POST"]),
                Route("/callbacks/{account}/{token}", self._push, methods=["POST"]),
                Route("/readyz", lambda _: JSONResponse({"status": "ok"})),
            ],
            lifespan=self._lifespan,
        )

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=128)) as self._http:
            yield

    async def _submit(self, request: Request) -> JSONResponse:
        order = json.loads(await request.body())
        job = f"job_{next(self._numbers)}"
        ids = {"external_task_id": job, "callback_url": f"{self._callbacks}/{job}"}
        self._start(self._post(self._vendor, encode({**order["input"], **ids})))
        return JSONResponse({"id": job}, status_code=202)

    async def _push(self, request: Request) -> JSONResponse:
        push = json.loads(await request.body())
        if self._subscriber:
            job = push["task_info"]["external_task_id"]
            data = {"id": job, "output": push["task_result"]}
            event = {"type": "job.succeeded", "sequence": 1, "data": data}
            headers = {"webhook-id": f"evt_{job}"}
            self._start(self._post(self._subscriber, encode(event), headers))
        return JSONResponse({"ok": True})

    async def _post(self, url: str, body: bytes, headers: dict[str, str] | None = None) -> None:
        async with self._http.post(url, data=body, headers=headers) as answer:
            await answer.read()

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def main() -> None:
    """Serve until the bench ends this process."""
    end_with_bench()
    sock = listen()
    vendor, subscriber, *plain = sys.argv[1:]
    app = ReferenceServer(port_of(sock), int(vendor), int(subscriber)).app
    loop, http = ("asyncio", "h11") if plain else ("uvloop", "httptools")
    config = uvicorn.Config(
        app, loop=loop, http=http, access_log=False, log_level="error", server_header=False
    )
    print(port_of(sock), flush=True)
    uvicorn.Server(config).run(sockets=[sock])


if __name__ == "__main__":
    main()
