"""A vendor that costs next to nothing and speaks Kling's two standards as far as a bench needs.

It accepts every submission and pushes success after a delay; status queries about any task answer
`processing`. `GET /count` returns its counters.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import sys
import time
from collections import Counter, deque
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from orchestrator.cli.bench.raw_http import (
    ClientConnection,
    ServerConnection,
    connect,
    get,
    request,
    response,
    serve,
)
from orchestrator.foundation.json_codec import encode

#: Connections that send pushes.
_CONNECTIONS = 16
#: Seconds until a push that was not acknowledged is sent again.
_RETRY_AFTER = 0.5
_FIRST_TASK = 8 * 10**17


class StubVendor:
    """Answers requests; `render_seconds` pass from a submission to its push."""

    def __init__(self, render_seconds: float) -> None:
        #: Submissions, queries (requests), tasks that were queried.
        self.counts = Counter[str](submissions=0, queries=0, tasks=0)
        self._render_seconds = render_seconds
        self._numbers = itertools.count(_FIRST_TASK)
        self._pending: deque[tuple[str, bytes]] = deque()
        self._senders: set[asyncio.Task[None]] = set()

    def __call__(self, head: bytes, body: bytes) -> bytes:
        """Return the response to a request."""
        if head.startswith(b"POST"):
            return _answer(self._submit(json.loads(body)))
        path = head[4 : head.index(b" ", 4)].decode()
        if path == "/count":
            return response(encode(self.counts))
        # The new standard queries many tasks with one request, the legacy standard one.
        legacy, _, ids = path.partition("?task_ids=")
        tasks = ids.replace("%2C", ",").split(",") if ids else [legacy.rpartition("/")[2]]
        self.counts.update(queries=1, tasks=len(tasks))
        found = [_task(task) for task in tasks]
        return _answer(found if ids else found[0])

    def _submit(self, order: dict[str, Any]) -> dict[str, Any]:
        self.counts["submissions"] += 1
        task, url = str(next(self._numbers)), str(order["callback_url"])
        body = encode(success_push(task, str(order["external_task_id"])))
        asyncio.get_running_loop().call_later(self._render_seconds, self._push, url, body)
        return _task(task)

    def _push(self, url: str, body: bytes) -> None:
        self._pending.append((url, body))
        if len(self._senders) < _CONNECTIONS:
            task = asyncio.get_running_loop().create_task(self._send_pending())
            self._senders.add(task)
            task.add_done_callback(self._senders.discard)

    async def _send_pending(self) -> None:
        """Send pushes over one connection until none is pending."""
        connection: ClientConnection | None = None
        while self._pending:
            url, body = self._pending.popleft()
            parts = urlsplit(url)
            with contextlib.suppress(OSError):
                connection = connection or await connect(parts.port or 80)
                status, _ = await connection.send(request("POST", parts.path, body))
                if status == 200:
                    continue
            connection = None
            asyncio.get_running_loop().call_later(_RETRY_AFTER, self._push, url, body)
        if connection is not None:
            connection.transport.close()


def _answer(data: object) -> bytes:
    return response(encode({"code": 0, "message": "SUCCEED", "data": data}))


def _task(task: str) -> dict[str, Any]:
    """Return a task with the fields of both standards."""
    now = int(time.time() * 1000)
    legacy = {"task_id": task, "task_status": "processing", "created_at": now, "updated_at": now}
    return legacy | {"id": task, "status": "processing", "create_time": now, "update_time": now}


def success_push(task: str, external_task_id: str) -> dict[str, Any]:
    """Return the push that ends a job, in the legacy standard."""
    video = {"id": task, "url": f"https://cdn.example.com/{task}.mp4", "duration": "5.1"}
    return {
        "task_id": task,
        "task_status": "succeed",
        "task_status_msg": "",
        "created_at": 1774805076166,
        "updated_at": 1774805136166,
        "final_unit_deduction": "1",
        "task_info": {"external_task_id": external_task_id},
        "task_result": {"videos": [video]},
    }


async def fetch_counts(port: int) -> dict[str, int]:
    """Return the counters of the stub on a port."""
    counts: dict[str, int] = json.loads(await get(port, "/count"))
    return counts


if __name__ == "__main__":
    serve(partial(ServerConnection, StubVendor(float(sys.argv[1]))))
