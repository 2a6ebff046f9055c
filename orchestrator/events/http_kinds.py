"""What kinds over HTTP share: JSON requests, and answers whose body decides."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar

import httpx

from orchestrator import __version__
from orchestrator.events.destinations import HttpDestination, ResponseClass, classify, post
from orchestrator.foundation.retry_after import LONGEST

__all__ = ["CodedDestination", "json_answer", "post_json", "wait_of"]


def post_json(
    address: str, document: Mapping[str, Any], headers: Mapping[str, str] | None = None
) -> httpx.Request:
    """Return a POST of a JSON document in UTF-8."""
    ours = {
        "content-type": "application/json; charset=utf-8",
        "user-agent": f"orchestrator/{__version__}",
    }
    body = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    return post(address, {**(headers or {}), **ours}, body)


def json_answer(response: httpx.Response) -> Mapping[str, Any]:
    """Return the JSON object that a response is; empty if it is anything else."""
    try:
        parsed = json.loads(response.content)
    except (ValueError, RecursionError):
        return {}
    return parsed if isinstance(parsed, dict) else {}


def wait_of(value: Any) -> float | None:
    """Return the seconds that an answer asks to wait, up to a day; None if it is no number."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not value >= 0:
        return None
    return float(min(value, LONGEST))


class CodedDestination(HttpDestination):
    """A kind whose answers have a code of their own: 0 is success, whatever the status says.

    An answer without one counts by its status; a code that is not in `codes` is `SHORTLY`.
    """

    #: The field of the answer that is the code.
    code_field: ClassVar[str]
    #: Codes with a class of their own.
    codes: ClassVar[Mapping[int, ResponseClass]]
    #: Seconds of a limit, by its code: the answer does not state them.
    limits: ClassVar[Mapping[int, float]]

    def _code(self, response: httpx.Response) -> int:
        found = json_answer(response).get(self.code_field)
        return found if isinstance(found, int) else 0

    def classify_response(self, response: httpx.Response) -> ResponseClass:
        """Return the class of the code, or of the status."""
        if (code := self._code(response)) in self.codes:
            return self.codes[code]
        is_refused = code != 0 and response.is_success
        return ResponseClass.SHORTLY if is_refused else classify(response.status_code)

    def wait(self, response: httpx.Response) -> float | None:
        """Return how long a limit lasts."""
        return self.limits.get(self._code(response))

    def error_code(self, response: httpx.Response) -> str | None:
        """Return the code: `code_19021`."""
        return f"code_{code}" if (code := self._code(response)) else None
