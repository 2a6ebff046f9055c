"""JSON as bytes: strict when read, compact when written; and a walk over nested values.

`Raw` is a value that is JSON already: `encode` copies its text.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from typing import Any, NoReturn

import orjson

from orchestrator.foundation.errors import NotJson

Raw = orjson.Fragment
#: Bytes from which on a search for long numbers pays.
_LARGE = 4096
_LONG_NUMBER = re.compile(rb"[0-9]{18}")


def parse(body: bytes, encoding: str = "") -> Any:
    """Return the JSON value of `body`. Raises `NotJson` for NaN, Infinity and all that is not JSON.

    Without an `encoding`, UTF-8, UTF-16 and UTF-32 are detected, and lone surrogates pass.
    """
    if len(body) >= _LARGE and not _LONG_NUMBER.search(body):
        # Several times as fast, but integers over 64 bits become floats, and ids may be numbers.
        # What it refuses is left to the other parser, and to its messages.
        with contextlib.suppress(orjson.JSONDecodeError):
            return orjson.loads(body)
    try:
        if encoding:
            return _STRICT.decode(body.decode(encoding))
        return _STRICT.decode(body.decode(encoding_of(body), "surrogatepass"))
    except RecursionError as error:
        raise NotJson("the body is nested too deeply") from error
    except UnicodeDecodeError as error:
        raise NotJson(f"the body is not {error.encoding.upper()}") from error
    except json.JSONDecodeError as error:
        raise NotJson(f"{error.msg}, line {error.lineno} column {error.colno}") from error
    except ValueError as error:
        why = "the body holds a number that JSON does not have, or that is too long"
        raise NotJson(why) from error


def encoding_of(body: bytes) -> str:
    """Return the encoding of a JSON document in UTF-8, UTF-16 or UTF-32."""
    is_plain = body[:1] in (b"{", b"[") and body[1:2] != b"\0"
    return "utf-8" if is_plain else json.detect_encoding(body)


def _refuse_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is not JSON")


_STRICT = json.JSONDecoder(parse_constant=_refuse_constant)


def walk(value: Any) -> Iterator[tuple[int, str, str, Any]]:
    """Yield depth, JSON pointer, key ("" in a list) and value of everything in `value`.

    Iterative: callers nest as deep as they like. The pointer has the first 64 characters of a key.
    """
    yield 0, "", "", value
    # One iterator a level. A list of what is left would hold a pointer for each of its values.
    levels = [("", _inside(value))]
    while levels:
        parent, entries = levels[-1]
        entry = next(entries, None)
        if entry is None:
            levels.pop()
            continue
        segment, key, inner = entry
        pointer = f"{parent}/{segment}"
        yield len(levels), pointer, key, inner
        if isinstance(inner, dict | list):
            levels.append((pointer, _inside(inner)))


def _inside(value: Any) -> Iterator[tuple[str, str, Any]]:
    """Yield the segment of a JSON pointer, the key and the value of what is in `value`."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield escaped(key), key, inner
    elif isinstance(value, list):
        for n, inner in enumerate(value):
            yield str(n), "", inner


def escaped(key: str) -> str:
    """Return a key as a segment of a JSON pointer (RFC 6901)."""
    return key[:64].replace("~", "~0").replace("/", "~1")


def encode(value: Any) -> bytes:
    """Return compact UTF-8 JSON."""
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:
        # Integers of any size, or half a surrogate pair: orjson takes neither.
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=_parsed)
        return text.encode("utf-8", "replace")


def _parsed(value: Any) -> Any:
    """Return the value of a `Raw`, whose text only orjson can write unparsed."""
    if isinstance(value, Raw):
        return json.loads(orjson.dumps(value))
    raise TypeError(f"{type(value).__name__} is not JSON")
