"""Subscribers that receive events, callers that submit jobs, and an operator."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import httpx
from standardwebhooks.webhooks import Webhook

from orchestrator.foundation.states import SubscriberState
from tests.harness.api_caller import KEY
from tests.simulate.asgi import Response
from tests.simulate.clock import START
from tests.simulate.network import Trickle
from tests.simulate.wishes import Wish

if TYPE_CHECKING:
    from tests.simulate.world import World

_HEADERS = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}


class Subscriber:
    """A webhook endpoint that events are delivered to."""

    def __init__(self, world: World, host: str, *, answers: bool) -> None:
        self.host = host
        self.answers = answers
        self.id = ""
        self.secret = ""
        self.wish = Wish(None, lambda _: True, ordered=False)
        #: Answers with a 2xx by event id.
        self.accepted: defaultdict[str, int] = defaultdict(int)
        self._bodies: dict[str, bytes] = {}
        self._world = world

    async def serve(self, request: httpx.Request) -> httpx.Response | None:
        """Answer one delivery."""
        world, name = self._world, request.headers["webhook-id"]
        self._verify(request, name)
        world.checker.heard(self, name)
        if not self.answers or world.occurs("subscriber_hangs"):
            return None
        if world.occurs("subscriber_5xx"):
            return httpx.Response(world.rng.choice((500, 503, 404, 429, 302)))
        if world.occurs("subscriber_retry_after"):
            return httpx.Response(503, headers={"retry-after": str(world.rng.choice((1, 30, 600)))})
        if world.occurs("subscriber_gone"):
            return httpx.Response(410)
        # The status line decides, whatever follows it.
        self.accepted[name] += 1
        world.trace.add(self.host, "takes", name)
        return httpx.Response(200, stream=Trickle() if world.occurs("trickle") else None)

    def _verify(self, request: httpx.Request, name: str) -> None:
        """Verify the signature with the public library, and that the bytes are always equal."""
        at = START.fromtimestamp(int(request.headers["webhook-timestamp"]), START.tzinfo)
        if (
            Webhook(self.secret).sign(name, at, request.content.decode())
            not in request.headers["webhook-signature"]
        ):
            self._world.report_violation(f"{self.host}: the signature of {name} is wrong")
        if self._bodies.setdefault(name, request.content) != request.content:
            self._world.report_violation(f"{self.host}: {name} has other bytes than before")
        if json.loads(request.content)["id"] != name:
            self._world.report_violation(f"{self.host}: the body of {name} has another event id")


class Caller:
    """Submits one job with an idempotency key, and retries until it is answered."""

    def __init__(self, world: World, number: int) -> None:
        self.number = number
        self.done = False
        self._world = world

    async def run(self) -> None:
        """Submit the job, then refresh, cancel or retry it as the plan draws."""
        world, rng = self._world, self._world.rng
        await asyncio.sleep(rng.uniform(0, world.plan.submit_until))
        body: dict[str, Any] = {
            "account": rng.choice(world.plan.accounts), "model": world.model(),
            "capability": "text2video", "input": {"prompt": "a cat"},
            "deadline": rng.choice((60, 600, 3600)),
        }  # fmt: skip
        if rng.random() < 0.3:
            body["callback_url"] = "https://caller.example.com/hook"
        body |= world.schedule()
        job = await self._submit("/v1/jobs", body, f"order-{self.number}")
        if world.occurs("refresh"):
            await asyncio.sleep(rng.uniform(0, 60))
            await self._post(f"/v1/jobs/{job}/refresh")
        if world.occurs("cancel"):
            await asyncio.sleep(rng.uniform(0, 60))
            await self._post(f"/v1/jobs/{job}/cancel")
        if world.occurs("retry"):
            await asyncio.sleep(rng.uniform(30, 200))
            answered = await self._post(f"/v1/jobs/{job}/retry")
            if answered is not None and answered.status == 202:
                world.checker.job_acknowledged(answered.json["id"])
        self.done = True

    async def _submit(self, path: str, body: dict[str, Any], key: str) -> str:
        """Submit until answered, sometimes once more. Every answer must name the same job."""
        world, names = self._world, set[str]()
        sent, again = json.dumps(body).encode(), world.rng.random() < 0.3
        while not names or again:
            answered = await world.call("POST", path, sent, _HEADERS | {"idempotency-key": key})
            if answered is not None and answered.status == 202:
                again = again and not names
                names.add(answered.json["id"])
                world.checker.job_acknowledged(answered.json["id"])
            elif answered is not None and answered.status != 503:
                world.report_violation(
                    f"a submission was answered with {answered.status}: {answered.body!r}"
                )
            await asyncio.sleep(world.rng.uniform(0.1, 5))
        if len(names) > 1:
            world.report_violation(f"two jobs with one idempotency key: {sorted(names)}")
        return sorted(names)[0]

    async def _post(self, path: str) -> Response | None:
        answered = await self._world.call("POST", path, b"", _HEADERS)
        if answered is not None and answered.status not in (200, 202, 409, 503):
            self._world.report_violation(
                f"{path} was answered with {answered.status}: {answered.body!r}"
            )
        return answered


async def operator(world: World) -> None:
    """Pause and resume subscribers and replay deliveries at random until the calm phase."""
    while not world.calm:
        await asyncio.sleep(world.rng.uniform(5, 120))
        if not world.occurs("operator"):
            continue
        subscriber = world.rng.choice(world.subscribers)
        action = world.rng.choice(("pause", "resume", "replay"))
        body = b'{"status": "dead"}' if action == "replay" and world.rng.random() < 0.5 else b""
        await world.call("POST", f"/v1/subscribers/{subscriber.id}/{action}", body, _HEADERS)


async def resume_all(world: World) -> None:
    """Resume each subscriber that is not active, or of which nothing has been committed yet.

    Others are left alone: their deliveries must become due without help.
    """
    for subscriber in world.subscribers:
        while (
            row := world.checker.committed.subscribers.get(subscriber.id)
        ) is None or row.state != SubscriberState.ACTIVE:
            await world.call("POST", f"/v1/subscribers/{subscriber.id}/resume", b"", _HEADERS)
            await asyncio.sleep(1)
