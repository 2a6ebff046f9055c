"""Documents that are dear to parse, to keep or to show: dense, deep, wide."""

from __future__ import annotations

import json
from typing import Any

#: A little under the largest body.
_SIZE = (1 << 20) - 4096


def job_with(extra: str) -> bytes:
    """Return a submission with this text as `input.extra.x`."""
    head, tail = json.dumps(
        {"account": "main", "model": "m", "input": {"prompt": "p", "extra": {"x": "@"}}}
    ).split('"@"')
    return f"{head}{extra}{tail}".encode()


def _filled(unit: str, opening: str = "[", closing: str = "]") -> str:
    return opening + ",".join([unit] * (_SIZE // (len(unit) + 1))) + closing


#: Values that fill a body of 1 MiB, by what is dear about them.
DENSE = {
    "small numbers": _filled("0"),
    "empty lists": _filled("[]"),
    "empty objects": _filled("{}"),
    "one-letter texts": _filled('"é"'),
    "small objects": _filled('{"a":0}'),
    "nulls": _filled("null"),
    "floats": _filled("1e9"),
    "names": "{" + ",".join(f'"{n:x}":0' for n in range(_SIZE // 9)) + "}",
    "escapes": '"' + r"\u00e9" * (_SIZE // 6) + '"',
    "pairs of lists": _filled("[[],[]]"),
    "deep lists": _filled("[" * 58 + "]" * 58),
}


def dense_job(kind: str = "empty lists", **more: Any) -> bytes:
    """Return a submission of almost 1 MiB."""
    body = job_with(DENSE[kind])
    if not more:
        return body
    return b"{" + json.dumps(more)[1:-1].encode() + b"," + body[1:]
