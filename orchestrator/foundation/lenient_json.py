"""JSON as vendors write it. For their answers and pushes only: our own API is strict.

An acceptance is not thrown away for its form. What is read beyond RFC 8259: NaN and the infinities
(null), control characters in strings, a comma before a bracket, the constants of Python and
JavaScript, bytes that are not UTF-8, JSON as a string of JSON, and anything behind the end of an
object or a list.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

from orchestrator.foundation.errors import NotJson
from orchestrator.foundation.json_codec import encoding_of, parse

#: Digits of an integer that is read exactly. Python refuses thousands, and no id has so many.
_DIGITS: Final = 64
#: Charsets that are not UTF-8 and that servers still declare, and the decoder of each.
_CHARSETS: Final = {
    **dict.fromkeys(("gbk", "gb2312", "gb18030"), "gb18030"),
    **dict.fromkeys(("iso-8859-1", "latin-1", "windows-1252", "us-ascii"), "cp1252"),
    "big5": "big5",
}
#: A string, complete or not, so that what follows is found outside strings alone; each part is
#: possessive, since hostile text must not be scanned twice.
_ODDITIES: Final = re.compile(
    r'"(?:[^"\\]++|\\.)*+"?'
    r"|,(?=\s*[}\]])"
    r"|[+-]?\b(?:nan|inf|infinity|none|undefined|true|false)\b",
    re.DOTALL | re.IGNORECASE,
)
#: Where a word begins within a key, and the levels of a document whose keys are respelled.
_WORD: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_LEVELS: Final = 8
_BRACKETS: Final = ("{", "[")
_CONSTANTS: Final = {"true": "true", "false": "false"}


def read(body: bytes, charset: str = "") -> Any:
    """Return the JSON value of a body, whose Content-Type names `charset`. Raises `NotJson`."""
    try:
        value = parse(body)
    except NotJson as error:
        value = _read_container(_text(body, charset), error)
    if isinstance(value, str) and value.lstrip().startswith(_BRACKETS):
        # Encoded twice, as by a gateway in front of a function that returns text.
        return _read_container(value, NotJson("the body is a string that is not JSON"))
    return value


def opened(value: Any) -> Any:
    """Return the object or list that a text of JSON holds, and any other value unchanged."""
    if not isinstance(value, str) or not value.lstrip().startswith(_BRACKETS):
        return value
    try:
        return _decode(value.lstrip())
    except (json.JSONDecodeError, RecursionError):
        return value


def respelled(value: Any) -> Any:
    """Return an object whose keys are PascalCase with keys in snake_case: `TaskId` as `task_id`.

    Its only key `Response` is left out, as in the answers of Tencent Cloud:
    https://cloud.tencent.com/document/api/266/34126
    """
    if not isinstance(value, dict) or not next(iter(value), "")[:1].isupper():
        return value
    found = _snake(value, _LEVELS)
    inner = found.get("response")
    return inner if len(found) == 1 and isinstance(inner, dict) else found


def _snake(value: Any, levels: int) -> Any:
    if isinstance(value, list) and levels:
        return [_snake(one, levels - 1) for one in value]
    if not isinstance(value, dict) or not levels:
        return value
    return {_WORD.sub("_", key).lower(): _snake(one, levels - 1) for key, one in value.items()}


def as_utf8(body: bytes) -> bytes:
    """Return JSON in UTF-16 or UTF-32 as UTF-8, and any without its byte order mark."""
    encoding = encoding_of(body)
    if encoding == "utf-8":
        return body
    return body.decode(encoding, "replace").encode("utf-8", "replace")


def _text(body: bytes, charset: str) -> str:
    try:
        return body.decode(encoding_of(body), "surrogatepass")
    except UnicodeDecodeError:
        return body.decode(_CHARSETS.get(charset.lower(), "utf-8"), "replace")


def _read_container(text: str, error: NotJson) -> Any:
    """Return the object or list that a text begins with. Raises `error`.

    Other values are refused: a page `404 not found` would be a number.
    """
    text = text.lstrip()
    if not text.startswith(_BRACKETS):
        raise error
    try:
        return _decode(text)
    except json.JSONDecodeError:
        # Only now: the search for oddities costs more than a parse, and few documents have any.
        text = _ODDITIES.sub(_repaired, text)
    except RecursionError:
        raise error from None
    try:
        return _decode(text)
    except (json.JSONDecodeError, RecursionError):
        raise error from None


def _decode(text: str) -> Any:
    return _LENIENT.raw_decode(text)[0]


def _repaired(found: re.Match[str]) -> str:
    part = found[0]
    if part.startswith('"'):
        return part
    return "" if part == "," else _CONSTANTS.get(part.lower(), "null")


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= _DIGITS else float(digits)


_LENIENT: Final = json.JSONDecoder(strict=False, parse_int=_integer, parse_constant=lambda _: None)
