"""`Idempotency-Key`: reads the header and fingerprints the body.

`orchestrator.jobs.creation` finds the job of a key, so that a repeated submission creates none.

https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/ (a draft)
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

from orchestrator.api.endpoint import RequestContext
from orchestrator.foundation.errors import Problem
from orchestrator.foundation.signing.secret_keys import Keys

_KEY_CAP = 255
#: How deep a body is taken apart, and entries of a list in one part.
_LEVELS, _SLICE = 4, 5000


def fingerprints(keys: Keys, *forms: Any) -> tuple[str, ...]:
    """Return digests of a JSON body that ignore the order of fields and whitespace.

    `forms` are the body, and what an older version took a digest of instead. The first digest is
    stored: a keyed hash, since the body may hold secrets. The others are those of older keys, and
    the plain digest that was stored before.
    """
    texts = ["".join(_canonical(form, _LEVELS)) for form in forms]
    return tuple(
        digest
        for text in texts
        for digest in (*keys.hashes(text), hashlib.sha256(text.encode()).hexdigest())
    )


def _canonical(value: Any, levels: int) -> Iterator[str]:
    """Yield `value` in canonical JSON, in parts that take a few milliseconds each.

    The parts differ with `levels`; together they are the same text.
    """
    if levels and isinstance(value, dict):
        for number, key in enumerate(sorted(value)):
            yield f"{',' if number else '{'}{_dumps(key)}:"
            yield from _canonical(value[key], levels - 1)
        yield "}" if value else "{}"
    elif levels and isinstance(value, list) and len(value) > _SLICE:
        for start in range(0, len(value), _SLICE):
            yield ("," if start else "[") + _dumps(value[start : start + _SLICE])[1:-1]
        yield "]"
    else:
        yield _dumps(value)


_dumps = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode


def idempotency_key(context: RequestContext) -> str | None:
    """Return the Idempotency-Key, bare or as the draft's quoted string. Raises a 422 `Problem`."""
    values = context.request.headers.getlist("idempotency-key")
    if not values:
        return None
    key = values[0]
    if len(key) > 1 and key[0] == key[-1] == '"':
        key = key[1:-1]
    if len(values) > 1 or not (1 <= len(key) <= _KEY_CAP and key.isascii() and key.isprintable()):
        raise Problem(
            f"Idempotency-Key must be one text of 1 to {_KEY_CAP} printable ASCII characters"
        )
    return key
