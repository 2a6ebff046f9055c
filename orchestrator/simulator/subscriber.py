"""A subscriber that verifies with the public Standard Webhooks library, keeps count, and misbehaves when told to."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Literal, TypeAlias

from standardwebhooks import Webhook, WebhookVerificationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import (
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Route

from orchestrator.simulator.serving import Serving
from orchestrator.simulator.shapes import JSON, JsonObject
from orchestrator.simulator.studio import inside, string

Misbehaviour: TypeAlias = Literal["error", "gone", "slow_down", "hang", "trickle", "redirect"]
MISBEHAVIOURS: Final = frozenset({"error", "gone", "slow_down", "hang", "trickle", "redirect"})
COMPLETIONS: Final = frozenset({"job.succeeded", "job.failed", "job.canceled", "job.expired"})


@dataclass(frozen=True, slots=True)
class Received:
    """One delivery as it arrived. `answered` is the status given to it; `late` marks a verdict after `job.expired`."""

    webhook_id: str
    type: str
    job: str | None
    verified: bool
    late: bool
    answered: int
    at: float
    body: bytes


class Subscriber:
    """A server with `/hook` for webhooks and `/slack` for Slack's incoming kind. `secrets` may grow at any time."""

    def __init__(self, secrets: Iterable[str] = (), port: int = 0, host: str = "127.0.0.1") -> None:
        self.secrets = [*secrets]
        self.received: list[Received] = []
        self.slack: list[JsonObject] = []
        self.followed_redirects = 0
        self._script: deque[tuple[Misbehaviour, float]] = deque()
        self._closing = asyncio.Event()
        routes = [
            Route("/hook", self._hook, methods=["POST"]),
            Route("/slack", self._slack, methods=["POST"]),
            Route("/elsewhere", self._elsewhere, methods=["GET", "POST"]),
        ]
        self._serving = Serving(Starlette(routes=routes), port, host)
        self.url = self._serving.url + "/hook"
        self.slack_url = self._serving.url + "/slack"

    async def __aenter__(self) -> Subscriber:
        await self._serving.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closing.set()
        await self._serving.stop()

    def misbehave(self, how: Misbehaviour, times: int = 1, seconds: float = 3600) -> None:
        """Treat the next `times` deliveries badly. `seconds` is how long it hangs, or the Retry-After of `slow_down`.

        `error` is a 500, `gone` a 410, `slow_down` a 429, `trickle` a body of one byte per second. Raises ValueError
        for other words.
        """
        if how not in MISBEHAVIOURS:
            raise ValueError(f"no misbehaviour {how}")
        self._script.extend([(how, seconds)] * times)

    def duplicates(self) -> dict[str, int]:
        """webhook-ids that arrived again after a 2xx, with how often."""
        accepted = Counter(seen.webhook_id for seen in self.received if seen.answered < 300)
        return {webhook_id: times - 1 for webhook_id, times in accepted.items() if times > 1}

    def completions(self) -> Counter[str]:
        """Distinct completion events per job; a late verdict after `job.expired` is not a second one."""
        done = [seen for seen in self.received if seen.type in COMPLETIONS and not seen.late]
        return Counter(job for job, _ in {(seen.job or "", seen.webhook_id) for seen in done})

    def report(self) -> JsonObject:
        """Everything received, for readers in another process."""
        return {
            "deliveries": [
                {
                    "webhook_id": seen.webhook_id,
                    "type": seen.type,
                    "job": seen.job,
                    "verified": seen.verified,
                    "late": seen.late,
                    "answered": seen.answered,
                    "at": seen.at,
                }
                for seen in self.received
            ],
            "verified": sum(seen.verified for seen in self.received),
            "duplicates": dict(self.duplicates()),
            "completions": dict(self.completions()),
            "slack": len(self.slack),
            "followed_redirects": self.followed_redirects,
        }

    async def _hook(self, request: Request) -> Response:
        raw = await request.body()
        how, seconds = self._script.popleft() if self._script else (None, 0.0)
        response = self._response(how, seconds)
        self.received.append(self._read(request, raw, response.status_code))
        if how == "hang":
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), seconds)
        return response

    def _read(self, request: Request, raw: bytes, answered: int) -> Received:
        body = decoded(raw)
        return Received(
            webhook_id=request.headers.get("webhook-id", ""),
            type=string(body.get("type")) or "",
            job=string(inside(body, "data").get("id")),
            verified=verifies(self.secrets, raw, dict(request.headers)),
            late=body.get("late") is True,
            answered=answered,
            at=time.time(),
            body=raw,
        )

    def _response(self, how: Misbehaviour | None, seconds: float) -> Response:
        match how:
            case "error":
                return PlainTextResponse("broken", 500)
            case "gone":
                return PlainTextResponse("gone", 410)
            case "slow_down":
                return PlainTextResponse("slow down", 429, {"retry-after": str(int(seconds))})
            case "redirect":
                return RedirectResponse("/elsewhere", 302)
            case "trickle":
                return StreamingResponse(self._drops(seconds))
            case _:
                return JSONResponse({"ok": True})

    async def _drops(self, seconds: float) -> AsyncIterator[bytes]:
        for _ in range(int(seconds)):
            yield b"."
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), 1)
                return

    async def _slack(self, request: Request) -> Response:
        body = decoded(await request.body())
        blocks = body.get("blocks")
        if not string(body.get("text")):
            return PlainTextResponse("no_text", 400)
        if not isinstance(blocks, list) or not all(
            isinstance(block, dict) and "type" in block for block in blocks
        ):
            return PlainTextResponse("invalid_blocks", 400)
        self.slack.append(body)
        return PlainTextResponse("ok")

    async def _elsewhere(self, request: Request) -> Response:
        self.followed_redirects += 1
        return JSONResponse({"ok": True})


def decoded(raw: bytes) -> JsonObject:
    """The JSON object in a body; an empty one for anything else."""
    try:
        body: JSON = json.loads(raw)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def verifies(secrets: Iterable[str], raw: bytes, headers: dict[str, str]) -> bool:
    """Whether one of the secrets signed this. The library lets a malformed signature's own errors through."""
    for secret in secrets:
        try:
            Webhook(secret).verify(raw, headers, json_parse=False)
        except (WebhookVerificationError, ValueError):
            continue
        return True
    return False
