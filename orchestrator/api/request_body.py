"""Request bodies: capped while they stream, strict JSON, and storable in both databases.

A body has room before it is read. A large one is parsed and validated off the event loop.
"""

from __future__ import annotations

import math
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from orchestrator.api import problems
from orchestrator.api.problems import Refusal
from orchestrator.foundation import json_codec, off_loop
from orchestrator.foundation.admission import Admission, Slot, content_length
from orchestrator.foundation.errors import NotJson, Problem
from orchestrator.foundation.json_text import is_plain

BODY_CAP = 1024 * 1024
#: Of a job with images in Base64. Without them, it has `BODY_CAP` too. Two images of 10 MB.
SUBMISSION_CAP = 32 * BODY_CAP
_MAX_DEPTH = 64
ModelT = TypeVar("ModelT", bound=BaseModel)


def admit(admission: Admission, key: str, request: Request, cap: int = BODY_CAP) -> Slot:
    """Return a slot for a request of an API key, with room for the body that it announces.

    Raises `Unavailable`, and a 413 `Problem` for a body over the cap.
    """
    size = content_length(request.headers.get("content-length"))
    if size > cap:
        raise problems.too_large(cap)
    return admission.admit(key, size=size)


async def read_body(request: Request, slot: Slot, cap: int = BODY_CAP) -> bytes:
    """Return the body, which need not announce its size.

    Raises a 413 `Problem` once it exceeds `cap` bytes, and `Unavailable` if it finds no room.
    """
    chunks, size = [], 0
    async for chunk in request.stream():
        chunks.append(chunk)
        size += len(chunk)
        if size > cap:
            raise problems.too_large(cap)
        slot.hold(size)
    return b"".join(chunks)


async def read_json(request: Request, slot: Slot, cap: int = BODY_CAP) -> bytes:
    """Return a body for `parse`. Raises `Problem` 413 or 415, and `Unavailable`.

    Ignores Content-Type: many clients send JSON under another type, or under none.
    """
    _check_encoding(request, "application/json")
    return await read_body(request, slot, cap)


async def read_model(
    request: Request, slot: Slot, key: str, model: type[ModelT], *, optional: bool = False
) -> ModelT:
    """Return the body, sent with an API key, as `model`; an empty one as `{}` if it is optional.

    Raises `Problem` 400, 413, 415 or 422, and `Unavailable`.
    """
    body = await read_json(request, slot)

    def validated() -> ModelT:
        return validate(model, {} if optional and not body else parse(body))

    return await off_loop.callers.run(key, len(body), validated)


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
    """Return the JSON value of a body. Raises `Problem` 400, also for NaN and Infinity, or 422."""
    try:
        value = json_codec.parse(body, "utf-8")
    except NotJson as error:
        raise Refusal("not_json", error.why) from None
    if len(body) < off_loop.LARGE or not is_plain(body, _MAX_DEPTH):
        _check(value)
    return value


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


def validate(model: type[ModelT], value: Any, context: Any = None) -> ModelT:
    """Return `value` as `model`. Raises a 422 `Problem` that points at every error."""
    try:
        return model.model_validate(value, context=context)
    except ValidationError as error:
        raise problems.invalid_body(error) from None
