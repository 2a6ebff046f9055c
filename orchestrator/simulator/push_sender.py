"""Sends pushes to callback URLs over one keep-alive session, in order per render.

Faults may drop, delay, duplicate, reorder, forge or backdate a push.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

import aiohttp
from standardwebhooks import Webhook

from orchestrator.simulator.authentication import Credentials
from orchestrator.simulator.faults import FaultInjector
from orchestrator.simulator.json_body import JSON
from orchestrator.simulator.records import FINAL, Push, Render, State

CONNECTIONS: Final = 64
STALE_SECONDS: Final = 600
TIMEOUT: Final = aiohttp.ClientTimeout(total=15)


def signature_headers(secrets: tuple[str, ...], push: Push, at: float) -> dict[str, str]:
    """Return Standard Webhooks headers, one signature per secret; none without a secret."""
    moment = datetime.fromtimestamp(int(at), tz=UTC)
    body = push.body.decode()
    signatures = [Webhook(secret).sign(push.message_id, moment, body) for secret in secrets]
    headers = {"webhook-id": push.message_id, "webhook-timestamp": str(int(at))}
    return {**headers, "webhook-signature": " ".join(signatures)} if signatures else {}


def encode(body: JSON) -> bytes:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def alter_token(url: str) -> str:
    """Return the URL with one character of its last segment, the token, changed."""
    head, _, token = url.rpartition("/")
    middle = len(token) // 2
    changed = "B" if token[middle : middle + 1] == "A" else "A"
    return f"{head}/{token[:middle]}{changed}{token[middle + 1 :]}"


class InFlight:
    """Counts work in progress, and waits until there is none."""

    def __init__(self) -> None:
        self._count = 0
        self._none = asyncio.Event()

    def begin(self) -> None:
        self._count += 1
        self._none.clear()

    def end(self) -> None:
        self._count -= 1
        if not self._count:
            self._none.set()

    async def wait_for_none(self) -> None:
        while self._count:
            await self._none.wait()


class PushSender:
    """Posts pushes, and records each attempt in `pushes`.

    A push without a 2xx is sent again up to `retries` times (Kling's pages promise none).
    """

    def __init__(
        self, injector: FaultInjector, credentials: dict[str, Credentials], retries: int = 0
    ) -> None:
        self.pushes: list[Push] = []
        self.in_flight = InFlight()
        self._injector = injector
        self._secrets = {vendor: each.webhook_secrets for vendor, each in credentials.items()}
        self._retries = retries
        self._tasks: set[asyncio.Task[None]] = set()
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        connector = aiohttp.TCPConnector(limit=CONNECTIONS, keepalive_timeout=30)
        self._session = aiohttp.ClientSession(
            connector=connector, cookie_jar=aiohttp.DummyCookieJar(), timeout=TIMEOUT
        )

    async def close(self) -> None:
        """Cancel every push in flight."""
        for task in [*self._tasks]:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._session:
            await self._session.close()
        self._session = None

    def new_push(self, render: Render, url: str, state: State, body: JSON) -> Push:
        message_id = f"msg_{self._injector.rng.getrandbits(64):016x}"
        task_id, external = render.ids.push, render.external_task_id
        return Push(render.vendor, task_id, external, state, "push", url, message_id, encode(body))

    def send(self, render: Render, push: Push, forged_body: Callable[[], JSON]) -> None:
        """Send a push after those of the same render, subject to faults."""
        if self._strikes(push, "forged_push"):
            body = encode(forged_body())
            self._enqueue(
                render, replace(push, kind="forged", url=alter_token(push.url), body=body)
            )
        if self._strikes(push, "drop_push"):
            self.pushes.append(replace(push, kind="dropped"))
        else:
            self._send(render, push)
        if push.state in FINAL and render.held_push:
            self._enqueue(render, render.held_push)
            render.held_push = None

    def _send(self, render: Render, push: Push) -> None:
        """Send a push that is not dropped: now, late or twice. A dropped push has no duplicate."""
        if push.state == "processing" and self._strikes(push, "reorder_push"):
            render.held_push = push
        elif self._strikes(push, "delay_push"):
            seconds = self._injector.rng.uniform(*self._injector.faults.delay_seconds)
            self._spawn(self._deliver_after(seconds, push))
        elif self._secrets[push.vendor] and self._strikes(push, "stale_push"):
            self._enqueue(render, replace(push, kind="stale"))
        else:
            self._enqueue(render, push)
        if self._strikes(push, "duplicate_push"):
            self._enqueue(render, replace(push, kind="duplicate"))

    async def deliver(self, push: Push) -> None:
        """Send one push now, with retries."""
        for attempt in range(self._retries + 1):
            sent = replace(push)
            await self._attempt(sent)
            if sent.status is not None and 200 <= sent.status < 300:
                return
            if attempt < self._retries:
                await asyncio.sleep(0.2 * 2**attempt)

    def _strikes(self, push: Push, fault: str) -> bool:
        return self._injector.strikes(push.vendor, "push", fault)

    def _enqueue(self, render: Render, push: Push) -> None:
        render.push_queue.append(push)
        if not render.is_sending:
            render.is_sending = True
            self._spawn(self._drain(render))

    async def _drain(self, render: Render) -> None:
        while render.push_queue:
            await self.deliver(render.push_queue.popleft())
        render.is_sending = False

    async def _deliver_after(self, seconds: float, push: Push) -> None:
        await asyncio.sleep(seconds)
        await self.deliver(push)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        if self._session is None:
            work.close()
            return
        task = asyncio.create_task(work)
        self._tasks.add(task)
        self.in_flight.begin()
        task.add_done_callback(self._finish)

    def _finish(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self.in_flight.end()

    async def _attempt(self, push: Push) -> None:
        if self._session is None:
            return
        push.at = time.time()
        signed_at = push.at - STALE_SECONDS if push.kind == "stale" else push.at
        secrets = () if push.kind == "forged" else self._secrets[push.vendor]
        signature = signature_headers(secrets, push, signed_at)
        push.headers = {"content-type": "application/json", **signature}
        self.pushes.append(push)
        try:
            async with self._session.post(
                push.url, data=push.body, headers=push.headers, allow_redirects=False
            ) as response:
                await response.content.read(65_536)
                push.status = response.status
        except (aiohttp.ClientError, TimeoutError) as error:
            push.error = type(error).__name__
