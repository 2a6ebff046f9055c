"""One request, as anybody outside would send it, and what came back as far as it matters."""

from __future__ import annotations

import json
import ssl
import time
from dataclasses import dataclass
from functools import cache
from typing import Any

import httpx

from orchestrator.client import is_loopback

#: Bytes of an answer; a server that says more is not ours.
_CAP = 4 << 20


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, and after how many seconds."""

    status: int
    headers: httpx.Headers
    body: bytes
    took: float

    @property
    def text(self) -> str:
        """The body in words."""
        return self.body.decode("utf-8", "replace")

    @property
    def document(self) -> dict[str, Any]:
        """The JSON object of the body; an empty one for anything else."""
        try:
            said = json.loads(self.body)
        except ValueError:
            return {}
        return said if isinstance(said, dict) else {}


@cache
def _authorities() -> ssl.SSLContext:
    """Return whom certificates are believed from: reading that takes longer than most requests."""
    return httpx.create_ssl_context()


def client(url: str, seconds: float) -> httpx.Client:
    """Return what talks to a URL. A proxy of the environment cannot reach this machine's loopback."""
    return httpx.Client(timeout=seconds, trust_env=not is_loopback(url), verify=_authorities())


def exchange(method: str, url: str, seconds: float, body: object = None) -> Answer:
    """Send one request, follow no redirect, and read for at most that many seconds.

    Raises httpx.TransportError or httpx.InvalidURL.
    """
    began, read = time.monotonic(), bytearray()
    with client(url, seconds) as http, http.stream(method, url, json=body) as answer:
        for chunk in answer.iter_bytes():
            read += chunk
            if len(read) > _CAP or time.monotonic() - began > seconds:
                break
        return Answer(
            answer.status_code, answer.headers, bytes(read[:_CAP]), time.monotonic() - began
        )
