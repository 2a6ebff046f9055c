"""Gateway document 1: UniAll. Everything beyond the basics is in `extra_body`.

The document has neither a callback nor a status query. The query is that of the vendor's English
page; a callback in `extra_body`, which no document promises, is honoured.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Final

from orchestrator.simulator import body_fields as fields
from orchestrator.simulator import new_api, schema
from orchestrator.simulator.contract import Dialect, QueryEndpoint
from orchestrator.simulator.errors import ErrorKind, ErrorReply
from orchestrator.simulator.json_body import JsonObject, object_at
from orchestrator.simulator.records import Snapshot

MODELS: Final = schema.enum(
    "kling-v3-std-silent", "kling-v3-std-audio", "kling-v3-pro-silent", "kling-v3-pro-audio"
)
EXTRA: Final = schema.object_of(
    {},
    {
        "cfg_scale": fields.FRACTION,
        "shot_type": schema.enum("customize", "intelligent"),
        "negative_prompt": fields.OPTIONAL_TEXT,
        "multi_prompt": schema.array(schema.object_of({"prompt": fields.TEXT}), at_most=6),
        "element_list": fields.ELEMENTS,
        **fields.CALLBACK,
    },
)
BODY: Final = schema.object_of(
    {"model": MODELS},
    {
        "prompt": fields.TEXT,
        "image": fields.MEDIA,
        "last_image": fields.MEDIA,
        "aspect_ratio": schema.enum("16:9", "9:16", "1:1"),
        # The table says string, every sample sends a number.
        "duration": schema.any_of(schema.integer(3, 15), schema.pattern(r"[3-9]|1[0-5]")),
        "extra_body": EXTRA,
    },
)


def error_reply(kind: ErrorKind, message: str) -> ErrorReply:
    """Return new-api's error, except that an unknown task is a 404."""
    status, body = new_api.error_reply(kind, message)
    return 404 if kind is ErrorKind.NOT_FOUND else status, body


def rules(body: JsonObject, path: Mapping[str, str]) -> Iterator[str]:
    """In image mode, prompt and multi_prompt exclude each other; a last frame needs a first."""
    shots = "multi_prompt" in object_at(body, "extra_body")
    if "image" in body and "prompt" in body and shots:
        yield "prompt: not together with extra_body.multi_prompt"
    if "prompt" not in body and not ("image" in body and shots):
        yield "prompt: missing"
    if "last_image" in body and "image" not in body:
        yield "last_image: needs image"


def job(shown: Snapshot) -> JsonObject:
    body = new_api.video(shown, "video.generation.job")
    body |= {"error": None, "video_url": "", "result": None}
    if shown.url:
        body["video_url"] = shown.url
        body["result"] = {"outputs": [shown.url], "video_url": shown.url}
    if shown.state == "failed":
        body["error"] = {"message": shown.message, "code": "task_failed"}
    return body


UNIALL: Final = Dialect(
    mount="uniall",
    submit_endpoints=(new_api.submit_endpoint(BODY, "extra_body", rules),),
    query_endpoints=(QueryEndpoint("/v1/videos/{id}", lambda query: job(new_api.find(query))),),
    new_ids=partial(new_api.new_ids, prefix="task_"),
    error_reply=error_reply,
    content_path=new_api.CONTENT_PATH,
)
