"""Request bodies: capped while they stream, strict JSON, and storable in both databases."""

from __future__ import annotations

import math
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from orchestrator.api import problems
from orchestrator.api.problems import Refusal
from orchestrator.foundation import json_codec
from orchestrator.foundation.admission import content_length
from orchestrator.foundation.errors import NotJson, Problem

BODY_CAP = 1024 * 1024
_MAX_DEPTH = 64
ModelT = TypeVar("ModelT", bound=BaseModel)


async def read_body(request: Request, cap: int = BODY_CAP) -> bytes:
    """Return the body. Raises a 413 `Problem` once it exceeds `cap` bytes."""
    if content_length(request.headers.get("content-length")) > cap:
        raise problems.too_large(cap)
    chunks, size = [], 0
    async for chunk in request.stream():
        chunks.append(chunk)
        size += len(chunk)
        if size > cap:
            raise problems.too_large(cap)
    return b"".join(chunks)


async def read_json(request: Request, *, optional: bool = False) -> Any:
    """Return the body's JSON value; `{}` for an empty body if it is optional.

    Raises `Problem` 400, 413, 415 or 422. Ignores Content-Type: many clients send JSON under
    another type, or under none.
    """
    _check_encoding(request, "application/json")
    body = await read_body(request)
    value = {} if optional and not body else parse(body)
    _check(value)
    return value


def _check_encoding(request: Request, expected: str) -> None:
    """Raise a 415 `Problem` for a compressed body: its decompressed size has no bound."""
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise _wrong_media_type(f"{expected} without content-encoding")


def check_media_type(request: Request, expected: str) -> None:
    """Raise a `Problem` if Content-Type differs or is repeated."""
    types = request.headers.getlist("content-type")
    if len(types) > 1:
        raise Refusal("not_json", "content-type was given more than once")
    _check_encoding(request, expected)
    if (types[0].partition(";")[0].strip().lower() if types else "") != expected:
        raise _wrong_media_type(expected)


def _wrong_media_type(expected: str) -> Refusal:
    return Refusal("unsupported_media_type", f"this call takes {expected}")


def parse(body: bytes) -> Any:
    """Return the JSON value of a body. Raises a 400 `Problem`, also for NaN and Infinity."""
    try:
        return json_codec.parse(body, "utf-8")
    except NotJson as error:
        raise Refusal("not_json", error.why) from None


def _check(value: Any) -> None:
    """Refuse depths, texts and numbers that the database or a vendor's API would not keep."""
    for depth, pointer, key, item in json_codec.walk(value):
        if depth > _MAX_DEPTH:
            raise Refusal("not_json", f"the body is nested more than {_MAX_DEPTH} levels deep")
        if isinstance(item, float) and not math.isfinite(item):
            raise problems.invalid_field(pointer, "finite_number", "This number is too large")
        if not is_storable(key):
            raise _unstorable(pointer.rpartition("/")[0])
        if isinstance(item, str) and not is_storable(item):
            raise _unstorable(pointer)


def _unstorable(pointer: str) -> Problem:
    message = "Text may not hold NUL or half a surrogate pair"
    return problems.invalid_field(pointer, "string_unstorable", message)


def is_storable(text: str) -> bool:
    """True if both databases can store the text."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text


def validate(model: type[ModelT], value: Any) -> ModelT:
    """Return `value` as `model`. Raises a 422 `Problem` that points at every error."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise problems.invalid_body(error) from None
