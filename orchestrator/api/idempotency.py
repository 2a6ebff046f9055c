"""`Idempotency-Key`: a submission that is sent again is the same one.

https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/ (a draft)
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from orchestrator.api.endpoint import RequestContext
from orchestrator.foundation.errors import Problem

_KEY_CAP = 255


def fingerprint(said: Any) -> str:
    """Return what tells two bodies apart that carry the same idempotency key: order and spaces do not."""
    return hashlib.sha256(
        json.dumps(said, sort_keys=True, separators=(",", ":")).encode()
    ).hexdigest()


def idempotency_key(call: RequestContext) -> str | None:
    """Return the Idempotency-Key, bare or as the quoted string of the draft. Raises a 422 `Problem`."""
    said = call.request.headers.getlist("idempotency-key")
    if not said:
        return None
    key = said[0][1:-1] if len(said[0]) > 1 and said[0][0] == said[0][-1] == '"' else said[0]
    if len(said) > 1 or not (1 <= len(key) <= _KEY_CAP and key.isascii() and key.isprintable()):
        raise Problem(
            f"Idempotency-Key must be one text of 1 to {_KEY_CAP} printable ASCII characters"
        )
    return key
