"""Gateway document 4: AgentsFlare, Kling's legacy standard behind a prefix.

The document defers to Kling's pages for details, so Kling's fields pass, but Kling's own rules are not checked here.
Answers carry the gateway's id; pushes come from Kling and carry Kling's, some of them wrapped once in an envelope.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Final

from orchestrator.simulator.dialect import Answer, Ask, Dialect, Entrance, Inquiry, Trouble, digits
from orchestrator.simulator.fields import MEDIA, SECONDS_TEXT, WORDS
from orchestrator.simulator.kling import LEGACY_WORDS, kling_trouble, legacy_push
from orchestrator.simulator.legacy import (
    CAPABILITIES,
    FRAMES,
    IMAGE,
    MOTION_CONTROL,
    MULTI_IMAGE,
    legacy_answer,
    omni,
    prompt_rules,
)
from orchestrator.simulator.render import Names, Sight
from orchestrator.simulator.shapes import Check, JsonObject, integer, record

ENVELOPE_COIN: Final = 0
REQUIRED: Final[Mapping[str, Check]] = {
    "model_name": WORDS,
    "prompt": WORDS,
    "duration": SECONDS_TEXT,
}
CHECKS: Final[Mapping[str, Check]] = {
    "text2video": record(REQUIRED, FRAMES),
    "image2video": record({**REQUIRED, "image": MEDIA}, {**FRAMES, **IMAGE}),
    "motion-control": MOTION_CONTROL,
    "omni-video": omni(integer(1, 15)),
    "multi-image2video": MULTI_IMAGE,
}


def trouble(kind: Trouble, message: str) -> Answer:
    answer = kling_trouble(kind, message)
    if answer.status == 401:
        return Answer(401, {"code": 1002, "message": "Authorization is invalid", "data": None})
    return answer


def names(rng: random.Random) -> Names:
    """A 30-character gateway id that begins with a time, and Kling's own id for the pushes."""
    task = digits(rng, 17, "202604090") + f"{rng.getrandbits(52):013x}"
    return Names(task, digits(rng, 18, "86"), digits(rng, 18, "86"))


def task(sight: Sight) -> JsonObject:
    """`data` of an answer to a question: no times, no video id."""
    render = sight.render
    body: JsonObject = {"task_id": render.names.task, "task_status": LEGACY_WORDS[sight.state]}
    if sight.state == "failed":
        body["task_status_msg"] = sight.message
    if sight.state == "succeeded":
        video: JsonObject = {"duration": render.seconds}
        body["task_result"] = {"videos": [{"url": sight.url, **video} if sight.url else video]}
    return body


def receipt(sight: Sight) -> JsonObject:
    return {"code": 0, "message": "success", "data": {"task_id": sight.render.names.task}}


def push(sight: Sight) -> JsonObject:
    body = legacy_push(sight)
    return (
        {"code": 0, "message": "success", "data": body}
        if sight.render.coin(ENVELOPE_COIN)
        else body
    )


def answer(ask: Ask) -> JsonObject:
    return legacy_answer(ask, task, "success")


def entrance(endpoint: str, check: Check) -> Entrance:
    return Entrance(
        f"/klingai/v1/videos/{endpoint}",
        endpoint,
        check,
        lambda _: CAPABILITIES[endpoint],
        receipt=receipt,
        push=push,
        rules=prompt_rules,
    )


AGENTSFLARE: Final = Dialect(
    mount="agentsflare",
    entrances=tuple(entrance(endpoint, check) for endpoint, check in CHECKS.items()),
    inquiries=(Inquiry("/klingai/v1/videos/{endpoint}/{id}", answer),),
    names=names,
    trouble=trouble,
    unique_external_ids=True,
)
