"""Problems: errors as RFC 9457 `application/problem+json`.

Values from the request are never echoed, so no secret is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import ValidationError
from starlette.responses import Response

from orchestrator.foundation.errors import Fault, Problem

_FAULTS_CAP = 50
_POINTER_CAP = 256
#: More errors than this are counted, not listed.
_ERRORS_CAP = 1000


class Code(NamedTuple):
    """The status of a code, what the caller does about it, and the title of a `Refusal` with it."""

    status: int
    advice: str
    title: str = ""


#: Every code. `GET /errors/{code}` serves them: `type` links there.
CODES: Mapping[str, Code] = {
    "validation_failed": Code(422, "Correct what `errors` points at and send the request again."),
    "unsupported": Code(422, "The vendor's dialect has no place for this field. Leave it out, or "
                             "use another account."),
    "not_json": Code(400, "Send one JSON object in UTF-8, nested at most 64 levels deep.",
                     "The body is not JSON"),
    "malformed_form": Code(400, "Send multipart/form-data with one file.",
                           "The body is not a form"),
    "unsupported_media_type": Code(415, "Send JSON, uncompressed; uploads are multipart/form-data.",
                                   "Unsupported media type"),
    "too_large": Code(413, "Send less.", "The body is too large"),
    "unauthorized": Code(401, "Send a valid key: `Authorization: Bearer orc_...`.",
                         "Not authenticated"),
    "insufficient_scope": Code(403, "This key may not do that. Use one with a wider scope.",
                               "Not allowed with this key"),
    "rate_limited": Code(429, "This key has used up its requests. Send it again after "
                              "`Retry-After` seconds.", "Too many requests"),
    "not_found": Code(404, "Check the id and the path."),
    "method_not_allowed": Code(405, "The `Allow` header names the methods that are.",
                               "Method Not Allowed"),
    "cursor_gone": Code(410, "Events after the cursor may have been deleted. Go on after "
                             "`next_cursor`.", "The log begins later"),
    "conflict": Code(409, "It exists, but not in a state that allows this."),
    "already_retried": Code(409, "The job in `job_id` is the same work, and is live or has "
                                 "succeeded. To pay for another render, send `again`."),
    "sharing_disabled": Code(409, "This server makes no links to jobs. The settings "
                                  "`dashboard.enabled` and `dashboard.share_days` turn them on.",
                             "No share links"),
    "limit_reached": Code(409, "Change or delete what exists, or have the limit raised in the "
                               "settings."),
    "external_task_id_taken": Code(409, "The job in `job_id` has this external_task_id on its "
                                        "account. Send another."),
    "idempotency_key_reused": Code(422, "The job in `job_id`, or the replay in `replay_id`, was "
                                        "made with this key and another body. Send a new key."),
    "vendor_error": Code(502, "The vendor did not accept the file, or did not return it. Its "
                              "status, if it answered, is in `vendor_status`.",
                         "The vendor failed"),
    "unavailable": Code(503, "Our own trouble, nothing was done. Send it again after `Retry-After` "
                             "seconds.", "Temporarily unavailable"),
    "internal_error": Code(500, "A fault of ours; `request_id` finds it in the log.",
                           "Internal error"),
}  # fmt: skip
#: Types registered by others: https://www.iana.org/assignments/http-problem-types
_REGISTERED = {"rate_limited": "https://iana.org/assignments/http-problem-types#quota-exceeded"}


class Refusal(Problem):
    """The caller is refused, the request is malformed, or the service has failed."""

    def __init__(self, code: str, detail: str, **members: str) -> None:
        status, _, title = CODES[code]
        super().__init__(detail, faults=(), status=status, code=code, title=title, **members)


def too_large(cap: int) -> Problem:
    """Return the refusal of a body over `cap` bytes."""
    return Refusal("too_large", f"the body is over {cap} bytes")


def invalid_body(error: ValidationError) -> Problem:
    """Return the errors of pydantic as a 422: pointers and messages, without the input."""
    if error.error_count() > _ERRORS_CAP:
        # To list a hundred thousand of them takes seconds.
        return invalid_field("", "too_many_errors", f"{error.error_count()} fields are not valid")
    errors = error.errors(include_url=False, include_input=False, include_context=False)
    return invalid_fields(
        [
            Fault(_pointer(item["loc"]), item["type"], _MESSAGES.get(item["type"], item["msg"]))
            for item in errors[:_FAULTS_CAP]
        ]
    )


#: In place of messages of pydantic that name Python classes.
_MESSAGES = {
    "extra_forbidden": "There is no such field",
    "missing": "This field is required",
    "model_type": "This should be an object",
    "model_attributes_type": "This should be an object",
}


def invalid_fields(faults: Sequence[Fault]) -> Problem:
    """Return a 422 with these faults; the first is the detail."""
    detail = ": ".join(filter(None, (faults[0].pointer, faults[0].message)))
    return Problem(detail, faults=faults)


def invalid_field(pointer: str, code: str, message: str) -> Problem:
    """Return a 422 with one fault."""
    return invalid_fields([Fault(pointer, code, message)])


def _pointer(location: Sequence[int | str]) -> str:
    """Return a JSON pointer (RFC 6901)."""
    return "".join("/" + pointer_part(str(part)) for part in location)[:_POINTER_CAP]


def pointer_part(name: str) -> str:
    """Return the name of a field as a part of a JSON pointer."""
    return name.replace("~", "~0").replace("/", "~1")


def problem_response(
    problem: Problem, base: str, request_id: str, headers: Mapping[str, str] | None = None
) -> Response:
    """Return a problem as a response."""
    members: dict[str, Any] = {
        "type": _REGISTERED.get(problem.code, f"{base}/errors/{problem.code}"),
        "title": problem.title,
        "status": problem.status,
        "code": problem.code,
        "detail": problem.detail,
        "request_id": request_id,
        **problem.members,
    }
    if problem.status == 422:
        # An error in a header, or in the request as a whole, points at no field.
        faults = problem.faults or (Fault("", problem.code, problem.detail),)
        members["errors"] = [
            {"pointer": fault.pointer, "code": fault.code, "message": fault.message}
            for fault in faults
        ]
    # Escaped to ASCII: a field name in a pointer may hold characters that UTF-8 cannot.
    body = json.dumps(members).encode()
    return Response(body, problem.status, headers, media_type="application/problem+json")
