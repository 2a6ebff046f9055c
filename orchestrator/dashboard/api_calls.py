"""Calls to the API in process: pages show what the API answers, with the rights of its caller."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from orchestrator.dashboard.recent_answers import Answer, Question, RecentAnswers
from orchestrator.foundation.in_process import CALLER
from orchestrator.foundation.json_codec import encode

Json = dict[str, Any]
Params = Mapping[str, str | int | None] | Sequence[tuple[str, str]]


class ApiProblem(Exception):
    """The API refused a call. `document` is its problem (RFC 9457)."""

    def __init__(self, status: int, document: Json) -> None:
        super().__init__(str(document.get("detail") or document.get("title") or status))
        self.status = status
        self.document = document

    @property
    def code(self) -> str:
        """The code of the problem."""
        return str(self.document.get("code") or "")


@dataclass(frozen=True, slots=True)
class Api:
    """The API as one caller may use it. `scope` is that of the request for a page.

    `may` is the scope of the caller's key. With `recent`, answers are shared with other readers.
    """

    app: ASGIApp
    caller: str
    scope: Scope
    may: str = ""
    recent: RecentAnswers | None = None

    async def get(self, path: str, params: Params = ()) -> Json:
        """Return a document. Raises `ApiProblem`."""
        return await self._call("GET", path, params, b"")

    async def post(self, path: str, body: Json | None = None, **headers: str) -> Json:
        """Send a document, and return the answer; empty if it has none. Raises `ApiProblem`."""
        return await self._call("POST", path, (), encoded(body), headers)

    async def patch(self, path: str, body: Json) -> Json:
        """Change what is at a path, and return it. Raises `ApiProblem`."""
        return await self._call("PATCH", path, (), encoded(body))

    async def delete(self, path: str) -> Json:
        """Delete what is at a path. Raises `ApiProblem`."""
        return await self._call("DELETE", path, (), b"")

    async def forward(
        self, path: str, receive: Receive, send: Send, headers: Mapping[str, str] | None = None
    ) -> None:
        """Answer the request for a page with the response of the API, streamed."""
        query = self.scope["query_string"]
        method = self.scope["method"]
        await self.app(self._scope(method, path, query, headers or {}), receive, send)

    async def _call(
        self,
        method: str,
        path: str,
        params: Params,
        body: bytes,
        headers: Mapping[str, str] | None = None,
    ) -> Json:
        pairs = params.items() if isinstance(params, Mapping) else params
        query = urlencode([(name, value) for name, value in pairs if value not in (None, "")])
        scope = self._scope(method, path, query.encode(), headers or {}, len(body))

        async def ask() -> Answer:
            exchange = _Exchange(body)
            try:
                await self.app(scope, exchange.receive, exchange.send)
            except _NoDocument:
                return _NOT_FOUND
            return Answer(exchange.status, exchange.body)

        answer = None
        if self.recent is not None and method == "GET":
            answer = await self.recent.get(Question(self.may, path, query), ask)
        if answer is None or answer.status != HTTPStatus.OK:
            # What another reader was refused, for the limit or the end of its key, says nothing.
            answer = await ask()
        document = json.loads(answer.body) if answer.body else {}
        if answer.status >= 400:
            raise ApiProblem(answer.status, document if isinstance(document, dict) else {})
        return document if isinstance(document, dict) else {"data": document}

    def _scope(
        self, method: str, path: str, query: bytes, headers: Mapping[str, str], size: int = 0
    ) -> Scope:
        given = {"content-type": "application/json", "content-length": str(size)} if size else {}
        sent = [
            (name.replace("_", "-").encode(), value.encode("latin-1"))
            for name, value in {**given, **headers}.items()
        ]
        return {
            **{name: self.scope[name] for name in _KEPT if name in self.scope},
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": query,
            "headers": sent,
            "root_path": "",
            CALLER: self.caller,
        }


_NOT_FOUND = Answer(404, b'{"title":"Not found","detail":"there is no such document"}')
#: Entries of the scope that a call has from the request for the page.
_KEPT = ("asgi", "http_version", "scheme", "server", "client", "state")


class _NoDocument(Exception):
    """The response is a stream or a file: for these there is `forward`."""


class _Exchange:
    """Both ends of a call: the body that is sent, and the response."""

    def __init__(self, body: bytes) -> None:
        self._sent: bytes | None = body
        self._parts: list[bytes] = []
        self.status = 500

    @property
    def body(self) -> bytes:
        return b"".join(self._parts)

    async def receive(self) -> Message:
        if self._sent is None:
            # The caller does not leave before the response is sent.
            await asyncio.Event().wait()
        body, self._sent = self._sent or b"", None
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            kinds = [value for name, value in message["headers"] if name == b"content-type"]
            if kinds and b"json" not in kinds[0]:
                raise _NoDocument
        else:
            self._parts.append(message.get("body", b""))


def encoded(body: Json | None) -> bytes:
    """Return a document as JSON."""
    return b"" if body is None else encode(body)
