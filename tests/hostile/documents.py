"""Hostile values and bodies, drawn from a seeded generator."""

from __future__ import annotations

import copy
import json
import random
from functools import cache
from pathlib import Path
from typing import Any

Json = Any
_SAMPLES = Path(__file__).parents[1] / "samples"
_TEXTS = (
    "", " ", "\0", "\ud800", "\udfff\ud83d", "é" * 300, "\u202eabc", "\x1b[31m", "a\r\nb: c", "%00",
    "../../etc/passwd", "' OR 1=1 --", "${x}", "{{7*7}}", "<script>", "null", "true", "-0", "1e999",
    "x" * 5000, "\uffff", "\U0001f469\u200d\U0001f467", "\u0130", "\ufb00", "a\u0301" * 40,
    "job_", "evt_01kb7x3m5tf6a8r2w9n4c1d0eh",
    "http://", "http://[", "http://127.0.0.1:99999/", "file:///etc/passwd",
    "http://127.0.0.1:9\\@x",
    "2026-13-40T99:99:99Z", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59.999Z", "Infinity",
    "succeeded", "processing", "failed", "*", "job.*", "**", "text2video", "omni_video",
)  # fmt: skip
_NUMBERS = (
    0, -1, 1, 2**31, -(2**31) - 1, 2**63, -(2**63) - 1, 2**64, 10**40, 0.5, -0.0, 1e-320, 1e308,
    5.000000001, 429, 1201, 99999999999999,
)  # fmt: skip
_ODD_VALUES: tuple[Json, ...] = (None, True, False, [], {}, [[]], [None], {"": None}, {"a": {}})


def value(rng: random.Random, depth: int = 0) -> Json:
    """Return any JSON value; a container now and then."""
    kind = rng.random()
    if kind < 0.45:
        return rng.choice(_TEXTS)
    if kind < 0.65:
        return rng.choice(_NUMBERS)
    if kind < 0.85 or depth > 3:
        return copy.deepcopy(rng.choice(_ODD_VALUES))
    if kind < 0.93:
        return [value(rng, depth + 1) for _ in range(rng.randrange(5))]
    return {rng.choice(_TEXTS)[:40]: value(rng, depth + 1) for _ in range(rng.randrange(5))}


def mutated(rng: random.Random, document: Json, times: int = 3) -> Json:
    """Return a document with a few of its nodes replaced, removed, renamed or wrapped."""
    root = {"": copy.deepcopy(document)}
    for _ in range(rng.randrange(times + 1)):
        parent, key = rng.choice(list(_nodes(root)))
        _mutate(rng, parent, key)
    return root.get("")


def _nodes(node: Json) -> list[tuple[Json, Any]]:
    found: list[tuple[Json, Any]] = []
    keys = list(node) if isinstance(node, dict) else range(len(node))
    for key in keys:
        found.append((node, key))
        if isinstance(node[key], dict | list):
            found += _nodes(node[key])
    return found


def _mutate(rng: random.Random, parent: Json, key: Any) -> None:
    how = rng.randrange(7)
    if how == 0 and isinstance(parent, dict) and key:
        parent[rng.choice(_TEXTS)[:80]] = parent.pop(key)
    elif how == 1 and isinstance(parent, dict) and key:
        del parent[key]
    elif how == 2:
        parent[key] = [parent[key]]
    elif how == 3:
        parent[key] = {"data": parent[key], rng.choice(_TEXTS)[:9]: 1}
    elif how == 4 and isinstance(parent[key], list):
        parent[key] = parent[key] * rng.choice((2, 50, 300))
    elif how == 5 and isinstance(parent[key], dict):
        parent[key] |= {f"field_{number}": value(rng) for number in range(rng.choice((1, 60)))}
    else:
        parent[key] = value(rng)


def encoded(rng: random.Random, document: Json) -> bytes:
    """Return a document as bytes: mostly JSON, sometimes oddly encoded, cut or damaged."""
    text = json.dumps(document, ensure_ascii=rng.random() < 0.6)
    data = text.encode("utf-8", "surrogatepass")
    how = rng.random()
    if how < 0.8:
        return data
    damages = (
        lambda: b"\xef\xbb\xbf" + data,
        lambda: text.encode("utf-16", "surrogatepass"),
        lambda: text.encode("latin-1", "replace"),
        lambda: data[: rng.randrange(len(data) + 1)],
        lambda: data + data,
        lambda: data.replace(b'"', b"'"),
        lambda: data.replace(b"}", b",}"),
        lambda: data.replace(b":", b":NaN,", 1),
        lambda: data.replace(b'"', b'"\x00', 1),
        lambda: b"[" * rng.choice((30, 500, 20_000)) + data,
        lambda: b'{"a":' * 600 + data + b"}" * 600,
        lambda: data[:-1] + b',"x":1,"x":2}',
        lambda: b"\n\t " * 200 + data,
        lambda: bytes(rng.randrange(256) for _ in range(40)),
        lambda: b"",
        lambda: data.replace(b"0", b"9" * rng.choice((20, 400, 5000))),
    )
    return rng.choice(damages)()


def wide(rng: random.Random) -> Json:
    """Return a wide or deep value of some kilobytes."""
    kind = rng.randrange(4)
    if kind == 0:
        return [value(rng) for _ in range(rng.choice((100, 2000)))]
    if kind == 1:
        return {f"k{number}": number for number in range(rng.choice((100, 3000)))}
    if kind == 2:
        return "w" * rng.choice((10_000, 100_000))
    deep: Json = value(rng)
    for _ in range(rng.choice((10, 60, 200))):
        deep = [deep] if rng.random() < 0.5 else {"d": deep}
    return deep


@cache
def vendor_documents() -> tuple[Json, ...]:
    """Return the answers and pushes that are known of all vendors, to be mutated."""
    files = sorted(_SAMPLES.glob("*/*.json"))
    named = [
        path for path in files if path.stem.startswith(("callback", "query", "submit", "error"))
    ]
    found: tuple[Json, ...] = tuple(json.loads(path.read_bytes()) for path in named)
    return found


def vendor_document(rng: random.Random) -> Json:
    """Return an answer or push, often changed beyond recognition."""
    document = mutated(rng, rng.choice(vendor_documents()), 4)
    if rng.random() < 0.03 and isinstance(document, dict):
        document["wide"] = wide(rng)
    return document
