"""Endpoints of pages: the reader is known, a write is from a page of ours, and errors are pages.

What a reader may do is judged by the API, which a page calls with the rights of the reader's key.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import quote

import structlog
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from orchestrator.dashboard.api_calls import Api, ApiProblem
from orchestrator.dashboard.page import Page
from orchestrator.dashboard.recent_answers import RecentAnswers
from orchestrator.dashboard.rendering import Renderer
from orchestrator.dashboard.session import FORM_FIELD, Sessions, is_same_site
from orchestrator.foundation.errors import Unavailable
from orchestrator.foundation.logs import traceback_of

log = structlog.get_logger()

Handler = Callable[[Page], Awaitable[Response]]
Public = Callable[[Request, FormData], Awaitable[Response]]
#: Bytes of a form, and its fields.
FORM_BYTES, _FORM_FIELDS = 256 << 10, 200
#: Bytes of a form without a session: a key, and the page to go to.
SMALL_FORM_BYTES = 8 << 10
#: Holds the room of pages that need no key.
_NO_KEY = "dashboard"
_MISSING = {"title": "Not found", "detail": "there is no such page", "status": 404}
_FOREIGN = {
    "title": "Not from this page",
    "detail": "the form is from another site, or its page is from before you signed in; "
    "reload the page and send it again",
    "status": 403,
}
_FORM = {
    "title": "Form not taken",
    "detail": "the form is malformed, or larger than 256 KiB; send what is larger by the API",
    "status": 413,
}
_METHOD = {"title": "Method not allowed", "detail": "not with this method", "status": 405}
_FAULT = {"title": "Internal error", "detail": "a fault of ours; the log has it", "status": 500}
_LATER = {"title": "Temporarily unavailable", "detail": "try again in a moment", "status": 503}


@dataclass(frozen=True)
class Dashboard:
    """What all pages share."""

    api: ASGIApp
    sessions: Sessions
    renderer: Renderer
    #: Origins of our own pages.
    origins: frozenset[str]
    #: True if share links open: the settings may turn them off, also those that are out.
    opens_links: bool
    #: What open pages share.
    recent: RecentAnswers
    #: Returns a response that takes its room, in the name of a key, until it is sent.
    with_room: Callable[[Response, str], Response]


@dataclass(frozen=True)
class Endpoint:
    """An ASGI application for one path: handlers by method; `public` ones need no session."""

    dashboard: Dashboard
    handlers: Mapping[str, Handler]
    public: Mapping[str, Public]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        request = Request(scope, receive)
        try:
            response = await self._respond(request)
        except ClientDisconnect:
            return
        except Unavailable as error:
            log.warning("a page could not be served", error=str(error))
            response = self._plain(request, _LATER)
            response.headers["retry-after"] = str(error.retry_after)
        except Exception as error:
            log.error("a page failed", path=request.scope["path"], exception=traceback_of(error))
            response = self._plain(request, _FAULT)
        if request.method == "HEAD":
            response.body = b""
        await response(scope, receive, send)

    async def _respond(self, request: Request) -> Response:
        method = "GET" if request.method == "HEAD" else request.method
        if method not in self.handlers and method not in self.public:
            return self._plain(request, _METHOD if self.handlers or self.public else _MISSING)
        if method == "POST" and not self._is_ours(request):
            return self._plain(request, _FOREIGN)
        is_public = method in self.public
        found = None if is_public else await self.dashboard.sessions.find(request)
        if found is None and not is_public:
            return self._sign_in(request)
        # Only now: a body is held in memory.
        cap = SMALL_FORM_BYTES if is_public else FORM_BYTES
        form = await _form(request, cap) if method == "POST" else FormData()
        if form is None:
            return self._plain(request, _FORM)
        if found is None:
            response = await self.public[method](request, form)
            return response if request.method == "HEAD" else self._with_room(response, _NO_KEY)
        session, identity = found
        keys = self.dashboard.sessions.keys
        token = form.get(FORM_FIELD, "")
        if method == "POST" and not keys.accepts_form(str(token), session):
            return self._plain(request, _FOREIGN)
        # A region of an open page that looks again: https://four.htmx.org/reference/headers
        looks_again = request.headers.get("hx-request") == "true"
        recent = self.dashboard.recent if looks_again else None
        api = Api(self.dashboard.api, identity.id, request.scope, identity.scope, recent)
        renderer = self.dashboard.renderer
        page = Page(request, session, identity, api, renderer, keys.mint_form(session), form)
        try:
            response = await self.handlers[method](page)
        except ApiProblem as error:
            if error.status == HTTPStatus.UNAUTHORIZED:
                return self._sign_in(request)
            return page.problem(error)
        return response if request.method == "HEAD" else self._with_room(response, identity.id)

    def _with_room(self, response: Response, key: str) -> Response:
        return self.dashboard.with_room(response, key)

    def _is_ours(self, request: Request) -> bool:
        return is_same_site(request, set(self.dashboard.origins))

    def _sign_in(self, request: Request) -> Response:
        """Lead to the form, and from there back to this page."""
        renderer, back = self.dashboard.renderer, ""
        if request.method == "GET":
            path = request.scope["path"].partition("/dashboard")[2]
            asked = request.scope["query_string"].decode("latin-1")
            back = quote(f"{path}?{asked}" if asked else path, safe="")
        where = renderer.address(request, "/sign-in") + (f"?next={back}" if back else "")
        return RedirectResponse(where, HTTPStatus.SEE_OTHER)

    def _plain(self, request: Request, problem: Mapping[str, object]) -> Response:
        """Return a problem on a page without a reader."""
        status = int(str(problem["status"]))
        return self.dashboard.renderer.respond(
            request, "problem.html", status, {"problem": problem, "reader": None}
        )


async def _form(request: Request, cap: int) -> FormData | None:
    """Return a form, or None if it is too large or malformed. Files are not taken."""
    size = request.headers.get("content-length", "")
    if not size.isdecimal() or len(size) > 9 or int(size) > cap:
        return None
    try:
        return await request.form(max_files=0, max_fields=_FORM_FIELDS, max_part_size=FORM_BYTES)
    except HTTPException:
        return None
