"""Subscribers, who want events, and callers, who want renders."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import httpx
from standardwebhooks.webhooks import Webhook

from orchestrator.foundation.states import SubscriberState
from tests.harness.api_caller import KEY
from tests.simulate.doors import Answered
from tests.simulate.network import Trickle
from tests.simulate.start import START

if TYPE_CHECKING:
    from tests.simulate.world import World

_HEADERS = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}


class Subscriber:
    """An address that events are sent to."""

    def __init__(self, world: World, host: str, *, answers: bool) -> None:
        self.host = host
        self.answers = answers
        self.id = ""
        self.secret = ""
        #: Events it answered with a 2xx, however often; and what it was told of each event.
        self.taken: defaultdict[str, int] = defaultdict(int)
        self._bodies: dict[str, bytes] = {}
        self._world = world

    async def serve(self, request: httpx.Request) -> httpx.Response | None:
        """Answer one delivery."""
        world, name = self._world, request.headers["webhook-id"]
        self._verify(request, name)
        if not self.answers or world.strikes("subscriber_hangs"):
            return None
        if world.strikes("subscriber_5xx"):
            return httpx.Response(world.dice.choice((500, 503, 404, 429, 302)))
        if world.strikes("subscriber_rests"):
            return httpx.Response(
                503, headers={"retry-after": str(world.dice.choice((1, 30, 600)))}
            )
        if world.strikes("subscriber_gone"):
            return httpx.Response(410)
        if world.strikes("trickle"):
            return httpx.Response(200, stream=Trickle())
        self.taken[name] += 1
        world.trace.say(self.host, "takes", name)
        return httpx.Response(200)

    def _verify(self, request: httpx.Request, name: str) -> None:
        """The public library must agree with the signature, and the same event must always be the same bytes."""
        at = START.fromtimestamp(int(request.headers["webhook-timestamp"]), START.tzinfo)
        if (
            Webhook(self.secret).sign(name, at, request.content.decode())
            not in request.headers["webhook-signature"]
        ):
            self._world.complain(f"{self.host}: a delivery of {name} is not signed")
        if self._bodies.setdefault(name, request.content) != request.content:
            self._world.complain(f"{self.host}: {name} came with other bytes before")
        if json.loads(request.content)["id"] != name:
            self._world.complain(f"{self.host}: {name} names another event in its body")


class Caller:
    """Somebody who wants one job done, and is careful about it."""

    def __init__(self, world: World, number: int) -> None:
        self.number = number
        self.done = False
        self._world = world

    async def run(self) -> None:
        """Submit it; then look, cancel, refresh or retry, as the mood takes them."""
        world, dice = self._world, self._world.dice
        await asyncio.sleep(dice.uniform(0, world.plan.busy_until))
        body: dict[str, Any] = {
            "account": dice.choice(world.plan.accounts), "model": "kling-v3", "capability": "text2video",
            "input": {"prompt": "a cat"}, "deadline": dice.choice((60, 600, 3600)),
        }  # fmt: skip
        if dice.random() < 0.3:
            body["callback_url"] = "https://caller.example.com/hook"
        job = await self._submitted("/v1/jobs", body, f"order-{self.number}")
        if world.strikes("refresh"):
            await asyncio.sleep(dice.uniform(0, 60))
            await self._post(f"/v1/jobs/{job}/refresh")
        if world.strikes("cancel"):
            await asyncio.sleep(dice.uniform(0, 60))
            await self._post(f"/v1/jobs/{job}/cancel")
        if world.strikes("retry"):
            await asyncio.sleep(dice.uniform(30, 200))
            answered = await self._post(f"/v1/jobs/{job}/retry")
            if answered is not None and answered.status == 202:
                world.checker.owned(answered.json["id"])
        self.done = True

    async def _submitted(self, path: str, body: dict[str, Any], key: str) -> str:
        """Send it until it is answered, and once more now and then: every answer must name the same job."""
        world, names = self._world, set[str]()
        sent, again = json.dumps(body).encode(), world.dice.random() < 0.3
        while not names or again:
            answered = await world.call("POST", path, sent, _HEADERS | {"idempotency-key": key})
            if answered is not None and answered.status == 202:
                again = again and not names
                names.add(answered.json["id"])
                world.checker.owned(answered.json["id"])
            elif answered is not None and answered.status != 503:
                world.complain(
                    f"a submission was answered with {answered.status}: {answered.body!r}"
                )
            await asyncio.sleep(world.dice.uniform(0.1, 5))
        if len(names) > 1:
            world.complain(f"one key, two jobs: {sorted(names)}")
        return sorted(names)[0]

    async def _post(self, path: str) -> Answered | None:
        answered = await self._world.call("POST", path, b"", _HEADERS)
        if answered is not None and answered.status not in (200, 202, 409, 503):
            self._world.complain(f"{path} was answered with {answered.status}: {answered.body!r}")
        return answered


async def operator(world: World) -> None:
    """Pause and resume subscribers, repeat deliveries, now and then, until it is calm."""
    while not world.calm:
        await asyncio.sleep(world.dice.uniform(5, 120))
        if not world.strikes("operator"):
            continue
        someone = world.dice.choice(world.subscribers)
        verb = world.dice.choice(("pause", "resume", "replay"))
        body = b'{"status": "dead"}' if verb == "replay" and world.dice.random() < 0.5 else b""
        await world.call("POST", f"/v1/subscribers/{someone.id}/{verb}", body, _HEADERS)


async def resume_all(world: World) -> None:
    """Switch on again whoever is off. Who is not is left alone: what its deliveries wait for must come by itself."""
    for someone in world.subscribers:
        while world.checker.books.subscribers[someone.id].state != SubscriberState.ACTIVE:
            await world.call("POST", f"/v1/subscribers/{someone.id}/resume", b"", _HEADERS)
            await asyncio.sleep(1)
