"""The request and response formats of the simulated gateways."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import httpx

Json = dict[str, Any]

#: States of a render. Each dialect maps them to its vendor's spelling.
SUBMITTED, PROCESSING, SUCCEEDED, FAILED, UNKNOWN = (
    "submitted",
    "processing",
    "succeeded",
    "failed",
    "strange",
)


@dataclass
class Render:
    """A submission that a gateway accepted."""

    account: str
    external: str
    task: str
    callback: str
    accepted_at: float
    #: Virtual time from which a query finds it.
    visible_at: float
    verdict: str
    state: str = SUBMITTED
    changed_at: float = 0.0
    #: Number of reports of its success that still carry no URL.
    withheld: float = 0
    #: From when until when, in seconds of its age, a query by its task id does not find it.
    forgotten: tuple[float, float] = (0.0, 0.0)
    #: True once the gateway has reported the opposite final state.
    contradicted: bool = False
    #: States that were reported by a push or an answer.
    reported: set[str] = field(default_factory=set)

    @property
    def url(self) -> str:
        """The URL of its video, at the gateway: an odd shape may make it relative."""
        return f"https://{self.account}.example.com/files/{self.task}.mp4"

    def is_forgotten(self, now: float) -> bool:
        """True while a query by its task id does not find it."""
        begin, end = self.forgotten
        return begin <= now - self.accepted_at < end


@dataclass(frozen=True, slots=True)
class GatewayRequest:
    """A parsed request: a submission, or a query by task ids or external ids."""

    order: Json | None = None
    tasks: Sequence[str] = ()
    externals: Sequence[str] = ()


class Dialect:
    """Kling's legacy standard. The other dialects override it."""

    spelling: Mapping[str, str] = {SUCCEEDED: "succeed"}
    #: True if a second submission of an external id may be refused.
    rejects_duplicates = True
    #: True if a second submission of an external id returns the first task.
    returns_existing = False

    def new_id(self, account: str, number: int) -> str:
        """Return the id of the account's nth task."""
        return f"{account}-{number}"

    def read(self, request: httpx.Request) -> GatewayRequest:
        """Parse a request."""
        if request.method == "POST":
            body = json.loads(request.content)
            return GatewayRequest(
                {"callback": body.get("callback_url"), "external": body.get("external_task_id")}
            )
        name = unquote(request.url.path.rpartition("/")[2])
        return GatewayRequest(tasks=[name], externals=[name])

    def spell(self, state: str) -> str:
        """Return the vendor's spelling of a state."""
        return "rendering_v2" if state == UNKNOWN else self.spelling.get(state, state)

    def show(self, render: Render, state: str, url: str | None) -> Json:
        """Return the task object."""
        videos = [{"id": "v", "url": url, "duration": "5"}] if url else []
        return {
            "task_id": render.task,
            "task_status": self.spell(state),
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
        """Return the response to a submission."""
        return httpx.Response(200, json={"code": 0, "message": "SUCCEED", "data": shown})

    def answered(self, shown: list[Json]) -> httpx.Response:
        """Return the response to a query."""
        return (
            self.accepted(shown[0])
            if shown
            else error_response(400, 1201, "Task not found by id/external id")
        )


class New(Dialect):
    """Kling's new standard: a query names many tasks. A duplicate submission renders twice."""

    spelling: Mapping[str, str] = {}
    rejects_duplicates = False

    def new_id(self, account: str, number: int) -> str:
        """Return digits, a number in odd shapes: larger than a float can hold exactly."""
        return str(10**19 + number)

    def read(self, request: httpx.Request) -> GatewayRequest:
        if request.method == "POST":
            options = json.loads(request.content).get("options", {})
            return GatewayRequest(
                {
                    "callback": options.get("callback_url"),
                    "external": options.get("external_task_id"),
                }
            )
        params = request.url.params
        tasks, externals = params.get("task_ids", ""), params.get("external_task_ids", "")
        return GatewayRequest(tasks=tasks.split(","), externals=externals.split(","))

    def show(self, render: Render, state: str, url: str | None) -> Json:
        return {
            "id": render.task,
            "external_id": render.external,
            "status": self.spell(state),
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
    """A gateway in front of Kling.

    Has no query by external id; its pushes carry Kling's task id.
    """

    rejects_duplicates = False

    def read(self, request: httpx.Request) -> GatewayRequest:
        asked = super().read(request)
        return GatewayRequest(asked.order, asked.tasks)

    def push(self, render: Render, state: str, url: str | None) -> Json:
        return self.show(render, state, url) | {"task_id": f"kling-{render.task}"}


class JobObject(Dialect):
    """A gateway with its own job object and no query by external id."""

    rejects_duplicates = False

    def read(self, request: httpx.Request) -> GatewayRequest:
        if request.method == "POST":
            submitted = json.loads(request.content)["input"]
            return GatewayRequest(
                {
                    "callback": submitted.get("callback_url"),
                    "external": submitted.get("external_task_id"),
                }
            )
        return GatewayRequest(tasks=[unquote(request.url.path.rpartition("/")[2])])

    def show(self, render: Render, state: str, url: str | None) -> Json:
        output = {"videos": [{"url": url}]} if url else {}
        return {"object": "job", "id": render.task, "status": self.spell(state), "output": output}

    def accepted(self, shown: Json) -> httpx.Response:
        return httpx.Response(200, json=shown)

    def answered(self, shown: list[Json]) -> httpx.Response:
        return (
            httpx.Response(200, json=shown[0])
            if shown
            else httpx.Response(404, json={"error": "no such job"})
        )


class Keyed(Dialect):
    """Kling's legacy standard where an external id is an idempotency key."""

    rejects_duplicates = False
    returns_existing = True


def error_response(status: int, code: int, message: str) -> httpx.Response:
    """Return an error in Kling's envelope."""
    return httpx.Response(status, json={"code": code, "message": message})


#: Dialect by account.
DIALECTS: Mapping[str, Dialect] = {
    "kling": Dialect(),
    "new": New(),
    "flare": Forwarding(),
    "dream": JobObject(),
    "keyed": Keyed(),
}
