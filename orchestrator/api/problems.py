"""Refusals as RFC 9457 `application/problem+json`. Nothing of what was sent comes back, so no secret does."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from pydantic import ValidationError
from starlette.responses import Response

from orchestrator.foundation.errors import Fault, Problem

_FAULTS_CAP = 50
_POINTER_CAP = 256


class Code(NamedTuple):
    """What a code stands for: the status it comes with, and what it asks of the caller."""

    status: int
    advice: str


#: Every code there is. `GET /errors/{code}` serves them: `type` leads there.
CODES: Mapping[str, Code] = {
    "validation_failed": Code(422, "Correct what `errors` points at and send the request again."),
    "unsupported": Code(
        422,
        "The vendor's dialect has no place for this field. Leave it out, or use another account.",
    ),
    "not_json": Code(400, "Send one JSON object in UTF-8, nested at most 64 levels deep."),
    "malformed_form": Code(400, "Send multipart/form-data with one file."),
    "unsupported_media_type": Code(
        415, "Send JSON, uncompressed; uploads are multipart/form-data."
    ),
    "too_large": Code(413, "Send less."),
    "unauthorized": Code(401, "Send a valid key: `Authorization: Bearer orc_...`."),
    "insufficient_scope": Code(403, "This key may not do that. Use one with a wider scope."),
    "rate_limited": Code(
        429, "This key has used up its requests. Send it again after `Retry-After` seconds."
    ),
    "not_found": Code(404, "Check the id and the path."),
    "method_not_allowed": Code(405, "The `Allow` header names the methods that are."),
    "cursor_gone": Code(
        410, "Events that came after the cursor may be deleted. Go on after `next_cursor`."
    ),
    "conflict": Code(409, "It exists, but not in a state that allows this."),
    "external_task_id_taken": Code(
        409, "The job in `job_id` has this external_task_id on its account. Send another."
    ),
    "idempotency_key_reused": Code(
        422, "The job in `job_id` was made with this key and another body. Send a new key."
    ),
    "vendor_error": Code(
        502, "The vendor did not take it. Its status, if it gave one, is in `vendor_status`."
    ),
    "unavailable": Code(
        503, "Our own trouble, nothing was done. Send it again after `Retry-After` seconds."
    ),
    "internal_error": Code(500, "A fault of ours; `request_id` finds it in the log."),
}


#: Types that others have defined: https://www.iana.org/assignments/http-problem-types
_REGISTERED = {"rate_limited": "https://iana.org/assignments/http-problem-types#quota-exceeded"}


class Refusal(Problem):
    """The caller is not let in, or the request is not well-formed. Construct with `status`, `code` and `title`."""


def not_json(why: str) -> Problem:
    """Return the refusal of a body that is no JSON."""
    return Refusal(why, status=400, code="not_json", title="The body is not JSON")


def too_large(cap: int) -> Problem:
    """Return the refusal of a body over `cap` bytes."""
    return Refusal(
        f"the body is over {cap} bytes", status=413, code="too_large", title="The body is too large"
    )


def wrong_media(wanted: str) -> Problem:
    """Return the refusal of a body in another language."""
    why = f"this call takes {wanted}"
    return Refusal(why, status=415, code="unsupported_media_type", title="Unsupported media type")


def invalid(error: ValidationError) -> Problem:
    """Return what pydantic found, as pointers and words, without the input."""
    found = error.errors(include_url=False, include_input=False, include_context=False)
    return faulty(
        [
            Fault(_pointer(one["loc"]), one["type"], _WORDS.get(one["type"], one["msg"]))
            for one in found[:_FAULTS_CAP]
        ]
    )


#: Where pydantic's words speak of classes.
_WORDS = {
    "extra_forbidden": "There is no such field",
    "missing": "This field is required",
    "model_type": "This should be an object",
    "model_attributes_type": "This should be an object",
}


def faulty(faults: Iterable[Fault]) -> Problem:
    """Return a 422 with these faults; the first gives the detail."""
    faults = list(faults)
    return Problem(": ".join(filter(None, (faults[0].pointer, faults[0].message))), faults=faults)


def fault(pointer: str, code: str, message: str) -> Problem:
    """Return a 422 with one fault."""
    return faulty([Fault(pointer, code, message)])


def _pointer(where: Iterable[int | str]) -> str:
    """Return RFC 6901."""
    parts = (str(part).replace("~", "~0").replace("/", "~1") for part in where)
    return "".join("/" + part for part in parts)[:_POINTER_CAP]


def answer(
    problem: Problem, base: str, request_id: str, headers: Mapping[str, str] | None = None
) -> Response:
    """Return the problem as a response."""
    said: dict[str, Any] = {
        "type": _REGISTERED.get(problem.code, f"{base}/errors/{problem.code}"),
        "title": problem.title,
        "status": problem.status,
        "code": problem.code,
        "detail": problem.detail,
        "request_id": request_id,
        **problem.members,
    }
    if problem.status == 422:
        # What is wrong with a header, or with the request as a whole, points at no field.
        faults = problem.faults or (Fault("", problem.code, problem.detail),)
        said["errors"] = [
            {"pointer": one.pointer, "code": one.code, "message": one.message} for one in faults
        ]
    # Escaped to ASCII: a field name in a pointer may hold what UTF-8 cannot.
    body = json.dumps(said).encode()
    return Response(body, problem.status, headers, media_type="application/problem+json")
