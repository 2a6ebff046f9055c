"""One vendor's renders: accepted, moved through their states, looked up, shown, and pushed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from orchestrator.simulator.contract import Dialect, SubmitEndpoint
from orchestrator.simulator.faults import FaultInjector
from orchestrator.simulator.json_body import JSON, JsonObject, object_at, objects_at, string_at
from orchestrator.simulator.odd_shapes import odd_body
from orchestrator.simulator.push_sender import PushSender
from orchestrator.simulator.records import Push, Render, Snapshot, State

FORGED_URL: Final = "https://forged.example/never.mp4"
FAILURE: Final = "Failure to pass the risk control system"


@dataclass
class Renderer:
    """Renders of one vendor, which is at `base_url`.

    A render takes `mean_seconds` on average. At most `limit` are live at once (None: any number);
    `peak` is the greatest number that were.
    """

    dialect: Dialect
    injector: FaultInjector
    push_sender: PushSender
    renders: list[Render]
    mean_seconds: float
    base_url: str = ""
    limit: int | None = None
    live: int = 0
    peak: int = 0
    closed: bool = False
    by_task_id: dict[str, Render] = field(default_factory=dict)
    by_external_id: dict[str, list[Render]] = field(default_factory=dict)

    @property
    def is_full(self) -> bool:
        return self.limit is not None and self.live >= self.limit

    @property
    def origin(self) -> str:
        """The scheme and host of the vendor, where its relative URLs begin."""
        return self.base_url.removesuffix(f"/{self.dialect.mount}")

    def accept(self, endpoint: SubmitEndpoint, body: JsonObject, path: Mapping[str, str]) -> Render:
        """Return a new render for a checked body and its path parameters."""
        callback = endpoint.callback_in(body)
        render = Render(
            vendor=self.dialect.mount,
            endpoint=endpoint.name,
            capability=endpoint.capability(body),
            model=model_of(body, path),
            prompt=prompt_of(body),
            seconds=seconds_of(body),
            ids=self.dialect.new_ids(self.injector.rng),
            external_task_id=string_at(callback, "external_task_id"),
            callback_url=string_at(callback, "callback_url"),
            bits=self.injector.rng.getrandbits(8),
            is_marked=object_at(callback, "watermark_info").get("enabled") is True,
        )
        if self.strikes("submit", "fail_render"):
            render.outcome = "failed"
        if self.dialect.content_path and self.strikes("submit", "keyed_content"):
            render.is_keyed = True
        if self.strikes("submit", "no_url"):
            times = self.injector.faults.no_url_times
            render.withhold_url = float("inf") if times is None else times
        self._keep(render)
        return render

    def start(self, render: Render, endpoint: SubmitEndpoint) -> None:
        """Schedule the render's states over 0.5 to 1.5 times `mean_seconds`, part of it queued."""
        later, rng = asyncio.get_running_loop().call_later, self.injector.rng
        total = self.mean_seconds * rng.uniform(0.5, 1.5)
        later(min(0.01, total / 10), self._push, render, endpoint, "submitted")
        later(total * rng.uniform(0.2, 0.4), self._advance, render, endpoint, "processing")
        if self.strikes("submit", "unknown_word"):
            later(total * 0.7, self._advance, render, endpoint, "unknown")
        later(total, self._advance, render, endpoint, render.outcome)

    async def finish_now(self, render: Render, endpoint: SubmitEndpoint) -> None:
        """Move the render to its final state. Each push is acknowledged before this returns."""
        states: tuple[State, ...] = ("submitted", "processing", render.outcome)
        for state in states:
            if state != "submitted":
                self._enter(render, state)
            push = self._new_push(render, endpoint, state)
            if push:
                await self.push_sender.deliver(push)

    def snapshot(self, render: Render, operation: str, state: State | None = None) -> Snapshot:
        """Return the render as it is now, or as it was on entering `state`."""
        shown = state or render.state
        updated = next(at for name, at in reversed(render.states) if name == shown)
        is_query_or_push = operation != "submit"
        if is_query_or_push and not render.is_final and self.strikes(operation, "unknown_word"):
            shown = "unknown"
        url = None
        if shown == "succeeded" and not self._withholds_url(render, operation):
            url = self._url(render)
        created, message = int(render.accepted_at * 1000), FAILURE if shown == "failed" else ""
        return Snapshot(render, shown, created, int(updated * 1000), url, message)

    def _url(self, render: Render) -> str | None:
        """Return the URL of a clip; None if it has one that no answer states."""
        if not render.is_keyed or self.dialect.content_path is None:
            return f"https://cdn.example.com/{render.ids.video}.mp4"
        path = self.dialect.content_path.format(id=render.ids.task)
        return self.base_url + path if self.dialect.states_content else None

    def find(self, task_id: str) -> Snapshot | None:
        return self._first_visible([self.by_task_id[task_id]] if task_id in self.by_task_id else [])

    def find_external(self, external_task_id: str) -> Snapshot | None:
        return self._first_visible(self.by_external_id.get(external_task_id, []))

    def strikes(self, operation: str, fault: str) -> bool:
        return self.injector.strikes(self.dialect.mount, operation, fault)

    def _first_visible(self, renders: list[Render]) -> Snapshot | None:
        latest = time.time() - self.injector.faults.visibility_lag
        visible = (render for render in renders if render.accepted_at <= latest)
        return next((self.snapshot(render, "query") for render in visible), None)

    def _keep(self, render: Render) -> None:
        render.states.append(("submitted", render.accepted_at))
        self.renders.append(render)
        self.by_task_id[render.ids.task] = render
        if render.external_task_id:
            self.by_external_id.setdefault(render.external_task_id, []).append(render)
        self.live += 1
        self.push_sender.in_flight.begin()
        self.peak = max(self.peak, self.live)

    def _withholds_url(self, render: Render, operation: str) -> bool:
        if render.withhold_url > 0:
            render.withhold_url -= 1
            return True
        return operation != "submit" and self.strikes(operation, "no_url")

    def _enter(self, render: Render, state: State) -> None:
        render.states.append((state, time.time()))
        if render.is_final:
            self.live -= 1
            self.push_sender.in_flight.end()

    def _advance(self, render: Render, endpoint: SubmitEndpoint, state: State) -> None:
        if not self.closed:
            self._enter(render, state)
            self._push(render, endpoint, state)

    def _push(self, render: Render, endpoint: SubmitEndpoint, state: State) -> None:
        push = None if self.closed else self._new_push(render, endpoint, state)
        if push:
            self.push_sender.send(render, push, partial(self._forged_body, render, endpoint))

    def _new_push(self, render: Render, endpoint: SubmitEndpoint, state: State) -> Push | None:
        if not render.callback_url:
            return None
        body = endpoint.push_body(self.snapshot(render, "push", state))
        if body is None:
            return None
        if self.strikes("push", "odd_shapes"):
            body = odd_body(body, self.injector.rng, self.origin)
        return self.push_sender.new_push(render, render.callback_url, state, body)

    def _forged_body(self, render: Render, endpoint: SubmitEndpoint) -> JSON:
        created, now = int(render.accepted_at * 1000), int(time.time() * 1000)
        return endpoint.push_body(Snapshot(render, "succeeded", created, now, FORGED_URL))


def model_of(body: JsonObject, path: Mapping[str, str]) -> str:
    """Return the model. The path carries the new standard's; Cloudsway's path is literal."""
    named = body.get("model") or body.get("model_name") or "kling-3.0-turbo"
    return path.get("model") or str(named)


def seconds_of(body: JsonObject) -> str:
    """Return the clip's duration in seconds, as text; 5 by default."""
    for container in (body, object_at(body, "input"), object_at(body, "settings")):
        if "duration" in container:
            return str(container["duration"])
    return "5"


def prompt_of(body: JsonObject) -> str | None:
    """Return the prompt, which tells renders apart where a vendor has no external id."""
    prompts = [string_at(container, "prompt") for container in (body, object_at(body, "input"))]
    prompts += [string_at(entry, "text") for entry in objects_at(body, "contents")]
    return next((prompt for prompt in prompts if prompt), None)
