"""Kling's new standard, which Cloudsway and Kling share: request fields, task object, `/tasks`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from orchestrator.simulator import body_fields as fields
from orchestrator.simulator import schema
from orchestrator.simulator.contract import Rules, StatusQuery, SubmitEndpoint, no_rules
from orchestrator.simulator.errors import ErrorKind, Refusal
from orchestrator.simulator.json_body import JsonObject, objects_at
from orchestrator.simulator.kling_api import envelope
from orchestrator.simulator.records import STATES, Snapshot, State

STATUSES: Final[Mapping[State, str]] = dict(
    zip(STATES, ("submitted", "processing", "reviewing", "succeeded", "failed"), strict=True)
)
BATCH: Final = 20
TASK_ARGS: Final = frozenset({"task_ids", "external_task_ids"})
URL_LIFETIME_SECONDS: Final = 30 * 86_400
PROMPT: Final = schema.string(at_most=3072)
SETTINGS: Final[schema.Fields] = {"duration": schema.integer(3, 15)}
OPTIONS: Final = schema.object_of({}, {**fields.CALLBACK, "watermark_info": fields.WATERMARK})
# An alias (`id`) lets the prompt refer to a media entry as @image_1.
ALIAS: Final[schema.Fields] = {"id": schema.pattern(r"[A-Za-z0-9_]+")}


def entry(
    kind: str, required: schema.Fields, optional: schema.Fields | None = None
) -> schema.Check:
    """Check one entry of `contents`, of this type."""
    return schema.object_of({"type": schema.pattern(kind), **required}, optional)


def text_body(**settings: schema.Check) -> schema.Check:
    """Check the body of text-to-video: a prompt, with an aspect ratio among the settings."""
    allowed = schema.object_of({}, {**SETTINGS, "aspect_ratio": fields.RATIO, **settings})
    return schema.object_of({"prompt": PROMPT}, {"settings": allowed, "options": OPTIONS})


def contents_body(entries: schema.Fields, **settings: schema.Check) -> schema.Check:
    """Check a body of `contents`: a prompt, and these entries, by type."""
    prompt = entry("prompt", {"text": PROMPT})
    contents = schema.array(schema.tagged_union("type", {"prompt": prompt, **entries}))
    allowed = schema.object_of({}, {**SETTINGS, **settings})
    return schema.object_of({"contents": contents}, {"settings": allowed, "options": OPTIONS})


def content_types(body: JsonObject) -> list[str]:
    """Return the types of the entries of `contents`."""
    return [str(entry.get("type")) for entry in objects_at(body, "contents")]


def frame_rules(body: JsonObject, path: Mapping[str, str]) -> Iterator[str]:
    """`contents` has exactly one first frame, and at most one prompt and last frame."""
    types = content_types(body)
    if "contents" in body and types.count("first_frame") != 1:
        yield "contents: must have exactly one first_frame"
    if types.count("prompt") > 1 or types.count("last_frame") > 1:
        yield "contents: at most one prompt and one last_frame"


def task(shown: Snapshot) -> JsonObject:
    """Return the flat task object: a push body, and one item of a query response."""
    render = shown.render
    succeeded = shown.state == "succeeded"
    body: JsonObject = {
        "id": render.ids.task,
        "status": STATUSES[shown.state],
        "message": shown.message,
        "outputs": [],
        "create_time": shown.created,
        "update_time": shown.updated,
    }
    if render.external_task_id:
        body["external_id"] = render.external_task_id
    if shown.url:
        url = f"{shown.url}?ksTime={shown.updated // 1000 + URL_LIFETIME_SECONDS:x}"
        output: JsonObject = {"type": "video", "id": render.ids.video, "url": url}
        if shown.watermark_url:
            output["watermark_url"] = shown.watermark_url
        body["outputs"] = [{**output, "duration": f"{render.seconds}.041"}]
    if shown.is_final:
        charge: JsonObject = {"charge_type": "unit", "package_type": "video"}
        body["billing"] = [{**charge, "amount": render.seconds}] if succeeded else []
    return body


def submit_response(shown: Snapshot) -> JsonObject:
    hidden = {"outputs", "billing"}
    return envelope({name: value for name, value in task(shown).items() if name not in hidden})


def submit_endpoint(
    path: str, name: str, capability: str, check: schema.Check, rules: Rules = no_rules
) -> SubmitEndpoint:
    return SubmitEndpoint(
        path, name, check, lambda _: capability, submit_response, task, "options", rules
    )


def query_response(query: StatusQuery) -> JsonObject:
    """Show up to 20 renders by exactly one of the two lists of ids.

    Unknown ids are absent from `data`. Raises `Refusal` for a query that breaks the document.
    """
    lists = {name: query.args.get(name, "") for name in TASK_ARGS}
    given = [name for name, value in lists.items() if value]
    if len(given) != 1:
        message = "exactly one of task_ids and external_task_ids"
        raise Refusal(ErrorKind.INVALID, message, violation=True)
    ids = lists[given[0]].split(",")
    if len(ids) > BATCH or not all(ids):
        message = f"{given[0]}: must have 1 to {BATCH} ids"
        raise Refusal(ErrorKind.INVALID, message, violation=True)
    find = query.by_task_id if given[0] == "task_ids" else query.by_external_id
    return envelope([task(shown) for shown in map(find, ids) if shown is not None])
