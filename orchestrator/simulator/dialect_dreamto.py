"""Gateway document 0: dreamto. Jobs under /v1/jobs with everything in `input`, and a file upload.

The document names a callback field and no callback body, so a render's pushes come in one of two shapes: the job
object, or Kling's own body where the gateway forwards the URL.
"""

from __future__ import annotations

import random
from typing import Final

from orchestrator.simulator.dialect import (
    Answer,
    Ask,
    Dialect,
    Entrance,
    Inquiry,
    Refusal,
    Trouble,
    digits,
    letters,
)
from orchestrator.simulator.fields import (
    CAMERA,
    FRACTION,
    HOOKS,
    MASKS,
    MAYBE_WORDS,
    MEDIA,
    MODE,
    RATIO,
    WORDS,
)
from orchestrator.simulator.kling import legacy_push
from orchestrator.simulator.render import Names, Sight
from orchestrator.simulator.shapes import JsonObject, boolean, matching, number, record

JOB_COIN: Final = 0
COMPLETED_COIN: Final = 1
JOB: Final = record(
    {
        "model": WORDS,
        "input": record(
            {"prompt": WORDS},
            {
                "image_url": MEDIA,
                "video_url": MEDIA,
                "audio_url": MEDIA,
                "duration": number(1, 60),
                "resolution": matching(r"\d+p"),
                "generate_audio": boolean,
                "fixed_lens": boolean,
                "negative_prompt": MAYBE_WORDS,
                "aspect_ratio": RATIO,
                "mode": MODE,
                "cfg_scale": FRACTION,
                "static_mask": MEDIA,
                "dynamic_masks": MASKS,
                "camera_control": CAMERA,
                **HOOKS,
            },
        ),
    }
)
TROUBLES: Final = {
    Trouble.NO_KEY: (401, "authentication_error", "invalid_api_key", "Invalid API key"),
    Trouble.WRONG_KEY: (401, "authentication_error", "invalid_api_key", "Invalid API key"),
    Trouble.NOT_FOUND: (404, "invalid_request_error", "job_not_found", "job not found"),
    Trouble.NO_ROUTE: (404, "invalid_request_error", "not_found", "not found"),
    Trouble.NO_METHOD: (405, "invalid_request_error", "method_not_allowed", "method not allowed"),
    Trouble.FULL: (429, "rate_limit_error", "rate_limit_exceeded", "too many jobs in progress"),
    Trouble.BROKEN: (500, "server_error", "internal_error", "upstream error"),
    Trouble.TIMEOUT: (504, "server_error", "upstream_timeout", "upstream timeout"),
}


def trouble(kind: Trouble, message: str) -> Answer:
    """An error object; a bad body is answered in FastAPI's form."""
    if kind not in TROUBLES:
        place, _, words = message.partition(": ")
        return Answer(
            422,
            {"detail": [{"loc": ["body", *place.split(".")], "msg": words, "type": "value_error"}]},
        )
    status, family, code, words = TROUBLES[kind]
    error: JsonObject = {"message": message or words, "type": family, "code": code}
    return Answer(status, {"error": error, "request_id": "req_simulated"})


def names(rng: random.Random) -> Names:
    return Names("job_" + letters(rng, 20), digits(rng, 18, "86"), digits(rng, 18, "86"))


def capability(body: JsonObject) -> str:
    given = body["input"]
    return "image2video" if isinstance(given, dict) and "image_url" in given else "text2video"


def job(sight: Sight) -> JsonObject:
    """The job object. Its status begins at `processing`; `completed` stands in for the undisclosed word of success."""
    render = sight.render
    words = {"unknown": "moderating", "succeeded": "succeeded", "failed": "failed"}
    if render.coin(COMPLETED_COIN):
        words["succeeded"] = "completed"
    body: JsonObject = {
        "id": render.names.task,
        "object": "job",
        "status": words.get(sight.state, "processing"),
        "model": render.model,
        "created": sight.created // 1000,
        "request_id": "req_simulated",
    }
    if sight.state == "succeeded":
        video: JsonObject = {"duration": int(render.seconds)}
        body["output"] = {"videos": [{"url": sight.url, **video} if sight.url else video]}
    if sight.state == "failed":
        body["error"] = {"code": "task_failed", "message": sight.message}
    return body


def push(sight: Sight) -> JsonObject | None:
    """Kling's body or the job object; the latter's first status is not news after the submit answer."""
    if not sight.render.coin(JOB_COIN):
        return legacy_push(sight)
    return None if sight.state == "submitted" else job(sight)


def answer(ask: Ask) -> JsonObject:
    sight = ask.by_task_id(ask.path["id"])
    if sight is None:
        raise Refusal(Trouble.NOT_FOUND)
    return job(sight)


DREAMTO: Final = Dialect(
    mount="dreamto",
    entrances=(
        Entrance("/v1/jobs", "jobs", JOB, capability, receipt=job, push=push, hooks="input"),
    ),
    inquiries=(Inquiry("/v1/jobs/{id}", answer),),
    names=names,
    trouble=trouble,
    upload="/v1/files/upload",
)
