"""What is answered: read into models, or raised as errors."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from orchestrator.client import errors
from orchestrator.client.requests import Request
from orchestrator.schemas import Fault

ModelT = TypeVar("ModelT", bound=BaseModel)

_KINDS: Mapping[int, type[errors.ApiError]] = {
    400: errors.Invalid,
    401: errors.Unauthorized,
    403: errors.Forbidden,
    404: errors.NotFound,
    409: errors.Conflict,
    410: errors.Gone,
    413: errors.Invalid,
    415: errors.Invalid,
    422: errors.Invalid,
    429: errors.RateLimited,
    502: errors.Unavailable,
    503: errors.Unavailable,
    504: errors.Unavailable,
    **dict.fromkeys((*range(520, 528), 530), errors.Unavailable),
}
#: Who says these without a word of ours is a proxy whose server is away, or who lets nobody through for now. Those from
#: 520 on are Cloudflare's: https://developers.cloudflare.com/support/troubleshooting/http-status-codes/cloudflare-5xx-errors/
_PROXIES_OWN = frozenset({429, 502, 503, 504, *range(520, 528), 530})
#: Characters of what a refusal says, and faults it lists: more is no message.
_WORDS, _FAULTS = 2000, 50


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server said. `document` is its JSON, None where there was no body (204, 304)."""

    status: int
    headers: httpx.Headers
    document: Any = None


def answered(
    request: Request, server: str, status: int, headers: httpx.Headers, body: bytes
) -> Answer:
    """Return an answer. Raises `ApiError` if it is a refusal, `NotOurs` if our server says no such thing."""
    if 300 <= status < 400 and status != 304:
        to = headers.get("location", "elsewhere")
        raise errors.NotOurs(f"{server} redirects to {to[:200]}, and the key is for {server} alone")
    document: Any = None
    if body:
        try:
            document = json.loads(body)
        except (ValueError, RecursionError) as error:
            if status in _PROXIES_OWN:
                raise refusal(request, status, headers, None) from error
            raise errors.NotOurs(
                f"{server} answered {status} with something that is not JSON"
            ) from error
    if status >= 400:
        raise refusal(request, status, headers, document if isinstance(document, dict) else None)
    return Answer(status, headers, document)


def refusal(
    request: Request, status: int, headers: httpx.Headers, problem: dict[str, Any] | None
) -> errors.ApiError:
    """Return the error that a problem document describes; unknown statuses are plain `ApiError`."""
    # With our words a 502 is about the vendor, not about us.
    kind = errors.ApiError if status == 502 and problem else _KINDS.get(status, errors.ApiError)
    said = {
        name: str((problem or {}).get(name) or "")[:_WORDS]
        for name in ("code", "title", "detail", "request_id")
    }
    faults = _faults((problem or {}).get("errors"))
    what = said["title"] or f"{httpx.codes.get_reason_phrase(status) or 'refused'}"
    message = f"{request.method} {request.path}: {what} ({', '.join(filter(None, (str(status), said['code'])))})"
    if said["detail"]:
        message += f": {said['detail']}"
    more = [f"{one.pointer}: {one.message}" for one in faults]
    message += "".join(f"; {one}" for one in more if one not in message)
    if said["request_id"]:
        message += f" [{said['request_id']}]"
    after = retry_after(headers)
    return kind(message, status=status, errors=faults, retry_after=after, document=problem, **said)


def _faults(said: object) -> tuple[Fault, ...]:
    texts = [one for one in said if isinstance(one, dict)] if isinstance(said, list) else []
    names = ("pointer", "code", "message")
    return tuple(
        Fault(**{name: str(one.get(name, ""))[:_WORDS] for name in names})
        for one in texts[:_FAULTS]
    )


def retry_after(headers: httpx.Headers) -> float | None:
    """Return the seconds that `Retry-After` asks for, by a number or by a date (RFC 9110 10.2.3)."""
    said = headers.get("retry-after", "").strip()
    if re.fullmatch("[0-9]{1,9}", said):
        return float(said)
    try:
        at = parsedate_to_datetime(said)
        sent = parsedate_to_datetime(headers.get("date", ""))
        # Both by the server's clock, so ours does not matter.
        seconds = (at - sent) / timedelta(seconds=1)
    except (ValueError, TypeError):
        return None
    return max(0.0, seconds)


def read(model: type[ModelT], answer: Answer) -> ModelT:
    """Return the answer's document as a model. Raises `NotOurs` if it is none."""
    try:
        return model.model_validate(answer.document)
    except ValidationError as error:
        where = ", ".join(
            ".".join(map(str, one["loc"])) for one in error.errors(include_input=False)[:3]
        )
        raise errors.NotOurs(
            f"the answer is no {model.__name__}: see {where or 'all of it'}"
        ) from error
