"""Gateway document 1: UniAll. Everything beyond the basics rides in `extra_body`.

The document knows neither a callback nor a status question. The question is the vendor's English page's; the callback
in `extra_body` is honoured for callers that dare.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Final

from orchestrator.simulator import video_object
from orchestrator.simulator.dialect import Answer, Dialect, Entrance, Inquiry, Trouble
from orchestrator.simulator.fields import ELEMENTS, FRACTION, HOOKS, MAYBE_WORDS, MEDIA, WORDS
from orchestrator.simulator.kling import legacy_push
from orchestrator.simulator.render import Sight
from orchestrator.simulator.shapes import (
    JsonObject,
    array,
    either,
    integer,
    matching,
    one_of,
    record,
)
from orchestrator.simulator.video_object import capability, find, names, video

BODY: Final = record(
    {
        "model": one_of(
            *(
                f"kling-v3-{tier}-{sound}"
                for tier in ("std", "pro")
                for sound in ("silent", "audio")
            )
        )
    },
    {
        "prompt": WORDS,
        "image": MEDIA,
        "last_image": MEDIA,
        "aspect_ratio": one_of("16:9", "9:16", "1:1"),
        # The table says string, every sample sends a number.
        "duration": either(integer(3, 15), matching(r"[3-9]|1[0-5]")),
        "extra_body": record(
            {},
            {
                "cfg_scale": FRACTION,
                "shot_type": one_of("customize", "intelligent"),
                "negative_prompt": MAYBE_WORDS,
                "multi_prompt": array(record({"prompt": WORDS}), at_most=6),
                "element_list": ELEMENTS,
                **HOOKS,
            },
        ),
    },
)


def trouble(kind: Trouble, message: str) -> Answer:
    """new-api's words, except that an unknown task is a 404."""
    answer = video_object.trouble(kind, message)
    return Answer(404, answer.body) if kind is Trouble.NOT_FOUND else answer


def rules(body: JsonObject, path: Mapping[str, str]) -> Iterator[str]:
    """In image mode it is prompt or multi_prompt, never both; a last frame needs a first one."""
    extra = body.get("extra_body")
    shots = isinstance(extra, dict) and "multi_prompt" in extra
    if "image" in body and "prompt" in body and shots:
        yield "prompt: not together with extra_body.multi_prompt"
    if "prompt" not in body and not ("image" in body and shots):
        yield "prompt: missing"
    if "last_image" in body and "image" not in body:
        yield "last_image: needs image"


def shown(sight: Sight) -> JsonObject:
    body = {**video(sight, "video.generation.job"), "error": None, "video_url": "", "result": None}
    if sight.url:
        body |= {"video_url": sight.url, "result": {"outputs": [sight.url], "video_url": sight.url}}
    if sight.state == "failed":
        body["error"] = {"message": sight.message, "code": "task_failed"}
    return body


UNIALL: Final = Dialect(
    mount="uniall",
    entrances=(
        Entrance(
            "/v1/video/generations",
            "generations",
            BODY,
            capability,
            receipt=video,
            push=legacy_push,
            hooks="extra_body",
            rules=rules,
        ),
    ),
    inquiries=(Inquiry("/v1/videos/{id}", lambda ask: shown(find(ask))),),
    names=partial(names, prefix="task_"),
    trouble=trouble,
)
