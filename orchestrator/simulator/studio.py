"""One vendor's renders: accepted, taken through their states, looked up, shown, and pushed about."""

from __future__ import annotations

import asyncio
import random
import time
from collections import defaultdict
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

from orchestrator.simulator.courier import Courier
from orchestrator.simulator.dialect import Dialect, Entrance
from orchestrator.simulator.faults import Chance
from orchestrator.simulator.render import Render, Sight, State
from orchestrator.simulator.shapes import JSON, JsonObject

FORGED_URL: Final = "https://forged.example/never.mp4"
FAILURE: Final = "Failure to pass the risk control system"


@dataclass
class Studio:
    """Renders of one vendor. `limit` is how many may live at once (None: any number); `peak` is how many did."""

    dialect: Dialect
    chance: Chance
    courier: Courier
    renders: list[Render]
    seconds: float
    limit: int | None = None
    live: int = 0
    peak: int = 0
    closed: bool = False
    by_task_id: dict[str, Render] = field(default_factory=dict)
    by_external_id: defaultdict[str, list[Render]] = field(
        default_factory=lambda: defaultdict(list)
    )

    @property
    def rng(self) -> random.Random:
        return self.chance.rng

    @property
    def is_full(self) -> bool:
        return self.limit is not None and self.live >= self.limit

    def accept(self, entrance: Entrance, body: JsonObject, model: str) -> Render:
        """A new render of a checked body."""
        hooks = inside(body, entrance.hooks) if entrance.hooks else body
        render = Render(
            vendor=self.dialect.mount,
            endpoint=entrance.endpoint,
            capability=entrance.capability(body),
            model=model,
            prompt=prompt_of(body),
            seconds=seconds_of(body),
            names=self.dialect.names(self.rng),
            external_task_id=string(hooks.get("external_task_id")),
            callback_url=string(hooks.get("callback_url")),
            coins=self.rng.getrandbits(8),
        )
        if self._strikes("submit", "fail_render"):
            render.verdict = "failed"
        if self._strikes("submit", "no_url"):
            times = self.chance.faults.no_url_times
            render.hidden_urls = float("inf") if times is None else times
        self._keep(render)
        return render

    def begin(self, render: Render, entrance: Entrance) -> None:
        """Let the render run its course: half to one and a half of `seconds`, part of it queued."""
        loop = asyncio.get_running_loop()
        total = self.seconds * self.rng.uniform(0.5, 1.5)
        loop.call_later(min(0.01, total / 10), self._tell, render, entrance, "submitted")
        loop.call_later(
            total * self.rng.uniform(0.2, 0.4), self._move, render, entrance, "processing"
        )
        if self._strikes("submit", "unknown_word"):
            loop.call_later(total * 0.7, self._move, render, entrance, "unknown")
        loop.call_later(total, self._move, render, entrance, render.verdict)

    async def rush(self, render: Render, entrance: Entrance) -> None:
        """Take the render to its end at once, each push acknowledged before this returns."""
        states: tuple[State, ...] = ("submitted", "processing", render.verdict)
        for state in states:
            if state != "submitted":
                self._enter(render, state)
            body = self._body(render, entrance, state)
            if body is not None and render.callback_url:
                await self.courier.deliver(self.courier.compose(render, state, body, self.rng))

    def sight(self, render: Render, operation: str, state: State | None = None) -> Sight:
        """The render as it looks now, or as it looked when it entered `state`."""
        shown = state or render.state
        updated = next(at for name, at in reversed(render.states) if name == shown)
        if (
            operation != "submit"
            and not render.is_final
            and self._strikes(operation, "unknown_word")
        ):
            shown = "unknown"
        url = f"https://cdn.example.com/{render.names.video}.mp4" if shown == "succeeded" else None
        if url and self._withholds(render, operation):
            url = None
        message = FAILURE if shown == "failed" else ""
        return Sight(
            render, shown, int(render.accepted_at * 1000), int(updated * 1000), url, message
        )

    def find(self, task_id: str) -> Sight | None:
        render = self.by_task_id.get(task_id)
        return self.sight(render, "query") if render and self._visible(render) else None

    def find_external(self, external_task_id: str) -> Sight | None:
        renders = self.by_external_id.get(external_task_id, [])
        return next(
            (self.sight(render, "query") for render in renders if self._visible(render)), None
        )

    def _keep(self, render: Render) -> None:
        render.states.append(("submitted", render.accepted_at))
        self.renders.append(render)
        self.by_task_id[render.names.task] = render
        if render.external_task_id:
            self.by_external_id[render.external_task_id].append(render)
        self.live += 1
        self.courier.tally.begin()
        self.peak = max(self.peak, self.live)

    def _visible(self, render: Render) -> bool:
        return time.time() >= render.accepted_at + self.chance.faults.visibility_lag

    def _strikes(self, operation: str, fault: str) -> bool:
        return self.chance.strikes(self.dialect.mount, operation, fault)

    def _withholds(self, render: Render, operation: str) -> bool:
        if render.hidden_urls > 0:
            render.hidden_urls -= 1
            return True
        return operation != "submit" and self._strikes(operation, "no_url")

    def _enter(self, render: Render, state: State) -> None:
        render.states.append((state, time.time()))
        if render.is_final:
            self.live -= 1
            self.courier.tally.end()

    def _move(self, render: Render, entrance: Entrance, state: State) -> None:
        if not self.closed:
            self._enter(render, state)
            self._tell(render, entrance, state)

    def _tell(self, render: Render, entrance: Entrance, state: State) -> None:
        body = (
            self._body(render, entrance, state) if render.callback_url and not self.closed else None
        )
        if body is not None:
            push = self.courier.compose(render, state, body, self.rng)
            self.courier.post(render, push, partial(self._forgery, render, entrance))

    def _body(self, render: Render, entrance: Entrance, state: State) -> JSON | None:
        return entrance.push(self.sight(render, "push", state)) if render.callback_url else None

    def _forgery(self, render: Render, entrance: Entrance) -> JSON:
        lie = Sight(render, "succeeded", int(render.accepted_at * 1000), int(time.time() * 1000))
        return entrance.push(replace(lie, url=FORGED_URL))


def string(value: JSON) -> str | None:
    return value if isinstance(value, str) else None


def inside(body: JsonObject, name: str) -> JsonObject:
    """The object in a field of a body; an empty one where there is none."""
    inner = body.get(name)
    return inner if isinstance(inner, dict) else {}


def seconds_of(body: JsonObject) -> str:
    """How long the clip will be, as text; 5 where nobody said."""
    for place in (body, inside(body, "input"), inside(body, "settings")):
        if "duration" in place:
            return str(place["duration"])
    return "5"


def prompt_of(body: JsonObject) -> str | None:
    """The prompt, so that a reader of the report can tell renders apart where a vendor knows no external id."""
    contents = body.get("contents")
    entries = contents if isinstance(contents, list) else []
    found = [place.get("prompt") for place in (body, inside(body, "input"))]
    found += [entry.get("text") for entry in entries if isinstance(entry, dict)]
    return next((words for words in map(string, found) if words), None)
