"""What a request of Kling's new standard may hold, and how `/tasks` answers. Cloudsway and Kling share both."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from orchestrator.simulator.dialect import Ask, Refusal, Trouble
from orchestrator.simulator.fields import HOOKS, MEDIA, RATIO, WATERMARK
from orchestrator.simulator.kling import REQUEST_ID, new_item
from orchestrator.simulator.shapes import Check, JsonObject, integer, matching, record, text

BATCH: Final = 20
TASK_ARGS: Final = frozenset({"task_ids", "external_task_ids"})
PROMPT: Final = text(at_most=3072)
DURATION: Final = integer(3, 15)
OPTIONS: Final = record({}, {**HOOKS, "watermark_info": WATERMARK})
# An alias (`id`) lets the prompt refer to a media entry as @image_1.
ALIAS: Final[Mapping[str, Check]] = {"id": matching(r"[A-Za-z0-9_]+")}


def media(kind: str) -> Check:
    """One media entry of `contents`."""
    return record({"type": matching(kind), "url": MEDIA}, ALIAS)


def settings(**more: Check) -> Check:
    return record({}, {"duration": DURATION, **more})


def text_body(resolution: Check, **more: Check) -> Check:
    """The body of text-to-video: the prompt stands alone."""
    shown = settings(resolution=resolution, aspect_ratio=RATIO, **more)
    return record({"prompt": PROMPT}, {"settings": shown, "options": OPTIONS})


def kinds(body: JsonObject) -> list[str]:
    """The types of the entries of `contents`."""
    contents = body.get("contents")
    entries = contents if isinstance(contents, list) else []
    return [str(entry.get("type")) for entry in entries if isinstance(entry, dict)]


def frame_rules(body: JsonObject, path: Mapping[str, str]) -> Iterator[str]:
    """Exactly one first frame, and at most one prompt and last frame."""
    given = kinds(body)
    if "contents" in body and given.count("first_frame") != 1:
        yield "contents: wants exactly one first_frame"
    if given.count("prompt") > 1 or given.count("last_frame") > 1:
        yield "contents: at most one prompt and one last_frame"


def tasks(ask: Ask) -> JsonObject:
    """Up to 20 renders by exactly one of the two lists of ids. What is not known is absent from `data`."""
    lists = {name: ask.args.get(name, "") for name in TASK_ARGS}
    given = [name for name, value in lists.items() if value]
    if len(given) != 1:
        raise Refusal(Trouble.INVALID, "exactly one of task_ids and external_task_ids", blame=True)
    asked = lists[given[0]].split(",")
    if len(asked) > BATCH or not all(asked):
        raise Refusal(Trouble.INVALID, f"{given[0]}: wants 1 to {BATCH} ids", blame=True)
    look = ask.by_task_id if given[0] == "task_ids" else ask.by_external_id
    found = [sight for sight in map(look, asked) if sight is not None]
    return {
        "code": 0,
        "message": "SUCCEED",
        "data": [new_item(sight) for sight in found],
        "request_id": REQUEST_ID,
    }
