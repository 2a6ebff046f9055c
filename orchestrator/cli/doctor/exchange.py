"""One plain HTTP request, as sent from outside, and its answer."""

from __future__ import annotations

import json
import ssl
import time
from dataclasses import dataclass
from functools import cache
from typing import Any

import httpx

from orchestrator.client import is_loopback

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
        except ValueError:
            return {}
        return document if isinstance(document, dict) else {}


@cache
def _authorities() -> ssl.SSLContext:
    """Return the trusted authorities. Cached: reading them takes longer than most requests."""
    return httpx.create_ssl_context()


def client(url: str, seconds: float) -> httpx.Client:
    """Return a client of a URL. The environment's proxy is not used for loopback."""
    return httpx.Client(timeout=seconds, trust_env=not is_loopback(url), verify=_authorities())


def exchange(method: str, url: str, seconds: float, body: object = None) -> Response:
    """Send one request, follow no redirect, and read for at most that many seconds.

    Raises httpx.TransportError or httpx.InvalidURL.
    """
    began, read = time.monotonic(), bytearray()
    with client(url, seconds) as http, http.stream(method, url, json=body) as answer:
        for chunk in answer.iter_bytes():
            read += chunk
            if len(read) > _CAP or time.monotonic() - began > seconds:
                break
        return Response(
            answer.status_code, answer.headers, bytes(read[:_CAP]), time.monotonic() - began
        )
