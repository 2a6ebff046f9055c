"""How four gateways are spoken to: what their requests mean, and how a render looks in their words."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import httpx

Json = dict[str, Any]

#: Our words for a render's states; each dialect spells them.
SUBMITTED, PROCESSING, SUCCEEDED, FAILED, STRANGE = (
    "submitted",
    "processing",
    "succeeded",
    "failed",
    "strange",
)


@dataclass
class Render:
    """One order that a gateway accepted."""

    account: str
    external: str
    task: str
    callback: str
    accepted_at: float
    #: When a question first finds it.
    visible_at: float
    verdict: str
    state: str = SUBMITTED
    changed_at: float = 0.0
    #: Answers and pushes about its success that show no URL.
    withheld: float = 0
    #: True once it has changed its mind about a verdict.
    turned: bool = False
    #: States that ever left the house.
    said: set[str] = field(default_factory=set)

    @property
    def url(self) -> str:
        """Return where its video is."""
        return f"https://cdn.example.com/{self.task}.mp4"


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request is: an order, or a question by task ids or external ids."""

    order: Json | None = None
    tasks: Sequence[str] = ()
    externals: Sequence[str] = ()


class Dialect:
    """Kling's legacy standard; the others differ from it."""

    words: Mapping[str, str] = {SUCCEEDED: "succeed"}
    #: True if a second order with an external id it has may be refused.
    refuses_twins = True
    #: True if a second order with an external id it has is answered with the first one's task.
    joins_twins = False

    def read(self, request: httpx.Request) -> Asked:
        """Return what a request is."""
        if request.method == "POST":
            body = json.loads(request.content)
            return Asked(
                {"callback": body.get("callback_url"), "external": body.get("external_task_id")}
            )
        name = unquote(request.url.path.rpartition("/")[2])
        return Asked(tasks=[name], externals=[name])

    def word(self, state: str) -> str:
        """Return a state as the dialect spells it."""
        return "rendering_v2" if state == STRANGE else self.words.get(state, state)

    def show(self, render: Render, state: str, url: str | None) -> Json:
        """Return a task object."""
        videos = [{"id": "v", "url": url, "duration": "5"}] if url else []
        return {
            "task_id": render.task,
            "task_status": self.word(state),
            "task_status_msg": "no" if state == FAILED else "",
            "created_at": int(render.accepted_at * 1000) + 1,
            "updated_at": int(render.changed_at * 1000) + 1,
            "task_info": {"external_task_id": render.external},
            "task_result": {"videos": videos},
        }

    def push(self, render: Render, state: str, url: str | None) -> Json:
        """Return the body of a push."""
        return self.show(render, state, url)

    def accepted(self, shown: Json) -> httpx.Response:
        """Return the answer to an order."""
        return httpx.Response(200, json={"code": 0, "message": "SUCCEED", "data": shown})

    def answered(self, shown: list[Json]) -> httpx.Response:
        """Return the answer to a question."""
        return (
            self.accepted(shown[0])
            if shown
            else refused(400, 1201, "Task not found by id/external id")
        )


class New(Dialect):
    """Kling's new standard: many tasks in one question. This one renders twins."""

    words: Mapping[str, str] = {}
    refuses_twins = False

    def read(self, request: httpx.Request) -> Asked:
        if request.method == "POST":
            options = json.loads(request.content).get("options", {})
            return Asked(
                {
                    "callback": options.get("callback_url"),
                    "external": options.get("external_task_id"),
                }
            )
        params = request.url.params
        tasks, externals = params.get("task_ids", ""), params.get("external_task_ids", "")
        return Asked(tasks=tasks.split(","), externals=externals.split(","))

    def show(self, render: Render, state: str, url: str | None) -> Json:
        return {
            "id": render.task,
            "external_id": render.external,
            "status": self.word(state),
            "message": "",
            "outputs": [{"type": "video", "id": "v", "url": url, "duration": "5.041"}]
            if url
            else [],
            "create_time": int(render.accepted_at * 1000) + 1,
            "update_time": int(render.changed_at * 1000) + 1,
        }

    def answered(self, shown: list[Json]) -> httpx.Response:
        return httpx.Response(200, json={"code": 0, "message": "SUCCEED", "data": shown})


class Forwarding(Dialect):
    """A gateway in front of Kling that cannot be asked by external id, and whose pushes carry Kling's own task id."""

    refuses_twins = False

    def read(self, request: httpx.Request) -> Asked:
        asked = super().read(request)
        return Asked(asked.order, asked.tasks)

    def push(self, render: Render, state: str, url: str | None) -> Json:
        return self.show(render, state, url) | {"task_id": f"kling-{render.task}"}


class JobObject(Dialect):
    """A gateway with a job object of its own, which cannot be asked by external id either."""

    refuses_twins = False

    def read(self, request: httpx.Request) -> Asked:
        if request.method == "POST":
            given = json.loads(request.content)["input"]
            return Asked(
                {"callback": given.get("callback_url"), "external": given.get("external_task_id")}
            )
        return Asked(tasks=[unquote(request.url.path.rpartition("/")[2])])

    def show(self, render: Render, state: str, url: str | None) -> Json:
        output = {"videos": [{"url": url}]} if url else {}
        return {"object": "job", "id": render.task, "status": self.word(state), "output": output}

    def accepted(self, shown: Json) -> httpx.Response:
        return httpx.Response(200, json=shown)

    def answered(self, shown: list[Json]) -> httpx.Response:
        return (
            httpx.Response(200, json=shown[0])
            if shown
            else httpx.Response(404, json={"error": "no such job"})
        )


class Keyed(Dialect):
    """Kling's legacy standard where the same external id is the same task, however often it is sent."""

    refuses_twins = False
    joins_twins = True


def refused(status: int, code: int, message: str) -> httpx.Response:
    """Return a refusal in Kling's envelope."""
    return httpx.Response(status, json={"code": code, "message": message})


#: What each account of a run speaks.
DIALECTS: Mapping[str, Dialect] = {
    "kling": Dialect(),
    "new": New(),
    "flare": Forwarding(),
    "dream": JobObject(),
    "keyed": Keyed(),
}
