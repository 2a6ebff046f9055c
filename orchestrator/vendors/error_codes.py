"""Error responses: which of our error codes one means, and whether a retry may succeed.

The numbers are Kling's official service codes, which its gateways pass through. HTTP 429 alone is
ambiguous there: it carries rate limits (wait) and exhausted accounts (do not).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.foundation.errors import CutOff, Refused
from orchestrator.foundation.untrusted import code as read_code
from orchestrator.foundation.untrusted import text


@dataclass(frozen=True, slots=True)
class ErrorClass:
    """Our error code for a vendor's, and whether the same request may succeed later."""

    code: str
    retryable: bool = False
    rate_limited: bool = False


_AUTH = ErrorClass("vendor_auth")
_CLOCK = ErrorClass("vendor_auth", retryable=True)
_EXHAUSTED = ErrorClass("account_exhausted")
_REFUSED = ErrorClass("vendor_refused")
_RATE_LIMITED = ErrorClass("vendor_unavailable", retryable=True, rate_limited=True)
_LATER = ErrorClass("vendor_unavailable", retryable=True)

#: Kling's service codes below 5000 (get-started/error-codes).
#: 1003, 1004: the token is not yet valid, or expired; sign again.
OFFICIAL: Mapping[int, ErrorClass] = {
    **dict.fromkeys((1000, 1001, 1002, 1304), _AUTH),
    **dict.fromkeys((1003, 1004), _CLOCK),
    **dict.fromkeys((1100, 1101, 1102, 1103), _EXHAUSTED),
    **dict.fromkeys((1200, 1201, 1202, 1203, 1300, 1301), _REFUSED),
    **dict.fromkeys((1302, 1303), _RATE_LIMITED),
}
#: For responses without a known code. Any other 4xx is a definite refusal; after any status that
#: is neither here nor 4xx, the vendor may have acted on the request.
BY_STATUS: Mapping[int, ErrorClass] = {401: _AUTH, 402: _EXHAUSTED, 425: _LATER, 429: _RATE_LIMITED}
#: new-api answers 500 here, although it could not even build the upstream request.
BY_WORD: Mapping[str, ErrorClass] = {"build_request_failed": _REFUSED}
_SUCCESS = (None, 0, 200, "success", "SUCCESS", "ok")
#: Kling's internal errors. Their HTTP status varies, and the task may exist all the same.
_INTERNAL = range(5000, 6000)


def error_fields(body: Any) -> tuple[str | int | None, str | None]:
    """Return the code and the message of a parsed body, in any of the gateways' envelopes."""
    if not isinstance(body, Mapping):
        return None, None
    error = body.get("error")
    fields = error if isinstance(error, Mapping) else body
    detail = body.get("detail")
    # FastAPI's error text is a string or a list of objects.
    if isinstance(detail, list) and detail and isinstance(detail[0], Mapping):
        detail = detail[0].get("msg")
    return read_code(fields.get("code")), text(fields.get("message")) or text(error) or text(detail)


def classify(
    vendor: str, status: int, body: Any, *, wait: float | None = None
) -> Refused | CutOff | None:
    """Return the error that a response means, or None if it is not an error.

    `body` is parsed, None if it was not JSON; `wait` is Retry-After in seconds.
    """
    code, message = error_fields(body)
    if 200 <= status < 300 and (
        code in _SUCCESS or (isinstance(body, Mapping) and "status" in body)
    ):
        return None
    detail = (
        f"{vendor} answered {status}"
        + (f", code {code}" if code else "")
        + (f": {message}" if message else "")
    )
    error_class = _error_class(status, code)
    if error_class is None:
        return CutOff(detail, kind="server_error" if status >= 500 else "bad_response")
    lower = (message or "").lower()
    return Refused(
        detail,
        code=error_class.code,
        vendor_code=code,
        vendor_message=message,
        retryable=error_class.retryable,
        rate_limited=error_class.rate_limited,
        retry_after=wait,
        duplicate=code == 1201 and "exist" in lower and "not" not in lower,
    )


def _error_class(status: int, code: str | int | None) -> ErrorClass | None:
    """Return the class of an error, or None if the vendor may have acted on the request."""
    if isinstance(code, int) and (code in OFFICIAL or code in _INTERNAL):
        return OFFICIAL.get(code)
    if isinstance(code, str) and code in BY_WORD:
        return BY_WORD[code]
    # 408: the vendor stopped reading, but may have read enough. 2xx with an unknown code proves
    # nothing.
    if status in BY_STATUS or (300 <= status < 500 and status != 408):
        return BY_STATUS.get(status, _REFUSED)
    return None
