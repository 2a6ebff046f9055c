"""What both of Kling's standards share: the response envelope and error codes.

Pages: klingai.com/document-api get-started/callbacks (push bodies) and common information (error
codes).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from orchestrator.simulator.errors import ErrorKind, ErrorReply
from orchestrator.simulator.json_body import JSON, JsonObject

REQUEST_ID: Final = "9984d27b-a408-4073-ae28-17ca6a13622d"
ERRORS: Final[Mapping[ErrorKind, tuple[int, int, str]]] = {
    ErrorKind.NO_KEY: (401, 1001, "Authorization is empty"),
    ErrorKind.WRONG_KEY: (401, 1002, "Authorization is invalid"),
    ErrorKind.EARLY_KEY: (401, 1003, "Authorization is not yet valid (nbf)"),
    ErrorKind.EXPIRED_KEY: (401, 1004, "Authorization has expired"),
    ErrorKind.KEY_KIND: (401, 1002, "The current API does not support AK/SK"),
    ErrorKind.INVALID: (400, 1201, "Invalid parameter value"),
    ErrorKind.NO_ROUTE: (404, 1203, "Requested resource does not exist"),
    ErrorKind.NO_METHOD: (404, 1202, "Invalid request method"),
    ErrorKind.NO_MODEL: (404, 1203, "Requested resource does not exist (e.g. model)"),
    ErrorKind.NOT_FOUND: (400, 1201, "Task not found by id/external id"),
    ErrorKind.DUPLICATE: (400, 1201, "external_task_id already exists"),
    ErrorKind.FULL: (429, 1303, "parallel task over resource pack limit"),
    ErrorKind.BROKEN: (500, 5000, "Internal server error"),
    ErrorKind.TIMEOUT: (504, 5002, "Internal timeout"),
}


def envelope(data: JSON) -> JsonObject:
    """Return the body of a successful response."""
    return {"code": 0, "message": "SUCCEED", "request_id": REQUEST_ID, "data": data}


def error_reply(kind: ErrorKind, message: str) -> ErrorReply:
    status, code, text = ERRORS[kind]
    return status, {"code": code, "message": message or text, "request_id": REQUEST_ID}
