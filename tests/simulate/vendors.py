"""The gateways: they accept, render, push and answer; and each of these goes wrong as the plan says."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import httpx
from standardwebhooks.webhooks import Webhook

from tests.simulate.dialects import (
    DIALECTS,
    FAILED,
    PROCESSING,
    STRANGE,
    SUBMITTED,
    SUCCEEDED,
    Json,
    Render,
    refused,
)
from tests.simulate.start import START

if TYPE_CHECKING:
    from tests.simulate.world import World

#: The account that requires signatures, and their key.
SIGNED, SECRET = "kling", "whsec_" + "c2ltdWxhdGVkLXNlY3JldC1vZi1rbGluZw=="
#: Seconds a gateway waits before each further try at a push.
_RETRIES = (5.0, 20.0)


class Studio:
    """One gateway."""

    def __init__(self, world: World, account: str) -> None:
        self.account = account
        self.dialect = DIALECTS[account]
        self.renders: list[Render] = []
        #: Renders and pushes that are not over.
        self.busy = 0
        self._world = world

    def of(self, external: str) -> list[Render]:
        """Return what it accepted under an external id."""
        return [one for one in self.renders if one.external == external]

    async def serve(self, request: httpx.Request) -> httpx.Response | None:
        """Answer one request."""
        world, asked = self._world, self.dialect.read(request)
        if world.strikes("crowded"):
            return httpx.Response(
                429, json={"code": 1303, "message": "too many"}, headers={"retry-after": "2"}
            )
        if asked.order is not None:
            return self._ordered(str(asked.order["external"]), str(asked.order["callback"]))
        if world.strikes("vendor_5xx"):
            return refused(500, 5000, "internal error")
        return self._asked([*asked.tasks], [*asked.externals])

    def _ordered(self, external: str, callback: str) -> httpx.Response:
        world, twins = self._world, self.of(external)
        if twins and self.dialect.refuses_twins and world.plan.strict:
            return refused(400, 1201, "external_task_id already exists")
        if twins and self.dialect.joins_twins:
            return self.dialect.accepted(self._show(twins[0]))
        overloaded, ill = world.strikes("late_to_show"), world.strikes("vendor_5xx")
        if ill and world.dice.random() < 0.5:
            return refused(500, 5001, "internal error")
        # Who has too much to do shows a render late, and may say that it went wrong when it did not.
        render = self._accept(external, callback, world.dice.uniform(8, 18) if overloaded else 0.0)
        if ill or (overloaded and world.dice.random() < 0.5):
            return refused(500, 5001, "internal error")
        return self.dialect.accepted(self.dialect.show(render, SUBMITTED, None))

    def _accept(self, external: str, callback: str, lag: float) -> Render:
        world, now = self._world, self._world.loop.time()
        task = f"{self.account}-{len(self.renders) + 1}"
        verdict = FAILED if world.strikes("failed_render") else SUCCEEDED
        render = Render(
            self.account, external, task, callback, now, now + lag, verdict, changed_at=now
        )
        if world.strikes("no_url"):
            render.withheld = world.dice.choice((1, 3, float("inf")))
        self.renders.append(render)
        world.trace.say("accepted", task, "for", external, "render", len(self.of(external)))
        world.checker.accepted(render)
        self.busy += 1
        world.spawn(self._make(render))
        return render

    async def _make(self, render: Render) -> None:
        world = self._world
        self._tell(render, SUBMITTED)
        await asyncio.sleep(world.dice.uniform(0.5, 20))
        self._move(render, PROCESSING)
        await asyncio.sleep(
            world.dice.uniform(0.5, 30) * (20 if world.strikes("slow_render") else 1)
        )
        self._move(render, render.verdict)
        if world.strikes("contradiction"):
            await asyncio.sleep(world.dice.uniform(0, 60))
            render.verdict, render.turned = (
                FAILED if render.verdict == SUCCEEDED else SUCCEEDED,
                True,
            )
            self._move(render, render.verdict)
        self.busy -= 1

    def _move(self, render: Render, state: str) -> None:
        self._world.trace.say("render", render.task, state)
        render.state, render.changed_at = state, self._world.loop.time()
        self._tell(render, state)

    # -- what it says

    def _url(self, render: Render, state: str) -> str | None:
        if state != SUCCEEDED:
            return None
        if render.withheld > 0:
            render.withheld -= 1
            return None
        return render.url

    def _show(self, render: Render) -> Json:
        strange = render.state in (SUBMITTED, PROCESSING) and self._world.strikes("unknown_word")
        render.said.add(render.state)
        return self.dialect.show(
            render, STRANGE if strange else render.state, self._url(render, render.state)
        )

    def _asked(self, tasks: list[str], externals: list[str]) -> httpx.Response:
        now = self._world.loop.time()
        found = [one for one in self.renders if one.task in tasks or one.external in externals]
        self._world.dice.shuffle(found)
        return self.dialect.answered([self._show(one) for one in found if one.visible_at <= now])

    def _tell(self, render: Render, state: str) -> None:
        """Push, or fail to."""
        world = self._world
        if state != render.verdict and not world.plan.talkative:
            return
        if not render.callback.startswith("http") or world.strikes("dropped_push"):
            return
        render.said.add(state)
        url = self._url(render, state)
        body = json.dumps(self.dialect.push(render, state, url)).encode()
        if world.strikes("unreadable_push"):
            body, url = b'{"hello": "world"}', None
        for _ in range(2 if world.strikes("repeated_push") else 1):
            self.busy += 1
            world.spawn(self._push(render, body, success=url is not None))
        if world.strikes("forged_push"):
            world.spawn(self._forge(render))

    async def _push(self, render: Render, body: bytes, *, success: bool) -> None:
        world, path = self._world, httpx.URL(render.callback).path
        await asyncio.sleep(
            world.dice.uniform(30, 400)
            if world.strikes("late_push")
            else world.dice.uniform(0, 0.5)
        )
        for wait in (*_RETRIES, None):
            answered = await world.call("POST", path, body, self._signed(body))
            if answered is not None and answered.status == 200:
                world.checker.acknowledged(render, body, success=success)
                break
            if answered is not None and answered.status != 503:
                world.complain(
                    f"a good push was answered with {answered.status}: {answered.body!r}"
                )
            if wait is None:
                break
            await asyncio.sleep(wait)
        self.busy -= 1

    def _signed(self, body: bytes) -> dict[str, str]:
        said = {"content-type": "application/json"}
        if self.account != SIGNED:
            return said
        at, name = (
            START.timestamp() + self._world.loop.time(),
            f"msg_{self._world.dice.getrandbits(32):x}",
        )
        signature = Webhook(SECRET).sign(name, START.fromtimestamp(at, START.tzinfo), body.decode())
        return said | {
            "webhook-id": name,
            "webhook-timestamp": str(int(at)),
            "webhook-signature": signature,
        }

    async def _forge(self, render: Render) -> None:
        """Claim what is not so: with a token of another account, a token with a letter changed, or no signature."""
        world, path = self._world, httpx.URL(render.callback).path
        lie = FAILED if render.verdict == SUCCEEDED else SUCCEEDED
        body = json.dumps(self.dialect.push(render, lie, "https://evil.example.com/v.mp4")).encode()
        _, _, account, token = path.split("/")
        other = "dream" if account != "dream" else "flare"
        paths = [f"/callbacks/{other}/{token}", f"/callbacks/{account}/{token[:-5]}AAAA{token[-1]}"]
        if account == SIGNED:
            paths.append(path)
        answered = await world.call("POST", world.dice.choice(paths), body, {})
        if answered is not None and answered.status not in (401, 404, 503):
            world.complain(f"a forged push was answered with {answered.status}")
