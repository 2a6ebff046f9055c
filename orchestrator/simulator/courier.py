"""Carries pushes to callback URLs: one keep-alive session, in order per render, unless a fault says otherwise."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

import aiohttp
from standardwebhooks import Webhook

from orchestrator.simulator.dialect import Keys
from orchestrator.simulator.faults import Chance
from orchestrator.simulator.render import FINAL, Push, Render, State
from orchestrator.simulator.shapes import JSON

CONNECTIONS: Final = 64
STALE_SECONDS: Final = 600
TIMEOUT: Final = aiohttp.ClientTimeout(total=15)


def signature(keys: Keys, push: Push, at: float) -> dict[str, str]:
    """Standard Webhooks headers, one signature per secret; none without a secret."""
    moment = datetime.fromtimestamp(int(at), tz=UTC)
    signed = [
        Webhook(secret).sign(push.message_id, moment, push.body.decode())
        for secret in keys.webhook_secrets
    ]
    if not signed:
        return {}
    return {
        "webhook-id": push.message_id,
        "webhook-timestamp": str(int(at)),
        "webhook-signature": " ".join(signed),
    }


def encoded(body: JSON) -> bytes:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def tampered(url: str) -> str:
    """The same URL with one character of its last segment, the token, changed."""
    head, _, token = url.rpartition("/")
    middle = len(token) // 2
    return f"{head}/{token[:middle]}{'A' if token[middle : middle + 1] != 'A' else 'B'}{token[middle + 1 :]}"


class Tally:
    """Counts work that is under way, and lets others wait until there is none."""

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

    async def settled(self) -> None:
        while self._count:
            await self._none.wait()


class Courier:
    """Posts pushes and keeps a record of each. `retries` repeats what was not answered with 2xx (Kling states none)."""

    def __init__(self, chance: Chance, keys: dict[str, Keys], retries: int = 0) -> None:
        self.pushes: list[Push] = []
        self.tally = Tally()
        self._chance = chance
        self._keys = keys
        self._retries = retries
        self._tasks: set[asyncio.Task[None]] = set()
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        connector = aiohttp.TCPConnector(limit=CONNECTIONS, keepalive_timeout=30)
        self._session = aiohttp.ClientSession(
            connector=connector, cookie_jar=aiohttp.DummyCookieJar(), timeout=TIMEOUT
        )

    async def close(self) -> None:
        """Give up what is still on its way."""
        for task in [*self._tasks]:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._session:
            await self._session.close()
        self._session = None

    def compose(self, render: Render, state: State, body: JSON, rng: random.Random) -> Push:
        """A push for a render that has a callback URL."""
        url = render.callback_url or ""
        message = f"msg_{rng.getrandbits(64):016x}"
        return Push(
            render.vendor,
            render.names.push,
            render.external_task_id,
            state,
            "push",
            url,
            message,
            encoded(body),
        )

    def post(self, render: Render, push: Push, forge: Callable[[], JSON]) -> None:
        """Send a push after those of the same render, subject to faults. `forge` makes the body a forger would send."""
        if self._strikes(push, "forged_push"):
            fake = replace(push, kind="forged", url=tampered(push.url), body=encoded(forge()))
            self._queue(render, fake)
        if self._strikes(push, "drop_push"):
            self.pushes.append(replace(push, kind="dropped"))
        else:
            self._send(render, push)
        if push.state in FINAL and render.parked:
            self._queue(render, render.parked)
            render.parked = None

    def _send(self, render: Render, push: Push) -> None:
        """Send what is not dropped: as it is, later, or twice. What is lost is lost with its duplicate."""
        if push.state == "processing" and self._strikes(push, "reorder_push"):
            render.parked = push
        elif self._strikes(push, "delay_push"):
            self._spawn(
                self._later(push, self._chance.rng.uniform(*self._chance.faults.delay_seconds))
            )
        else:
            self._queue(render, self._staled(push))
        if self._strikes(push, "duplicate_push"):
            self._queue(render, replace(push, kind="duplicate"))

    async def deliver(self, push: Push) -> None:
        """Send one push now and note what came of it."""
        for attempt in range(self._retries + 1):
            sent = replace(push)
            await self._attempt(sent)
            if sent.status is not None and 200 <= sent.status < 300:
                return
            if attempt < self._retries:
                await asyncio.sleep(0.2 * 2**attempt)

    def _strikes(self, push: Push, fault: str) -> bool:
        return self._chance.strikes(push.vendor, "push", fault)

    def _staled(self, push: Push) -> Push:
        signed = bool(self._keys[push.vendor].webhook_secrets)
        return replace(push, kind="stale") if signed and self._strikes(push, "stale_push") else push

    def _queue(self, render: Render, push: Push) -> None:
        render.outbox.append(push)
        if not render.sending:
            render.sending = True
            self._spawn(self._drain(render))

    async def _drain(self, render: Render) -> None:
        while render.outbox:
            await self.deliver(render.outbox.popleft())
        render.sending = False

    async def _later(self, push: Push, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self.deliver(push)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        if self._session is None:
            work.close()
            return
        task = asyncio.create_task(work)
        self._tasks.add(task)
        self.tally.begin()
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self.tally.end()

    async def _attempt(self, push: Push) -> None:
        if self._session is None:
            return
        push.at = time.time()
        signed_at = push.at - STALE_SECONDS if push.kind == "stale" else push.at
        keys = Keys("") if push.kind == "forged" else self._keys[push.vendor]
        push.headers = {"content-type": "application/json", **signature(keys, push, signed_at)}
        self.pushes.append(push)
        try:
            async with self._session.post(
                push.url, data=push.body, headers=push.headers, allow_redirects=False
            ) as answer:
                await answer.content.read(65_536)
                push.status, push.error = answer.status, None
        except (aiohttp.ClientError, TimeoutError) as error:
            push.error = type(error).__name__
