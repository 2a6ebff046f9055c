"""How to read a no: what an error answer means for the one who asked.

The numbers are Kling's official service codes, which its gateways pass through; HTTP 429 alone says little there, since
it carries rate limits (wait) and empty accounts (do not).
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
_EMPTY = ErrorClass("account_exhausted")
_REFUSED = ErrorClass("vendor_refused")
_RATE_LIMITED = ErrorClass("vendor_unavailable", retryable=True, rate_limited=True)
_LATER = ErrorClass("vendor_unavailable", retryable=True)

#: Kling's service codes below 5000 (get-started/error-codes). 1003, 1004: a token too young or too old; sign again.
OFFICIAL: Mapping[int, ErrorClass] = {
    **dict.fromkeys((1000, 1001, 1002, 1304), _AUTH),
    **dict.fromkeys((1003, 1004), _CLOCK),
    **dict.fromkeys((1100, 1101, 1102, 1103), _EMPTY),
    **dict.fromkeys((1200, 1201, 1202, 1203, 1300, 1301), _REFUSED),
    **dict.fromkeys((1302, 1303), _RATE_LIMITED),
}
#: Where there is no code we know. 4xx is a definite no; anything not listed here and not 4xx may have been acted upon.
BY_STATUS: Mapping[int, ErrorClass] = {401: _AUTH, 402: _EMPTY, 425: _LATER, 429: _RATE_LIMITED}
#: new-api could not even build the upstream request, although it says so with a 500.
BY_WORD: Mapping[str, ErrorClass] = {"build_request_failed": _REFUSED}
_FINE = (None, 0, 200, "success", "SUCCESS", "ok")
#: Kling's own trouble. It says so with any HTTP status, and may have created the task all the same.
_DOUBTFUL = range(5000, 6000)


def error_fields(said: Any) -> tuple[str | int | None, str | None]:
    """Return the code and the message of an answer in any of the envelopes gateways use."""
    if not isinstance(said, Mapping):
        return None, None
    error = said.get("error")
    inner = error if isinstance(error, Mapping) else said
    number = read_code(inner.get("code"))
    return number, text(inner.get("message")) or text(error) or _detail(said.get("detail"))


def _detail(value: Any) -> str | None:
    """Return FastAPI's error text, which is a word or a list of objects."""
    if isinstance(value, list) and value and isinstance(value[0], Mapping):
        return text(value[0].get("msg"))
    return text(value)


def classify(
    vendor: str, status: int, said: Any, *, wait: float | None = None
) -> Refused | CutOff | None:
    """Return the error that an answer is, or None if it is none.

    `said` is the parsed body (None if it was no JSON); `wait` the seconds of a Retry-After header.
    """
    number, message = error_fields(said)
    fine = 200 <= status < 300
    if fine and (number in _FINE or (isinstance(said, Mapping) and "status" in said)):
        return None
    meaning = _error_class(status, number)
    words = (
        f"{vendor} answered {status}"
        + (f", code {number}" if number else "")
        + (f": {message}" if message else "")
    )
    if meaning is None:
        return CutOff(words, kind="server_error" if status >= 500 else "bad_response")
    return Refused(
        words,
        code=meaning.code,
        vendor_code=number,
        vendor_message=message,
        retryable=meaning.retryable,
        rate_limited=meaning.rate_limited,
        retry_after=wait,
        duplicate=number == 1201
        and "exist" in (message or "").lower()
        and "not" not in (message or "").lower(),
    )


def _error_class(status: int, number: str | int | None) -> ErrorClass | None:
    if isinstance(number, int) and (number in OFFICIAL or number in _DOUBTFUL):
        return OFFICIAL.get(number)
    if isinstance(number, str) and number in BY_WORD:
        return BY_WORD[number]
    # 408: the vendor gave up reading; it may have read enough. 2xx with an unknown code says nothing definite.
    if status in BY_STATUS or (300 <= status < 500 and status != 408):
        return BY_STATUS.get(status, _REFUSED)
    return None
