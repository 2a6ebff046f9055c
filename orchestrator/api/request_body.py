"""Request bodies, read with suspicion: capped while they stream, strictly JSON, and storable in both databases."""

from __future__ import annotations

import math
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from orchestrator.api import problems
from orchestrator.foundation import json_codec
from orchestrator.foundation.errors import NotJson, Problem

BODY_CAP = 1024 * 1024
_DEEPEST = 64
ModelT = TypeVar("ModelT", bound=BaseModel)


async def body_of(request: Request, cap: int = BODY_CAP) -> bytes:
    """Return the body. Raises a 413 `Problem` as soon as it is known to be over `cap` bytes."""
    declared = request.headers.get("content-length", "")
    if declared.isascii() and declared.isdigit() and int(declared[:12]) > cap:
        raise problems.too_large(cap)
    chunks, size = [], 0
    async for chunk in request.stream():
        chunks.append(chunk)
        size += len(chunk)
        if size > cap:
            raise problems.too_large(cap)
    return b"".join(chunks)


async def json_of(request: Request, *, optional: bool = False) -> Any:
    """Return the body's JSON value, `{}` for no body if it is optional. Raises `Problem` 400, 413, 415 or 422.

    Whatever content-type says: many a client sends JSON, or nothing, under another name.
    """
    check_encoding(request, "application/json")
    body = await body_of(request)
    value = {} if optional and not body else parse(body)
    _check(value)
    return value


def check_encoding(request: Request, wanted: str) -> None:
    """Raise a 415 `Problem` if the body is compressed: what a small one grows to has no bound."""
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise problems.wrong_media(f"{wanted} without content-encoding")


def check_media(request: Request, wanted: str) -> None:
    """Raise a `Problem` if the body is said to be in another language, or in two."""
    said = request.headers.getlist("content-type")
    if len(said) > 1:
        raise problems.not_json("content-type was given more than once")
    check_encoding(request, wanted)
    if (said[0].partition(";")[0].strip().lower() if said else "") != wanted:
        raise problems.wrong_media(wanted)


def parse(body: bytes) -> Any:
    """Return the JSON value of a body. Raises a 400 `Problem` for anything else, NaN and Infinity included."""
    try:
        return json_codec.parse(body, "utf-8")
    except NotJson as error:
        raise problems.not_json(error.why) from None


def _check(value: Any) -> None:
    """Refuse depths, texts and numbers that would not survive the way into the database and out to a vendor."""
    for depth, pointer, key, item in json_codec.walk(value):
        if depth > _DEEPEST:
            raise problems.not_json(f"the body is nested more than {_DEEPEST} levels deep")
        if isinstance(item, float) and not math.isfinite(item):
            raise problems.fault(pointer, "finite_number", "This number is too large")
        if not is_storable(key):
            raise _unstorable(pointer.rpartition("/")[0])
        if isinstance(item, str) and not is_storable(item):
            raise _unstorable(pointer)


def _unstorable(pointer: str) -> Problem:
    words = "Text may not hold NUL or half a surrogate pair"
    return problems.fault(pointer, "string_unstorable", words)


def is_storable(text: str) -> bool:
    """True if both databases can hold the text."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text


def validated(model: type[ModelT], value: Any) -> ModelT:
    """Return `value` as `model`. Raises a 422 `Problem` that points at everything wrong with it."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise problems.invalid(error) from None
