"""One plain HTTP request, as sent from outside, and its answer."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

import httpx

from orchestrator.client import way
from orchestrator.foundation.content_encoding import decode
from orchestrator.foundation.errors import Unreadable

#: Bytes of an answer; our server never sends more.
_CAP = 4 << 20


@dataclass(frozen=True, slots=True)
class Response:
    """An answer; `took` is in seconds."""

    status: int
    headers: httpx.Headers
    body: bytes
    took: float

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode("utf-8", "replace")

    @property
    def document(self) -> dict[str, Any]:
        """The JSON object of the body; an empty one for anything else."""
        try:
            document = json.loads(self.body)
        except (ValueError, RecursionError):
            return {}
        return document if isinstance(document, dict) else {}


def client(url: str, seconds: float) -> httpx.Client:
    """Return a client of a URL. Raises `ConfigError` for an unusable proxy or certificate file."""
    return httpx.Client(timeout=seconds, **way(url))


def exchange(method: str, url: str, seconds: float, body: object = None) -> Response:
    """Send one request, follow no redirect, and read for at most that many seconds.

    Raises httpx.TransportError, httpx.InvalidURL or `ConfigError`.
    """
    began, read = time.monotonic(), bytearray()
    headers = {"accept-encoding": "identity"}
    with (
        client(url, seconds) as http,
        http.stream(method, url, json=body, headers=headers) as answer,
    ):
        for chunk in answer.iter_raw():
            read += chunk
            if len(read) > _CAP or time.monotonic() - began > seconds:
                break
        took = time.monotonic() - began
        return Response(answer.status_code, answer.headers, _decoded(answer, read[:_CAP]), took)


def _decoded(answer: httpx.Response, body: bytearray) -> bytes:
    """Return a body decoded, or as it came if it cannot be."""
    try:
        return decode(answer.headers.get("content-encoding", ""), bytes(body), _CAP)
    except Unreadable:
        return bytes(body)
