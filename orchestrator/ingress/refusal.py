"""What a client is answered that did not get as far as a request."""

from __future__ import annotations

import json
from http import HTTPStatus


class Refused(Exception):
    """A request is refused before the application sees it. The message is the detail."""

    def __init__(self, status: HTTPStatus, detail: str) -> None:
        super().__init__(detail)
        self.status = status

    def response(self) -> bytes:
        """Return the whole response: a problem (RFC 9457), and the end of the connection."""
        members = {
            "type": "about:blank",
            "title": self.status.phrase,
            "status": int(self.status),
            "code": self.status.phrase.lower().replace(" ", "_").replace("-", "_"),
            "detail": str(self),
        }
        body = json.dumps(members).encode()
        retry = "retry-after: 5\r\n" if self.status is HTTPStatus.SERVICE_UNAVAILABLE else ""
        head = (
            f"HTTP/1.1 {int(self.status)} {self.status.phrase}\r\n"
            "content-type: application/problem+json\r\n"
            f"content-length: {len(body)}\r\n{retry}connection: close\r\n\r\n"
        )
        return head.encode() + body


MALFORMED = Refused(HTTPStatus.BAD_REQUEST, "this is no HTTP/1.1 request")
CUT_SHORT = Refused(HTTPStatus.BAD_REQUEST, "the request ends in the middle")
NO_TUNNEL = Refused(HTTPStatus.BAD_REQUEST, "this server is no proxy")
LONG_URL = Refused(HTTPStatus.REQUEST_URI_TOO_LONG, "the URL is too long")
LARGE_HEAD = Refused(
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "header or trailer fields are too large or too many"
)
SLOW_HEAD = Refused(HTTPStatus.REQUEST_TIMEOUT, "the request head took too long")
SLOW_BODY = Refused(HTTPStatus.REQUEST_TIMEOUT, "the request body came too slowly")
FULL = Refused(HTTPStatus.SERVICE_UNAVAILABLE, "every connection is in use")
