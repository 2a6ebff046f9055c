"""A subscriber that verifies with the public Standard Webhooks library, counts, and misbehaves."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, get_args

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

from orchestrator.simulator.json_body import JsonObject, object_at, parse_object, select, string_at
from orchestrator.simulator.server import LocalServer

Misbehaviour: TypeAlias = Literal["error", "gone", "slow_down", "hang", "trickle", "redirect"]
COMPLETIONS: Final = frozenset({"job.succeeded", "job.failed", "job.canceled", "job.expired"})
REPORTED: Final = ("webhook_id", "type", "job", "verified", "late", "answered", "at")


@dataclass(frozen=True, slots=True)
class Received:
    """One delivery, and the status it got. `late` marks an outcome after `job.expired`."""

    webhook_id: str
    type: str
    job: str | None
    verified: bool
    late: bool
    answered: int
    at: float
    body: bytes


class Subscriber:
    """A server with `/hook` for webhooks and `/slack` for Slack messages.

    `secrets` may grow at any time.
    """

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
        self._server = LocalServer(Starlette(routes=routes), port, host)
        self.url = self._server.url + "/hook"
        self.slack_url = self._server.url + "/slack"

    async def __aenter__(self) -> Subscriber:
        await self._server.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        self._closing.set()
        await self._server.stop()

    def misbehave(self, how: Misbehaviour, times: int = 1, seconds: float = 3600) -> None:
        """Treat the next `times` deliveries badly.

        `error` is a 500, `gone` a 410, `slow_down` a 429, `redirect` a 302, `trickle` a body of one
        byte per second. `seconds` is how long `hang` and `trickle` last, and the Retry-After of
        `slow_down`. Raises `ValueError` for another `how`.
        """
        if how not in get_args(Misbehaviour):
            raise ValueError(f"no misbehaviour {how}")
        self._script.extend([(how, seconds)] * times)

    def duplicates(self) -> dict[str, int]:
        """Return how often each webhook-id arrived again after a 2xx."""
        accepted = Counter(each.webhook_id for each in self.received if each.answered < 300)
        return {webhook_id: times - 1 for webhook_id, times in accepted.items() if times > 1}

    def completions(self) -> Counter[str]:
        """Return the number of distinct completion events per job.

        A late outcome after `job.expired` is no second completion.
        """
        done = [each for each in self.received if each.type in COMPLETIONS and not each.late]
        return Counter(job for job, _ in {(each.job or "", each.webhook_id) for each in done})

    def report(self) -> JsonObject:
        """Return everything received, for `/_control/report`."""
        return {
            "deliveries": [select(each, *REPORTED) for each in self.received],
            "verified": sum(each.verified for each in self.received),
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
        body = parse_or_empty(raw)
        return Received(
            webhook_id=request.headers.get("webhook-id", ""),
            type=string_at(body, "type") or "",
            job=string_at(object_at(body, "data"), "id"),
            verified=is_signed(self.secrets, raw, dict(request.headers)),
            late=body.get("late") is True,
            answered=answered,
            at=time.time(),
            body=raw,
        )

    def _response(self, how: Misbehaviour | None, seconds: float) -> Response:
        match how:
            case "error" | "gone":
                return PlainTextResponse(how, 500 if how == "error" else 410)
            case "slow_down":
                return PlainTextResponse("slow down", 429, {"retry-after": str(int(seconds))})
            case "redirect":
                return RedirectResponse("/elsewhere", 302)
            case "trickle":
                return StreamingResponse(self._trickle(seconds))
            case _:
                return JSONResponse({"ok": True})

    async def _trickle(self, seconds: float) -> AsyncIterator[bytes]:
        for _ in range(int(seconds)):
            yield b"."
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), 1)
                return

    async def _slack(self, request: Request) -> Response:
        body = parse_or_empty(await request.body())
        blocks = body.get("blocks")
        if not string_at(body, "text"):
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


def parse_or_empty(raw: bytes) -> JsonObject:
    try:
        return parse_object(raw)
    except ValueError:
        return {}


def is_signed(secrets: Iterable[str], raw: bytes, headers: dict[str, str]) -> bool:
    """Return whether a secret signed this body.

    The library raises `ValueError` for a malformed signature.
    """
    for secret in secrets:
        with contextlib.suppress(WebhookVerificationError, ValueError):
            Webhook(secret).verify(raw, headers, json_parse=False)
            return True
    return False
