"""Large images in a submission: a body may exceed the cap of all bodies by these alone."""

from __future__ import annotations

import re
from typing import Any

from orchestrator.api import problems
from orchestrator.api.problems import Refusal
from orchestrator.api.request_body import BODY_CAP, SUBMISSION_CAP
from orchestrator.foundation import json_codec
from orchestrator.foundation.errors import Problem
from orchestrator.vendors import large_images
from orchestrator.vendors.large_images import LargeImages

#: Fields of `input` with images, and pointers to what may be a large image.
_FIELDS = ("image_url", "last_image_url", "image_urls", "static_mask", "dynamic_masks")
_PLACES = re.compile(
    r"/input/(?:(?:last_)?image_url|image_urls/[0-9]+|static_mask|dynamic_masks/[0-9]+/mask)"
)


def taken_from(body: bytes) -> tuple[bytes, LargeImages]:
    """Return a body without its large images, and these. Raises a 413 `Problem`.

    A body within the cap keeps its images.
    """
    if len(body) <= BODY_CAP:
        return body, {}
    # Quotes stay: more of them are too many, and take long to look through.
    if body.count(b'"') > BODY_CAP:
        raise _too_large()
    body, images = large_images.take_out(body)
    if len(body) > BODY_CAP:
        raise _too_large()
    return body, images


def check_places(body: Any, images: LargeImages) -> None:
    """Raise a 413 `Problem` for a large text in a field that takes no images.

    Raises a 422 `Problem` for references beyond those that `taken_from` put there: each of their
    few bytes would become megabytes of the vendor's request.
    """
    room = SUBMISSION_CAP
    for _, pointer, key, value in json_codec.walk(body) if images else ():
        for text in (key, value):
            if not isinstance(text, str) or large_images.BEGINNING not in text:
                continue
            if text not in images:
                message = "A body with large images may not hold references of images"
                raise problems.invalid_field(pointer, "reference", message)
            room -= len(images[text])
            if not _PLACES.fullmatch(pointer) or room < 0:
                raise _too_large()


def with_references(body: Any) -> Any:
    """Return a valid submission with references in place of all its large images.

    So it is the same whether it was sent in more than the cap, or in less. It is `body` itself if
    it has none.
    """
    given = body["input"]
    fields = {name: given[name] for name in _FIELDS if name in given}
    replaced = _referenced(fields)
    return body if replaced == fields else {**body, "input": {**given, **replaced}}


def _referenced(value: Any) -> Any:
    if isinstance(value, str):
        return large_images.referenced(value)
    if isinstance(value, list):
        return [_referenced(item) for item in value]
    if isinstance(value, dict):
        return {key: _referenced(item) for key, item in value.items()}
    return value


def _too_large() -> Problem:
    return Refusal("too_large", f"without images in Base64, the body is over {BODY_CAP} bytes")
