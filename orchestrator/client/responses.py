"""Responses as values: parsed into models, or raised as errors."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from orchestrator.client import errors
from orchestrator.client.requests import Request
from orchestrator.foundation.retry_after import http_date, retry_after
from orchestrator.schemas import Fault

ModelT = TypeVar("ModelT", bound=BaseModel)

#: 520 to 530 are Cloudflare's, for an origin that is down:
#: https://developers.cloudflare.com/support/troubleshooting/http-status-codes/cloudflare-5xx-errors/
_UNAVAILABLE = frozenset({502, 503, 504, *range(520, 528), 530})
_ERRORS: Mapping[int, type[errors.ApiError]] = {
    **dict.fromkeys((400, 413, 415, 422), errors.Invalid),
    401: errors.Unauthorized,
    403: errors.Forbidden,
    404: errors.NotFound,
    409: errors.Conflict,
    410: errors.Gone,
    429: errors.RateLimited,
    **dict.fromkeys(_UNAVAILABLE, errors.Unavailable),
}
#: Without a JSON body these come from a proxy: its server is down, or it limits the rate.
_FROM_PROXY = _UNAVAILABLE | {429}
#: Limits of what an error message takes over: characters of a text, and number of faults.
_MAX_TEXT, _MAX_FAULTS = 2000, 50


@dataclass(frozen=True, slots=True)
class Answer:
    """A response. `document` is its JSON, None where there was no body (204, 304)."""

    status: int
    headers: httpx.Headers
    document: Any = None


def parse_response(
    request: Request, server: str, status: int, headers: httpx.Headers, body: bytes
) -> Answer:
    """Return the answer.

    Raises `ApiError` if the server refused, `NotOurs` for a redirect or a body that is not JSON.
    """
    if 300 <= status < 400 and status != 304:
        to = headers.get("location", "elsewhere")
        raise errors.NotOurs(f"{server} redirects to {to[:200]}, and the key is for {server} alone")
    document: Any = None
    if body:
        try:
            document = json.loads(body)
        except (ValueError, RecursionError) as error:
            if status in _FROM_PROXY:
                raise api_error(request, status, headers, None) from error
            raise errors.NotOurs(
                f"{server} answered {status} with something that is not JSON"
            ) from error
    if status >= 400:
        problem = document if isinstance(document, dict) else None
        raise api_error(request, status, headers, problem)
    return Answer(status, headers, document)


def api_error(
    request: Request, status: int, headers: httpx.Headers, problem: dict[str, Any] | None
) -> errors.ApiError:
    """Return the error that a problem document describes, `ApiError` itself for other statuses."""
    # The service's own 502 is about the vendor; without a problem document it is a proxy's.
    kind = errors.ApiError if status == 502 and problem else _ERRORS.get(status, errors.ApiError)
    members = problem or {}
    texts = {
        name: str(members.get(name) or "")[:_MAX_TEXT]
        for name in ("code", "title", "detail", "request_id")
    }
    faults = _faults(members.get("errors"))
    title = texts["title"] or httpx.codes.get_reason_phrase(status) or "refused"
    codes = ", ".join(filter(None, (str(status), texts["code"])))
    message = f"{request.method} {request.path}: {title} ({codes})"
    if texts["detail"]:
        message += f": {texts['detail']}"
    lines = [f"{fault.pointer}: {fault.message}" for fault in faults]
    message += "".join(f"; {line}" for line in lines if line not in message)
    if texts["request_id"]:
        message += f" [{texts['request_id']}]"
    return kind(
        message,
        status=status,
        errors=faults,
        # Both times are by the server's clock, so this machine's clock does not matter.
        retry_after=retry_after(headers, http_date(headers.get("date", "")), longest=math.inf),
        document=problem,
        **texts,
    )


def _faults(listed: object) -> tuple[Fault, ...]:
    faults = [item for item in listed if isinstance(item, dict)] if isinstance(listed, list) else []
    names = ("pointer", "code", "message")
    return tuple(
        Fault(**{name: str(fault.get(name, ""))[:_MAX_TEXT] for name in names})
        for fault in faults[:_MAX_FAULTS]
    )


def read(model: type[ModelT], answer: Answer) -> ModelT:
    """Return the answer's document as a model. Raises `NotOurs` if it is not valid."""
    try:
        return model.model_validate(answer.document)
    except ValidationError as error:
        where = ", ".join(
            ".".join(map(str, fault["loc"])) for fault in error.errors(include_input=False)[:3]
        )
        raise errors.NotOurs(
            f"the answer is no {model.__name__}: see {where or 'all of it'}"
        ) from error
