"""The gateways: accept, render, push and answer queries, with the faults of the plan."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import httpx
from standardwebhooks.webhooks import Webhook

from orchestrator.simulator.odd_shapes import odd_answer, odd_body
from tests.simulate.clock import START
from tests.simulate.dialects import (
    DIALECTS,
    FAILED,
    PROCESSING,
    SUBMITTED,
    SUCCEEDED,
    UNKNOWN,
    Json,
    Render,
    error_response,
)

if TYPE_CHECKING:
    from tests.simulate.world import World

#: The account that requires signed pushes, and its key.
SIGNED, SECRET = "kling", "whsec_" + "c2ltdWxhdGVkLXNlY3JldC1vZi1rbGluZw=="
#: Seconds before each further attempt at a push.
_RETRIES = (5.0, 20.0)


class Gateway:
    """One gateway."""

    def __init__(self, world: World, account: str) -> None:
        self.account = account
        self.dialect = DIALECTS[account]
        self.renders: list[Render] = []
        #: Renders and pushes in progress.
        self.open_tasks = 0
        self._world = world
        self._origin = f"https://{account}.example.com"

    def of(self, external: str) -> list[Render]:
        """Return the renders of an external id."""
        return [render for render in self.renders if render.external == external]

    async def serve(self, request: httpx.Request) -> httpx.Response | None:
        """Answer one request; a success perhaps in an odd shape."""
        answer = self._answer(request)
        rng = self._world.odd_shapes() if answer.is_success else None
        if rng is None:
            return answer
        content, headers = odd_answer(answer.json(), rng, self._origin)
        return httpx.Response(answer.status_code, content=content, headers=headers)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        world, asked = self._world, self.dialect.read(request)
        if refusal := world.refusal(self.account, is_order=asked.order is not None):
            return refusal
        if world.occurs("rate_limited"):
            return httpx.Response(
                429, json={"code": 1303, "message": "too many"}, headers={"retry-after": "2"}
            )
        if asked.order is not None:
            return self._answer_submit(str(asked.order["external"]), str(asked.order["callback"]))
        if world.occurs("vendor_5xx"):
            return error_response(500, 5000, "internal error")
        return self._answer_query([*asked.tasks], [*asked.externals])

    def _answer_submit(self, external: str, callback: str) -> httpx.Response:
        world, twins = self._world, self.of(external)
        if twins and self.dialect.rejects_duplicates and world.plan.strict:
            return error_response(400, 1201, "external_task_id already exists")
        if twins and self.dialect.returns_existing:
            return self.dialect.accepted(self._task_object(twins[0]))
        overloaded, ill = world.occurs("late_visibility"), world.occurs("vendor_5xx")
        if ill and world.rng.random() < 0.5:
            return error_response(500, 5001, "internal error")
        # An overloaded gateway makes a render visible late, and may answer an accepted submission
        # with an error.
        render = self._accept(external, callback, world.rng.uniform(8, 18) if overloaded else 0.0)
        if ill or (overloaded and world.rng.random() < 0.5):
            return error_response(500, 5001, "internal error")
        return self.dialect.accepted(self.dialect.show(render, SUBMITTED, None))

    def _accept(self, external: str, callback: str, lag: float) -> Render:
        world, now = self._world, self._world.loop.time()
        task = self.dialect.new_id(self.account, len(self.renders) + 1)
        verdict = FAILED if world.occurs("failed_render") else SUCCEEDED
        render = Render(
            self.account, external, task, callback, now, now + lag, verdict, changed_at=now
        )
        render.forgotten = world.forgotten()
        if world.occurs("no_url"):
            render.withheld = world.rng.choice((1, 3, float("inf")))
        self.renders.append(render)
        world.trace.add("accepted", task, "for", external, "render", len(self.of(external)))
        world.checker.render_started(render)
        self.open_tasks += 1
        world.spawn(self._render(render))
        return render

    async def _render(self, render: Render) -> None:
        world = self._world
        self._push_state(render, SUBMITTED)
        await asyncio.sleep(world.rng.uniform(0.5, 20))
        self._change_state(render, PROCESSING)
        await asyncio.sleep(world.rng.uniform(0.5, 30) * (20 if world.occurs("slow_render") else 1))
        self._change_state(render, render.verdict)
        if world.occurs("contradiction"):
            await asyncio.sleep(world.rng.uniform(0, 60))
            render.verdict, render.contradicted = (
                FAILED if render.verdict == SUCCEEDED else SUCCEEDED,
                True,
            )
            self._change_state(render, render.verdict)
        self.open_tasks -= 1

    def _change_state(self, render: Render, state: str) -> None:
        self._world.trace.add("render", render.task, state)
        render.state, render.changed_at = state, self._world.loop.time()
        self._push_state(render, state)

    # -- reports

    def _url(self, render: Render, state: str) -> str | None:
        if state != SUCCEEDED:
            return None
        if render.withheld > 0:
            render.withheld -= 1
            return None
        return render.url

    def _task_object(self, render: Render) -> Json:
        unknown = render.state in (SUBMITTED, PROCESSING) and self._world.occurs("unknown_state")
        render.reported.add(render.state)
        return self.dialect.show(
            render, UNKNOWN if unknown else render.state, self._url(render, render.state)
        )

    def _answer_query(self, tasks: list[str], externals: list[str]) -> httpx.Response:
        now = self._world.loop.time()
        found = [
            render
            for render in self.renders
            if (render.task in tasks and not render.is_forgotten(now))
            or render.external in externals
        ]
        self._world.rng.shuffle(found)
        return self.dialect.answered(
            [self._task_object(render) for render in found if render.visible_at <= now]
        )

    def _push_state(self, render: Render, state: str) -> None:
        """Push a state, unless the push is dropped."""
        world = self._world
        if state != render.verdict and not world.plan.push_every_state:
            return
        if not render.callback.startswith("http") or world.occurs("dropped_push"):
            return
        render.reported.add(state)
        url = self._url(render, state)
        shown = self.dialect.push(render, state, url)
        rng = world.odd_shapes()
        body = json.dumps(odd_body(shown, rng, self._origin) if rng else shown).encode()
        if world.occurs("unreadable_push"):
            body, url = b'{"hello": "world"}', None
        for _ in range(2 if world.occurs("repeated_push") else 1):
            self.open_tasks += 1
            world.spawn(self._push(render, body, success=url is not None))
        if world.occurs("forged_push"):
            world.spawn(self._forge(render))

    async def _push(self, render: Render, body: bytes, *, success: bool) -> None:
        world, path = self._world, httpx.URL(render.callback).path
        await asyncio.sleep(
            world.rng.uniform(30, 400) if world.occurs("late_push") else world.rng.uniform(0, 0.5)
        )
        for wait in (*_RETRIES, None):
            answered = await world.call("POST", path, body, self._signature_headers(body))
            if answered is not None and answered.status == 200:
                world.checker.push_acknowledged(render, body, success=success)
                break
            if answered is not None and answered.status != 503:
                world.report_violation(
                    f"a genuine push was answered with {answered.status}: {answered.body!r}"
                )
            if wait is None:
                break
            await asyncio.sleep(wait)
        self.open_tasks -= 1

    def _signature_headers(self, body: bytes) -> dict[str, str]:
        headers = {"content-type": "application/json"}
        if self.account != SIGNED:
            return headers
        at, name = (
            START.timestamp() + self._world.loop.time(),
            f"msg_{self._world.rng.getrandbits(32):x}",
        )
        signature = Webhook(SECRET).sign(name, START.fromtimestamp(at, START.tzinfo), body.decode())
        return headers | {
            "webhook-id": name,
            "webhook-timestamp": str(int(at)),
            "webhook-signature": signature,
        }

    async def _forge(self, render: Render) -> None:
        """Push a false state with a token of another account, a changed token, or no signature."""
        world, path = self._world, httpx.URL(render.callback).path
        false_state = FAILED if render.verdict == SUCCEEDED else SUCCEEDED
        body = json.dumps(
            self.dialect.push(render, false_state, "https://evil.example.com/v.mp4")
        ).encode()
        _, _, account, token = path.split("/")
        other = "dream" if account != "dream" else "flare"
        paths = [f"/callbacks/{other}/{token}", f"/callbacks/{account}/{token[:-5]}AAAA{token[-1]}"]
        if account == SIGNED:
            paths.append(path)
        answered = await world.call("POST", world.rng.choice(paths), body, {})
        if answered is not None and answered.status not in (401, 404, 503):
            world.report_violation(f"a forged push was answered with {answered.status}")
