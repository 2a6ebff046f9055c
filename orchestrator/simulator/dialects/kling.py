"""Kling: the legacy standard under /v1/videos/*, the new one under /{operation}/{model}, one host.

Legacy accepts a static API key or a JWT of AccessKey and SecretKey; the new standard accepts the
API key only. External ids are unique across both, and `/tasks` shows renders of both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Final

from orchestrator.simulator import body_fields as fields
from orchestrator.simulator import kling_api, kling_legacy, kling_new, schema
from orchestrator.simulator.contract import Dialect, QueryEndpoint, StatusQuery, SubmitEndpoint
from orchestrator.simulator.json_body import JsonObject
from orchestrator.simulator.records import Snapshot
from orchestrator.simulator.task_ids import kling_ids

SHOTS: Final[schema.Fields] = {
    **kling_legacy.shots(fields.SECONDS_TEXT),
    "prompt": fields.TEXT,
    "element_list": fields.ELEMENTS,
}
MODEL: Final = {"model_name": fields.TEXT}
IMAGE: Final = {**MODEL, "image": fields.MEDIA}
LEGACY: Final[schema.Fields] = {
    "text2video": schema.object_of(MODEL, {**kling_legacy.TEXT_OPTIONS, **SHOTS}),
    "image2video": schema.object_of(IMAGE, {**kling_legacy.IMAGE_OPTIONS, **SHOTS}),
    "motion-control": kling_legacy.MOTION_CONTROL,
    "omni-video": kling_legacy.omni(fields.SECONDS_TEXT),
    "multi-image2video": kling_legacy.MULTI_IMAGE,
}
SETTINGS: Final[schema.Fields] = {
    "resolution": schema.enum("720p", "1080p", "4k"),
    "audio": schema.enum("native", "original", "off"),
    "multi_shot": schema.boolean,
}
MEDIA_TYPES: Final = ("first_frame", "last_frame", "refer_image", "feature_video", "base_video")
ENTRIES: Final[schema.Fields] = {
    kind: kling_new.entry(kind, {"url": fields.MEDIA}, kling_new.ALIAS) for kind in MEDIA_TYPES
}
ELEMENT: Final = kling_new.entry("element", {"element_id": fields.TEXT}, kling_new.ALIAS)
CONTENTS_BODY: Final = kling_new.contents_body(
    {**ENTRIES, "element": ELEMENT}, aspect_ratio=fields.RATIO, **SETTINGS
)
MODELS: Final = frozenset(
    {"kling-3.0-turbo", "kling-3.0", "kling-3.0-omni", "kling-o1", "kling-2.6", "kling-2.5-turbo"}
)
#: Operation -> capability, body.
NEW: Final[Mapping[str, tuple[str, schema.Check]]] = {
    "text-to-video": ("text2video", kling_new.text_body(**SETTINGS)),
    "image-to-video": ("image2video", CONTENTS_BODY),
    "omni-video": ("omni_video", CONTENTS_BODY),
    "motion-control": ("motion_control", CONTENTS_BODY),
}


def legacy_rules(body: JsonObject, path: Mapping[str, str]) -> Iterator[str]:
    """Every rule on Kling's own pages."""
    yield from kling_legacy.prompt_rules(body, path)
    yield from kling_legacy.camera_rules(body)
    yield from kling_legacy.exclusion_rules(body)


def new_rules(body: JsonObject, path: Mapping[str, str], operation: str) -> Iterator[str]:
    """The entries of `contents` that an operation needs; 3.0-turbo has no last frame."""
    types = set(kling_new.content_types(body))
    if operation == "image-to-video":
        yield from kling_new.frame_rules(body, path)
        if "last_frame" in types and path["model"] == "kling-3.0-turbo":
            yield "contents: kling-3.0-turbo takes no last_frame"
        if {"refer_image", "feature_video", "base_video", "element"} & types:
            yield "contents: image-to-video takes prompt, first_frame and last_frame"
    has_image, has_video = {"first_frame", "refer_image"}, {"feature_video", "base_video"}
    if operation == "motion-control" and not (has_image & types and has_video & types):
        yield "contents: motion-control needs an image and a video"


def legacy_task(shown: Snapshot) -> JsonObject:
    """Return `data` of a legacy query response."""
    body = kling_legacy.push_body(shown)
    del body["task_result"]
    if shown.state == "succeeded":
        body["task_result"] = {
            "videos": kling_legacy.videos(shown, watermark_url=shown.watermark_url)
        }
    return body


def legacy_submit_response(shown: Snapshot) -> JsonObject:
    body = legacy_task(shown)
    del body["task_status_msg"]
    return kling_api.envelope(body)


def legacy_query_response(query: StatusQuery) -> JsonObject:
    return kling_api.envelope(legacy_task(kling_legacy.find(query)))


def legacy_endpoint(name: str, check: schema.Check) -> SubmitEndpoint:
    return SubmitEndpoint(
        f"/v1/videos/{name}",
        name,
        check,
        lambda _: kling_legacy.CAPABILITIES[name],
        legacy_submit_response,
        kling_legacy.push_body,
        rules=legacy_rules,
        accepts_jwt=True,
    )


def new_endpoint(operation: str, capability: str, check: schema.Check) -> SubmitEndpoint:
    path, rules = f"/{operation}/{{model}}", partial(new_rules, operation=operation)
    endpoint = kling_new.submit_endpoint(path, operation, capability, check, rules)
    return replace(endpoint, models=MODELS)


def kling(mount: str) -> Dialect:
    """Return one Kling host. Accounts that must not share external ids use separate mounts."""
    return Dialect(
        mount=mount,
        submit_endpoints=(
            *(legacy_endpoint(name, check) for name, check in LEGACY.items()),
            *(new_endpoint(operation, *form) for operation, form in NEW.items()),
        ),
        query_endpoints=(
            QueryEndpoint("/v1/videos/{endpoint}/{id}", legacy_query_response, accepts_jwt=True),
            QueryEndpoint("/tasks", kling_new.query_response, kling_new.TASK_ARGS),
        ),
        new_ids=kling_ids,
        error_reply=kling_api.error_reply,
        unique_external_ids=True,
    )
