"""A vendor that costs next to nothing and speaks Kling's two standards, as far as a bench needs them.

It takes every order, pushes its success a moment later over a few connections, and says of every other task that it
is being worked on. `GET /count` answers what it has seen.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import sys
import time
from collections import deque
from typing import Any
from urllib.parse import urlsplit

from orchestrator.cli.bench.raw import Line, get, line, request, response
from orchestrator.foundation.json_codec import encode

#: Connections that pushes go over.
_LINES = 16
#: Seconds before a push that was not taken is sent again.
_AGAIN = 0.5
_FIRST = 8 * 10**17
#: Orders, questions, tasks that were asked about, pushes that were taken.
SEEN = ("submissions", "questions", "tasks", "pushes")


class Gateway:
    """The vendor."""

    def __init__(self, render: float) -> None:
        self.submissions = self.questions = self.tasks = self.pushes = 0
        self._render = render
        self._numbers = itertools.count(_FIRST)
        self._waiting: deque[tuple[str, bytes]] = deque()
        self._pushing: set[asyncio.Task[None]] = set()

    def __call__(self, head: bytes, body: bytes) -> bytes:
        """Answer a request."""
        if head.startswith(b"POST"):
            return self._take(json.loads(body))
        path = head[4 : head.index(b" ", 4)].decode()
        if path == "/count":
            return response(encode({name: getattr(self, name) for name in SEEN}))
        self.questions += 1
        asked, _, ids = path.partition("?task_ids=")
        if ids:
            tasks = [self._new(task) for task in ids.replace("%2C", ",").split(",")]
            self.tasks += len(tasks)
            return response(encode({"code": 0, "message": "SUCCEED", "data": tasks}))
        self.tasks += 1
        return response(
            encode(
                {"code": 0, "message": "SUCCEED", "data": self._legacy(asked.rpartition("/")[2])}
            )
        )

    def _take(self, order: dict[str, Any]) -> bytes:
        self.submissions += 1
        task, ours = str(next(self._numbers)), str(order["external_task_id"])
        loop = asyncio.get_running_loop()
        loop.call_later(
            self._render, self._done, str(order["callback_url"]), encode(success(task, ours))
        )
        return response(
            encode({"code": 0, "message": "SUCCEED", "data": self._legacy(task, "submitted")})
        )

    def _legacy(self, task: str, status: str = "processing") -> dict[str, Any]:
        now = int(time.time() * 1000)
        return {
            "task_id": task,
            "task_status": status,
            "task_status_msg": "",
            "created_at": now,
            "updated_at": now,
        }

    def _new(self, task: str) -> dict[str, Any]:
        now = int(time.time() * 1000)
        return {
            "id": task,
            "status": "processing",
            "message": "",
            "create_time": now,
            "update_time": now,
        }

    def _done(self, url: str, body: bytes) -> None:
        self._waiting.append((url, body))
        if len(self._pushing) < _LINES:
            task = asyncio.get_running_loop().create_task(self._push())
            self._pushing.add(task)
            task.add_done_callback(self._pushing.discard)

    async def _push(self) -> None:
        """Send what waits, over one connection, until nothing does."""
        there: Line | None = None
        while self._waiting:
            url, body = self._waiting.popleft()
            parts = urlsplit(url)
            with contextlib.suppress(OSError):
                there = there or await line(parts.port or 80)
                status, _ = await there.ask(request("POST", parts.path, body))
                if status == 200:
                    self.pushes += 1
                    continue
            there = None
            asyncio.get_running_loop().call_later(_AGAIN, self._done, url, body)
        if there is not None:
            await there.close()


def success(task: str, external: str) -> dict[str, Any]:
    """Return the push that ends a job, in the legacy standard."""
    return {
        "task_id": task, "task_status": "succeed", "task_status_msg": "", "created_at": 1774805076166,
        "updated_at": 1774805136166, "final_unit_deduction": "1", "task_info": {"external_task_id": external},
        "task_result": {"videos": [{"id": task, "url": f"https://cdn.example.com/{task}.mp4", "duration": "5.1"}]},
    }  # fmt: skip


async def count(port: int) -> dict[str, int]:
    """Return what the vendor on a port has seen."""
    told: dict[str, int] = json.loads(await get(port, "/count"))
    return told


def main() -> None:
    """Be the vendor. The one argument is the seconds that a render takes."""
    from orchestrator.cli.bench.child import serve

    serve(Gateway(float(sys.argv[1])))


if __name__ == "__main__":
    main()
