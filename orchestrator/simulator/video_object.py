"""What UniAll and cubicspaces share: an OpenAI-like video object, and new-api's words for trouble.

Both hand a callback URL to Kling, so their pushes are Kling's legacy body with Kling's own id.
"""

from __future__ import annotations

import random
from typing import Final

from orchestrator.simulator.dialect import Answer, Ask, Refusal, Trouble, digits, letters
from orchestrator.simulator.render import Names, Sight
from orchestrator.simulator.shapes import JsonObject

VIDEO_WORDS: Final = {
    "submitted": "queued",
    "processing": "in_progress",
    "unknown": "unknown",
    "succeeded": "completed",
}
PROGRESS: Final = {"submitted": 0, "processing": 30, "unknown": 0, "succeeded": 100, "failed": 100}
TROUBLES: Final = {
    Trouble.NOT_FOUND: (400, "task_not_exist", "task_not_exist"),
    Trouble.NO_ROUTE: (404, "invalid_url", "invalid url"),
    Trouble.NO_METHOD: (405, "invalid_method", "invalid method"),
    Trouble.FULL: (429, "fail_to_fetch_task", "当前分组上游负载已饱和，请稍后再试"),
    Trouble.BROKEN: (500, "do_request_failed", "请求上游地址失败"),
    Trouble.TIMEOUT: (504, "do_request_failed", "请求上游地址失败"),
}


def trouble(kind: Trouble, message: str) -> Answer:
    """new-api's TaskError. A bad token is answered in OpenAI's form, a number for a string duration with a 500."""
    if kind in {Trouble.NO_KEY, Trouble.WRONG_KEY}:
        return Answer(
            401,
            {"error": {"message": "无效的令牌", "type": "new_api_error", "param": "", "code": ""}},
        )
    status, code, words = TROUBLES.get(kind, (400, "invalid_request", "invalid request"))
    if kind is Trouble.INVALID and message.startswith("duration: wants a string"):
        status, code = 500, "build_request_failed"
    return Answer(status, {"code": code, "message": message or words, "data": None})


def names(rng: random.Random, prefix: str) -> Names:
    return Names(prefix + letters(rng, 32), digits(rng, 18, "86"), digits(rng, 18, "86"))


def capability(body: JsonObject) -> str:
    return "image2video" if "image" in body else "text2video"


def video(sight: Sight, kind: str = "video") -> JsonObject:
    """The object that answers a submission, and that most answers to a question begin with."""
    render = sight.render
    return {
        "id": render.names.task,
        "task_id": render.names.task,
        "object": kind,
        "model": render.model,
        "status": VIDEO_WORDS.get(sight.state, "failed"),
        "progress": PROGRESS[sight.state],
        "created_at": sight.created // 1000,
    }


def find(ask: Ask) -> Sight:
    """The render asked for; a compat path finds only its own endpoint's renders and those of the unified one."""
    sight = ask.by_task_id(ask.path["id"])
    if sight is None or sight.render.endpoint not in {
        "generations",
        ask.path.get("endpoint", sight.render.endpoint),
    }:
        raise Refusal(Trouble.NOT_FOUND)
    return sight
