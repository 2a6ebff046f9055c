"""What a client is answered that did not get as far as the application."""

from __future__ import annotations

import json
from dataclasses import dataclass
from http import HTTPStatus


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error of the connection. `detail` says what is wrong with the request."""

    status: HTTPStatus
    detail: str

    def response(self) -> bytes:
        """Return the whole response: a problem (RFC 9457), and the end of the connection."""
        members = {
            "type": "about:blank",
            "title": self.status.phrase,
            "status": int(self.status),
            "code": self.status.phrase.lower().replace(" ", "_").replace("-", "_"),
            "detail": self.detail,
        }
        body = json.dumps(members).encode()
        retry = "retry-after: 5\r\n" if self.status is HTTPStatus.SERVICE_UNAVAILABLE else ""
        head = (
            f"HTTP/1.1 {int(self.status)} {self.status.phrase}\r\n"
            "content-type: application/problem+json\r\n"
            f"content-length: {len(body)}\r\n{retry}connection: close\r\n\r\n"
        )
        return head.encode() + body


class Refused(Exception):
    """The request ends here."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.detail)
        self.refusal = refusal


MALFORMED = Refusal(HTTPStatus.BAD_REQUEST, "this is no HTTP/1.1 request")
CUT_SHORT = Refusal(HTTPStatus.BAD_REQUEST, "the request ends in the middle")
NO_TUNNEL = Refusal(HTTPStatus.BAD_REQUEST, "this server is no proxy")
LONG_URL = Refusal(HTTPStatus.REQUEST_URI_TOO_LONG, "the URL is too long")
LARGE_HEAD = Refusal(
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "header or trailer fields are too large or too many"
)
SLOW_HEAD = Refusal(HTTPStatus.REQUEST_TIMEOUT, "the request head took too long")
SLOW_BODY = Refusal(HTTPStatus.REQUEST_TIMEOUT, "the request body came too slowly")
FULL = Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "every connection is in use")
