"""JSON as bytes: strict when read, compact when written."""

from __future__ import annotations

import json
from typing import Any, NoReturn

import orjson

from orchestrator.foundation.errors import NotJson


def parse(body: bytes) -> Any:
    """Return the JSON value of `body`. Raises `NotJson` for anything that is not strict JSON."""
    # Not orjson: what does not fit 64 bits would come back as the nearest float, and ids may be numbers.
    try:
        return _STRICT.decode(body.decode(json.detect_encoding(body), "surrogatepass"))
    except (ValueError, RecursionError) as error:
        raise NotJson("the body is not JSON") from error


def _not_a_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is not JSON")


_STRICT = json.JSONDecoder(parse_constant=_not_a_number)


def encode(value: Any) -> bytes:
    """Return compact UTF-8 JSON."""
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:
        # Callers may send whole numbers of any size, and orjson takes 64 bits.
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
